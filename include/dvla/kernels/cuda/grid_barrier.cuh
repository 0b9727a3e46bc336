// A barrier of all blocks of a kernel, or of a group of them, for kernels that need sums over everything before they can go on.
#pragma once

#include <dvla/kernels/cuda/device.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace detail {

/// A block's view of a barrier, for one use of it: made before any block can have come, by every thread. The blocks must run at the
/// same time, so only kernels of start_together() may use it; the barrier is ready again for the next kernel.
///
/// Those who come add 1, the leader what makes their sum 2^31: the top bit turns when all are there, the bits below end as they were
/// (the way of cooperative groups' grid barrier). No block waits for the answer of its own addition.
class block_barrier {
 public:
  __device__ explicit block_barrier(grid_barrier& at) : word_(&at.word), before_(threadIdx.x == 0 ? read() : 0) {}

  /// By every thread of each of `blocks` blocks, one of which leads: returns when all have come, with all that they wrote before
  /// visible.
  __device__ void await(unsigned blocks, bool leads) const {
    __syncthreads();
    if (threadIdx.x == 0) {
      unsigned const share = leads ? 0x80000000u - (blocks - 1) : 1u;
      __threadfence();
      asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(word_), "r"(share) : "memory");
      while (((read() ^ before_) & 0x80000000u) == 0) {}
      __threadfence();
    }
    __syncthreads();
  }

 private:
  [[nodiscard]] __device__ unsigned read() const {
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(word_) : "memory");
    return value;
  }

  unsigned* word_;
  unsigned before_;
};

}  // namespace detail
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
