// The cases that compute on a device, chosen by what a golden file says.
#pragma once

#include "cases.hpp"

namespace parity {

template <class T>
bool check(std::string const& name, golden_file const& golden, void (*run)(report&, golden_file const&)) {
  report found(name, type_name<T>);
  run(found, golden);
  return found.print();
}

template <class Device, class T>
void network(report& found, golden_file const& golden) {
  std::size_t const image = golden.count("image");
  bool const training = golden.says("train mode") || golden.says("training mode");
  golden.require(training != (golden.says("eval mode") || golden.says("evaluation mode")),
                 "its case must be in either eval mode or ", "train mode");
  golden.require(image == 84 || image == 224, "images of ", image, " are not compiled into this program; 84 and 224 are");
  auto const run = golden.says("episode") ? (image == 84 ? episode_84<Device, T> : episode_224<Device, T>)
                                          : (image == 84 ? visformer_84<Device, T> : visformer_224<Device, T>);
  run(found, golden, training);
}

/// The cases that compute on a device, in one type.
template <class Device, class T>
struct device_cases {
  static bool check_network(std::string const& name, golden_file const& golden) {
    return check<T>(name, golden, network<Device, T>);
  }
  static bool check_block(std::string const& name, golden_file const& golden) {
    return check<T>(name, golden, gated_attention<Device, T>);
  }
};

}  // namespace parity
