// The machine instructions of attention's tensor core kernels, one a function. Matrices are counted in bytes: what the tensor
// cores multiply at a time is 16 rows of 32 bytes, 16 bfloat16 or 8 tf32, and both lie in registers in the same order.
#pragma once

#include <cstdint>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

[[nodiscard]] __device__ DVLA_INLINE std::uint32_t shared_address(void const* at) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(at));
}

/// Four matrices of 8 rows of 16 bytes; lane i names the address of row i % 8 of matrix i / 8 and receives the word i % 4 of
/// row i / 4 of each.
__device__ DVLA_INLINE void load_matrices(std::uint32_t (&to)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

/// The same for matrices of 16-bit elements, each transposed on the way.
__device__ DVLA_INLINE void load_matrices_transposed(std::uint32_t (&to)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

[[nodiscard]] __device__ DVLA_INLINE std::uint32_t load_word(std::uint32_t address) {
  std::uint32_t word;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
  return word;
}

/// c += a b for a of 16 rows, b of 8 columns and a depth of 32 bytes.
template <class T>
__device__ DVLA_INLINE void multiply_add(float (&c)[4], std::uint32_t const (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

/// Starts the copy of 16 bytes from global to shared memory, or writes zeros there.
__device__ DVLA_INLINE void fetch_16_bytes(void* to, void const* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0)
               : "memory");
}

/// The copies that this thread has started since the last call become one group.
__device__ DVLA_INLINE void close_fetches() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int Pending>
__device__ DVLA_INLINE void wait_for_all_fetches_but() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

/// Waits until at most `pending` of this thread's groups are under way; for fewer where more than four may be.
__device__ DVLA_INLINE void wait_for_fetches(int pending) {
  switch (pending) {
    case 0:
      return wait_for_all_fetches_but<0>();
    case 1:
      return wait_for_all_fetches_but<1>();
    case 2:
      return wait_for_all_fetches_but<2>();
    case 3:
      return wait_for_all_fetches_but<3>();
    default:
      return wait_for_all_fetches_but<4>();
  }
}

/// 2^x with an error of two units in the last place; exact at 0 and minus infinity.
[[nodiscard]] __device__ DVLA_INLINE float power_of_2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Rounded to the 10 bits of mantissa that the tensor cores read.
[[nodiscard]] __device__ DVLA_INLINE std::uint32_t tf32_word(float x) {
  std::uint32_t word;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(x));
  return word;
}

/// Two numbers rounded to bfloat16, the first in the lower half.
[[nodiscard]] __device__ DVLA_INLINE std::uint32_t bfloat16_word(float low, float high) {
  std::uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

/// x, of which the compiler no longer knows where it comes from: what follows from it is computed again rather than kept in
/// registers across a loop.
[[nodiscard]] __device__ DVLA_INLINE unsigned computed_again(unsigned x) {
  asm volatile("" : "+r"(x));
  return x;
}

/// Over the four lanes that hold one row of a product.
[[nodiscard]] __device__ DVLA_INLINE float row_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}
[[nodiscard]] __device__ DVLA_INLINE float row_maximum(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
