// Barriers in shared memory that count copies of the copy engine (cards of compute capability 9.0 and later; PTX ISA, "mbarrier").
#pragma once

#include <cstdint>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels::instructions {

/// Makes a barrier that opens, once, with the arrival number `arrivals`. Other threads see it after the block's next barrier.
__device__ DVLA_INLINE void barrier_begin(std::uint32_t at, unsigned arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(at), "r"(arrivals) : "memory");
}

/// Arrives at a barrier, which waits for `bytes` of copies, too, from now on.
__device__ DVLA_INLINE void barrier_arrive_expecting(std::uint32_t at, unsigned bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
#endif
}

/// Waits for a barrier to open; what has arrived can be seen then, by products of warpgroups as well.
__device__ DVLA_INLINE void barrier_await(std::uint32_t at) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "{.reg .pred open;\n"
      "again: mbarrier.try_wait.parity.shared.b64 open, [%0], 0;\n"
      "@!open bra again;}" ::"r"(at)
      : "memory");
#endif
}

}  // namespace kernels::instructions
}  // namespace dvla::inline DVLA_ABI
