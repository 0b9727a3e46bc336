// golden_parity DIR: checks every safetensors file in DIR against the library, in double and in float, and prints a line a
// group of tensors. Exit 0 only if all are within their bounds (tests/golden/README.md).
#include <algorithm>
#include <cstdio>

#include "cases.hpp"

namespace {

using parity::golden_file;
using parity::report;

template <class T>
bool check(std::string const& name, golden_file const& golden, void (*run)(report&, golden_file const&)) {
  report found(name, parity::type_name<T>);
  run(found, golden);
  return found.print();
}

template <class T>
void network(report& found, golden_file const& golden) {
  std::string const text = golden.text("case");
  std::size_t const image = golden.number("image");
  bool const training = text.find("train") != std::string::npos, episode = text.find("episode") != std::string::npos;
  dvla::expect(image == 84 || image == 224, "golden file: images of ", image, " are not compiled into this program; 84 and 224 are");
  if (episode) (image == 84 ? parity::episode_84<T> : parity::episode_224<T>)(found, golden, training);
  else (image == 84 ? parity::visformer_84<T> : parity::visformer_224<T>)(found, golden, training);
}

/// Both types of one file, by what its metadata says it is.
bool check_file(std::filesystem::path const& path) {
  golden_file const golden(path);
  std::string const name = path.stem().string(), text = golden.text("case");
  auto const says = [&](char const* words) { return text.find(words) != std::string::npos; };
  if (says("Beta")) {
    bool const both = check<double>(name, golden, parity::beta<double>);
    return check<float>(name, golden, parity::beta<float>) && both;
  }
  if (says("gated")) {
    bool const both = check<double>(name, golden, parity::gated_attention<double>);
    return check<float>(name, golden, parity::gated_attention<float>) && both;
  }
  if (says("schedule")) return check<double>(name, golden, parity::schedule);
  if (says("Pillow")) return check<float>(name, golden, parity::resizing);
  if (says("test episodes")) return check<double>(name, golden, parity::sampler);
  if (says("Visformer") || says("DVLA-RL")) {
    bool const both = check<double>(name, golden, network<double>);
    return check<float>(name, golden, network<float>) && both;
  }
  dvla::fail("golden file ", path.string(), ": its case \"", text, "\" is of no known kind");
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: golden_parity DIR\nChecks every .safetensors file in DIR.\n");
    return 2;
  }
  std::vector<std::filesystem::path> files;
  std::error_code problem;
  for (auto const& entry : std::filesystem::directory_iterator(arguments[1], problem))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  if (problem || files.empty()) {
    std::fprintf(stderr, "golden_parity: no .safetensors file in %s; name the folder that holds them\n", arguments[1]);
    return 2;
  }
  std::sort(files.begin(), files.end());
  std::size_t failed = 0;
  for (auto const& file : files) try {
      if (!check_file(file)) ++failed;
    } catch (std::exception const& problem_found) {
      std::printf("%-32s FAILED: %s\n", file.stem().string().c_str(), problem_found.what());
      ++failed;
    }
  std::printf("%zu of %zu files within their bounds\n", files.size() - failed, files.size());
  return failed == 0 ? 0 : 1;
}
