// Starting kernels so that one is being set up while the one before it still runs ("programmatic dependent launch", cards of compute
// capability 9.0 and later): its blocks take their places as soon as the last block of its predecessor has started, and wait there
// for the predecessor's end. Between hundreds of kernels of a few microseconds that time counts.
#pragma once

#include <cstddef>

#include <dvla/kernels/cuda/device.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace detail {

/// Returns when everything issued before has ended and its results can be seen.
__device__ DVLA_INLINE void await_results() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel be set up, once every block has called it.
__device__ DVLA_INLINE void release_successors() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// The first statement of every kernel that start() starts, by all threads.
__device__ DVLA_INLINE void await_predecessors() {
  await_results();
  release_successors();
}

/// What start() and start_together() share. Together: all blocks run at once, or the launch fails.
template <class... Parameters, class... Arguments>
void start_with(cuda_queue& queue, char const* doing, bool together, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                std::size_t shared_bytes, Arguments const&... arguments) {
  cudaLaunchAttribute attributes[2]{};
  unsigned count = 0;
  if (together) {
    attributes[count].id = cudaLaunchAttributeCooperative;
    attributes[count++].val.cooperative = 1;
  }
  if (queue.overlaps_next() && queue.can_overlap(reinterpret_cast<void const*>(kernel))) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = queue.stream();
  config.attrs = attributes;
  config.numAttrs = count;
  cuda_check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), doing);
}

/// Starts a kernel that begins with await_predecessors(). `doing` completes "CUDA error while ...".
template <class... Parameters, class... Arguments>
void start(cuda_queue& queue, char const* doing, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
           Arguments const&... arguments) {
  start_with(queue, doing, false, kernel, grid, block, shared_bytes, arguments...);
}

/// Starts a kernel whose blocks all run at once, and so can wait for each other: at most as many as fit on the card. It begins with
/// await_results(), and calls release_successors() only when no block waits for another any more: what is set up takes places.
template <class... Parameters, class... Arguments>
void start_together(cuda_queue& queue, char const* doing, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                    std::size_t shared_bytes, Arguments const&... arguments) {
  start_with(queue, doing, true, kernel, grid, block, shared_bytes, arguments...);
}

}  // namespace detail
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
