// Inputs of a step: host memory as the device of a computation sees it.
#pragma once

#include <cstddef>
#include <span>

#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// put(device, host) gives the elements in the device's memory, at the same address at every step. A specialisation for each
/// device; on the CPU they are the caller's own.
template <class T, class Device>
class staged;

template <class T>
class staged<T, cpu> {
 public:
  T const* put(cpu const&, std::span<T const> host) { return host.data(); }
};

}  // namespace kernels

using kernels::staged;

}  // namespace dvla::inline DVLA_ABI
