// What is done with tensors that a reader let through.
#pragma once

#include <dvla/io/named_tensors.hpp>

#include "fuzz_target.hpp"

namespace dvla_fuzz {

/// Reads elements, looks tensors up, and takes wrappers off.
inline void try_tensors(dvla::named_tensors const& file) {
  std::size_t const read = 1 << 16;  // bytes at either end of a tensor: views may unfold to megabytes
  for (auto const& tensor : file.tensors()) {
    auto ends = tensor;
    if (tensor.bytes.size() > read) {
      ends.bytes = tensor.bytes.first(read);
      (void)dvla::read_as<double>(ends);
      ends.bytes = tensor.bytes.last(read);
    }
    (void)dvla::read_as<double>(ends);
    (void)dvla::read_as<float>(ends);
    demand(&file.find(tensor.name) == &tensor, "a tensor is found by its name");
  }
  demand(file.state_dict().tensors().size() <= file.tensors().size(), "a model has no more tensors than its file");
  for (auto const& tensor : file.tensors()) {
    if (tensor.bytes.size() > read) continue;
    try {
      (void)dvla::read_as<std::int32_t>(tensor);
    } catch (dvla::error const&) {  // a number that does not fit
    }
  }
  (void)file.find("no such tensor");  // throws, with the nearest names
}

}  // namespace dvla_fuzz
