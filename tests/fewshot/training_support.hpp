// What the tests of both trainers compare and write.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>

#include <unistd.h>

#include <dvla/core/tensor.hpp>

template <class T>
bool same_bits(dvla::tensor<T, dvla::shape<dvla::dyn>> const& a, dvla::tensor<T, dvla::shape<dvla::dyn>> const& b) {
  return a.size() == b.size() && std::equal(a.data(), a.data() + a.size(), b.data());
}

struct temporary_file {
  std::filesystem::path path;
  explicit temporary_file(char const* name)
      : path(std::filesystem::temp_directory_path() / dvla::concat("dvla_training_", ::getpid(), "_", name, ".safetensors")) {}
  ~temporary_file() { std::filesystem::remove(path); }
};
