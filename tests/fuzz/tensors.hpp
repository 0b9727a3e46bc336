// What is done with tensors that a reader let through.
#pragma once

#include <dvla/io/named_tensors.hpp>

#include "fuzz_target.hpp"

namespace dvla_fuzz {

/// Reads every element, looks tensors up, and takes wrappers off.
inline void try_tensors(dvla::named_tensors const& file) {
  for (auto const& tensor : file.tensors()) {
    (void)dvla::read_as<double>(tensor);
    (void)dvla::read_as<float>(tensor);
    demand(&file.find(tensor.name) == &tensor, "a tensor is found by its name");
  }
  demand(file.state_dict().tensors().size() <= file.tensors().size(), "a model has no more tensors than its file");
  for (auto const& tensor : file.tensors()) (void)dvla::read_as<std::int32_t>(tensor);  // throws where a number does not fit
  (void)file.find("no such tensor");                                                    // throws, with the nearest names
}

}  // namespace dvla_fuzz
