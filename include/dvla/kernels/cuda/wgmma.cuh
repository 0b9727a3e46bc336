// Products by warpgroups, four warps together, as cards of compute capability 9.0 know them if code is compiled for sm_90a: the
// instructions, one a function (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions"), and what orders them. Elsewhere the
// functions have no bodies, and no kernel may call them.
//
// A product runs beside the code that follows: until wgmma_wait() its registers may not be touched.
#pragma once

#include <cstdint>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels::instructions {

/// How rows of 128 bytes lie in shared memory, from a multiple of 1024 bytes on, so that no two of eight meet in a bank: the place of
/// the 16 bytes `packet` (0 to 7) of a row, in bytes from the first row.
[[nodiscard]] DVLA_HD constexpr std::uint32_t swizzled_place(unsigned row, unsigned packet) {
  return row * 128 + (packet ^ row % 8) * 16;
}

/// An operand in such rows, from the address of a row that is a multiple of eight on. 2 added to it moves it by 16 bfloat16 along the
/// rows, 64 by eight rows. Rows may run across the product's depth or along it.
[[nodiscard]] __device__ DVLA_INLINE std::uint64_t swizzled_operand(std::uint32_t address) {
  constexpr std::uint64_t eight_rows = std::uint64_t{1024 / 16} << 32, swizzle_of_128_bytes = std::uint64_t{1} << 62;
  return (address & 0x3FFFF) / 16 | eight_rows | swizzle_of_128_bytes;
}

/// Before the first product, and wherever registers of the next one have been touched.
__device__ DVLA_INLINE void wgmma_fence() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
/// The products since the last call become one group.
__device__ DVLA_INLINE void wgmma_commit() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
/// Waits until at most Pending of the groups are under way.
template <int Pending>
__device__ DVLA_INLINE void wgmma_wait() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
#endif
}
/// Behind a wait, names registers that were in use until then: nothing done to them moves to before the wait.
template <int N>
__device__ DVLA_INLINE void wgmma_done(float (&d)[N][4]) {
#pragma unroll
  for (int i = 0; i < 4 * N; ++i) asm volatile("" : "+f"(d[i / 4][i % 4])::"memory");
}
template <int N>
__device__ DVLA_INLINE void wgmma_done(std::uint32_t (&a)[N][4]) {
#pragma unroll
  for (int i = 0; i < 4 * N; ++i) asm volatile("" : "+r"(a[i / 4][i % 4])::"memory");
}

/// The warpgroup has Count registers a thread from now on, fewer than before or as many more as other warpgroups of the block have
/// given back.
template <int Count>
__device__ DVLA_INLINE void keep_registers() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
#endif
}
template <int Count>
__device__ DVLA_INLINE void take_registers() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
#endif
}

// d = a b^T or, if adding, d += a b^T, for bfloat16 of a depth of 16. Row 16 w + i of a is that of warp w, whose lanes hold rows and
// columns as for multiply_add(), eight columns of d after the other.

/// a of 64 rows and b of 64 or 16 in shared memory, both in rows along the depth.
__device__ DVLA_INLINE void wgmma(float (&d)[8][4], std::uint64_t a, std::uint64_t b, bool adding) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile(
      "{.reg .pred adding; setp.ne.b32 adding, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "%32, %33, adding, 1, 1, 0, 0;}"
      : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]), "+f"(d[1][2]), "+f"(d[1][3]),
        "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]), "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]),
        "+f"(d[4][0]), "+f"(d[4][1]), "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]),
        "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]), "+f"(d[7][0]), "+f"(d[7][1]), "+f"(d[7][2]), "+f"(d[7][3])
      : "l"(a), "l"(b), "r"(static_cast<int>(adding)));
#endif
}
__device__ DVLA_INLINE void wgmma(float (&d)[2][4], std::uint64_t a, std::uint64_t b, bool adding) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile(
      "{.reg .pred adding; setp.ne.b32 adding, %10, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7}, "
      "%8, %9, adding, 1, 1, 0, 0;}"
      : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]), "+f"(d[1][2]), "+f"(d[1][3])
      : "l"(a), "l"(b), "r"(static_cast<int>(adding)));
#endif
}

/// a in registers as for multiply_add(), b of 64 columns in shared memory in rows across the depth.
__device__ DVLA_INLINE void wgmma(float (&d)[8][4], std::uint32_t const (&a)[4], std::uint64_t b, bool adding) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile(
      "{.reg .pred adding; setp.ne.b32 adding, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, adding, 1, 1, 1;}"
      : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]), "+f"(d[1][2]), "+f"(d[1][3]),
        "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]), "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]),
        "+f"(d[4][0]), "+f"(d[4][1]), "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]),
        "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]), "+f"(d[7][0]), "+f"(d[7][1]), "+f"(d[7][2]), "+f"(d[7][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(adding)));
#endif
}

}  // namespace kernels::instructions
}  // namespace dvla::inline DVLA_ABI
