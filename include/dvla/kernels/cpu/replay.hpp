// Steps on the CPU: nothing is recorded.
#pragma once

#include <cstdint>

#include <dvla/kernels/device.hpp>
#include <dvla/kernels/replay.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

template <>
class replay<cpu> {
 public:
  template <class Body>
  void run(cpu const&, std::uint64_t, Body&& body) {
    body();
  }
};

/// Writes a small value to the device's memory, in the order of the work that is issued.
template <class Value>
void put(cpu const&, Value* to, Value const& value) {
  *to = value;
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
