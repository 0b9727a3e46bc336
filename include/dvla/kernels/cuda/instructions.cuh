// The machine instructions of kernels on tensor cores, one a function. Matrices are counted in bytes: what is multiplied at a time
// is 16 rows of 32 bytes, 16 bfloat16 or 8 tf32, and both lie in registers in the same order, word by word (PTX ISA, "Matrix
// fragments for mma").
#pragma once

#include <cstdint>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels::instructions {

[[nodiscard]] __device__ DVLA_INLINE std::uint32_t shared_address(void const* at) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(at));
}

/// Starts the copy of the first `bytes` of Bytes (4, 8 or 16) of global memory into shared memory, with zeros for the rest. With 0
/// nothing is read.
template <int Bytes = 16>
__device__ DVLA_INLINE void copy_async(std::uint32_t to, std::uintptr_t from, int bytes) {
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(Bytes), "r"(bytes) : "memory");
}

/// The copies that this thread has started since the last call become one group.
__device__ DVLA_INLINE void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most Pending of this thread's groups are under way.
template <int Pending>
__device__ DVLA_INLINE void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

/// Waits until Count threads of the block have come here with the same number, 1 to 15.
template <int Count>
__device__ DVLA_INLINE void await_threads(int number) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "n"(Count) : "memory");
}

/// The same; whether x holds for all of them.
template <int Count>
[[nodiscard]] __device__ DVLA_INLINE bool all_of_threads(int number, bool x) {
  int all;
  asm volatile(
      "{.reg .pred one, all; setp.ne.b32 one, %1, 0;\n"
      "bar.red.and.pred all, %2, %3, one;\n"
      "selp.b32 %0, 1, 0, all;}"
      : "=r"(all)
      : "r"(static_cast<int>(x)), "r"(number), "n"(Count)
      : "memory");
  return all != 0;
}

/// Asks for the line of 128 bytes at an address of global memory to be brought near.
__device__ DVLA_INLINE void prefetch(void const* at) { asm volatile("prefetch.global.L2 [%0];" ::"l"(at)); }

__device__ DVLA_INLINE void store_words(std::uint32_t to, std::uint32_t const (&words)[4]) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
               : "memory");
}
__device__ DVLA_INLINE void store_words(std::uint32_t to, std::uint32_t first, std::uint32_t second) {
  asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(to), "r"(first), "r"(second) : "memory");
}
__device__ DVLA_INLINE void store_word(std::uint32_t to, std::uint32_t word) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(word) : "memory");
}

__device__ DVLA_INLINE void load_words(std::uint32_t (&to)[4], std::uint32_t from) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(from) : "memory");
}
[[nodiscard]] __device__ DVLA_INLINE std::uint32_t load_word(std::uint32_t address) {
  std::uint32_t word;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
  return word;
}

/// Stores what load_matrices() would load from there.
__device__ DVLA_INLINE void store_matrices(std::uint32_t address, std::uint32_t const (&words)[4]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(words[0]), "r"(words[1]),
               "r"(words[2]), "r"(words[3])
               : "memory");
#endif
}

/// Four matrices of 8 rows of 16 bytes; lane i names the address of row i % 8 of matrix i / 8 and receives the word i % 4 of
/// row i / 4 of each.
__device__ DVLA_INLINE void load_matrices(std::uint32_t (&to)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}
/// Two matrices, whose rows' addresses lanes 0 to 15 name.
__device__ DVLA_INLINE void load_matrices(std::uint32_t (&to)[2], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "r"(address) : "memory");
}

/// The same for matrices of 16-bit elements, each transposed on the way.
__device__ DVLA_INLINE void load_matrices_transposed(std::uint32_t (&to)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}
__device__ DVLA_INLINE void load_matrices_transposed(std::uint32_t (&to)[2], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(to[0]), "=r"(to[1])
               : "r"(address)
               : "memory");
}

/// A float, as its bits, rounded to the 10 bits of mantissa that the tensor cores read.
[[nodiscard]] __device__ DVLA_INLINE std::uint32_t as_tf32(std::uint32_t float_bits) {
  std::uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "r"(float_bits));
  return rounded;
}

/// Rounds four floats in shared memory so.
__device__ DVLA_INLINE void round_words(std::uint32_t at) {
  std::uint32_t words[4];
  load_words(words, at);
  for (std::uint32_t& word : words) word = as_tf32(word);
  store_words(at, words);
}

/// Two numbers rounded to bfloat16, the first in the lower half.
[[nodiscard]] __device__ DVLA_INLINE std::uint32_t bfloat16_word(float low, float high) {
  std::uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

/// 2^x with an error of two units in the last place; exact at 0 and minus infinity.
[[nodiscard]] __device__ DVLA_INLINE float power_of_2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// c += a b for a of 16 rows, b of 8 columns and a depth of 32 bytes. Lane i holds c of row i / 4 (elements 0 and 1) and of row
/// i / 4 + 8 (elements 2 and 3), in columns 2 (i % 4) and 2 (i % 4) + 1.
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
/// The same with a depth of 16 bytes.
template <class T>
__device__ DVLA_INLINE void multiply_add(float (&c)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t b0) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(b0));
  } else {
    asm("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(b0));
  }
}

}  // namespace kernels::instructions
}  // namespace dvla::inline DVLA_ABI
