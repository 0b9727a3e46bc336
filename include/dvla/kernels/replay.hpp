// Work that is the same at every step but for the numbers in its inputs.
#pragma once

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// Runs a step's work. run(device, step, body) calls body() on the CPU; a GPU records what body() issues the second time and
/// from then on replays the recording without calling it. So body() must issue the same work on the same memory at every step,
/// and must not wait for the device; random streams of a context move with `step`. A specialisation for each device.
template <class Device>
class replay;

/// Where AdamW stands: the factor on its rates, and the steps taken with this one. In the memory of a device, so that a replayed
/// step reads what the host has written before it.
struct adamw_state {
  double rate_scale = 1;
  unsigned long long step = 0;
};

}  // namespace kernels

using kernels::replay;

}  // namespace dvla::inline DVLA_ABI
