// The reference numbers of tests/golden/ as flat vectors of double.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <dvla/io/safetensors.hpp>

namespace dvla_test {

/// Every tensor of tests/golden/<name>.safetensors by its name, integers converted.
inline std::map<std::string, std::vector<double>> read_golden(std::string const& name) {
  auto const folder = std::filesystem::path(__FILE__).parent_path().parent_path() / "golden";
  dvla::safetensors_file const file(folder / (name + ".safetensors"));
  std::map<std::string, std::vector<double>> values;
  for (auto const& tensor : file.tensors()) values[tensor.name] = dvla::read_as<double>(tensor);
  return values;
}

}  // namespace dvla_test
