// Starting kernels so that one is being set up while the one before it still runs ("programmatic dependent launch", cards of compute
// capability 9.0 and later): its blocks take their places as soon as the last block of its predecessor has started, and wait there
// for the predecessor's end. Between hundreds of kernels of a few microseconds that time counts.
#pragma once

#include <cstddef>

#include <dvla/kernels/cuda/device.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace detail {

/// The first statement of every kernel that start() starts, by all threads: returns when everything issued before has ended and
/// its results can be seen, and lets the next kernel be set up.
__device__ DVLA_INLINE void await_predecessors() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Starts a kernel that begins with await_predecessors(). `doing` completes "CUDA error while ...".
template <class... Parameters, class... Arguments>
void start(cuda_queue& queue, char const* doing, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
           Arguments const&... arguments) {
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = queue.stream();
  config.attrs = &overlap;
  config.numAttrs = queue.overlaps_next() && queue.can_overlap(reinterpret_cast<void const*>(kernel)) ? 1 : 0;
  cuda_check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), doing);
}

}  // namespace detail
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
