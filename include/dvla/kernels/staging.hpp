// Inputs and results of a step: host memory as the device of a computation sees it, and the way back.
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

/// Results on their way to the host while the device goes on: send(device, from) has the value at `from` copied behind the work
/// issued so far; get() waits for the first value sent that was not got yet. Two may be on their way. A specialisation for each
/// device with memory of its own.
template <class T, class Device>
class returned;

}  // namespace kernels

using kernels::returned;
using kernels::staged;

}  // namespace dvla::inline DVLA_ABI
