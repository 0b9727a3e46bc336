// What the tensor-core convolutions are made of: 16-byte copies into shared memory, fragments and their products.
//
// Operands are bfloat16, or floats that are rounded to tf32. Both are moved in chunks of 16 bytes (8 or 4 elements), and one
// product takes two chunks of 16 rows with two chunks of 8 columns: mma.m16n8k16 of bfloat16 and m16n8k8 of tf32 lay out their
// operands alike, word by word (PTX ISA, "Matrix fragments for mma"), so kernels are written once for both.
#pragma once

#include <cstdint>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/core/config.hpp>
#include <dvla/kernels/cuda/instructions.cuh>
#include <dvla/kernels/precision.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// Whether products of X may use the tensor cores.
template <precision P, class X>
inline constexpr bool on_tensor_cores = std::is_same_v<X, bfloat16> || (std::is_same_v<X, float> && P == precision::tf32);

/// Elements of a chunk of 16 bytes.
template <class E>
inline constexpr int chunk = 16 / static_cast<int>(sizeof(E));

using instructions::copies_commit, instructions::copies_wait, instructions::load_matrices, instructions::load_matrices_transposed;
using instructions::as_tf32, instructions::load_word, instructions::round_words, instructions::shared_address;

/// threadIdx.x, which the compiler takes for a new number every time: what is computed from it is then not kept in registers
/// from one round of a loop to the next.
__device__ DVLA_INLINE int thread_number() {
  int number;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(number));
  return number;
}

/// Starts a copy of Bytes (4, 8 or 16) into shared memory; zeros instead if `inside` is false, and `from` is then not read.
template <int Bytes = 16>
__device__ DVLA_INLINE void copy_async(unsigned to, void const* from, bool inside) {
  instructions::copy_async<Bytes>(to, reinterpret_cast<std::uintptr_t>(from), inside ? Bytes : 0);
}

/// Rounds a fragment of floats to tf32; one of bfloat16 stays as it is.
template <class E, int N>
__device__ DVLA_INLINE void round_operand(unsigned (&fragment)[N]) {
  if constexpr (std::is_same_v<E, float>) {
#pragma unroll
    for (int i = 0; i < N; ++i) fragment[i] = as_tf32(fragment[i]);
  }
}

/// sums (16 x 8) += a (16 rows of two chunks) b (8 columns of two chunks). Lane l holds sums of rows l / 4 (elements 0 and 1)
/// and l / 4 + 8 (elements 2 and 3) in columns 2 (l % 4) and 2 (l % 4) + 1.
template <class E>
__device__ DVLA_INLINE void multiply(float (&sums)[4], unsigned const (&a)[4], unsigned const (&b)[2]) {
  instructions::multiply_add<E>(sums, a, b[0], b[1]);
}
/// The same with one chunk of each: words 0 and 1 of a and word 0 of b.
template <class E>
__device__ DVLA_INLINE void multiply_chunk(float (&sums)[4], unsigned a0, unsigned a1, unsigned b0) {
  instructions::multiply_add<E>(sums, a0, a1, b0);
}

/// Operands of products over pixels, from shared memory with a row of channels for every pixel: fragments whose second axis
/// is that of the pixels. A lane gives the addresses of `slots` pixels and of as many octets (8 channels).
template <class E>
struct pixel_operand;

template <>
struct pixel_operand<bfloat16> {
  static constexpr int step = 16, slots = 1;  // pixels of a product, addresses of a lane
  __device__ static int a_pixel(int lane, int) { return (lane & 7) | ((lane >> 1) & 8); }
  __device__ static int a_octet(int lane, int) { return (lane >> 3) & 1; }
  __device__ static int b_pixel(int lane, int) { return lane & 15; }
  /// Bytes from an octet's first channel to the one that the lane reads.
  __device__ static int within_octet(int) { return 0; }
  __device__ static void load_a(unsigned (&a)[4], unsigned const (&pixel)[1], unsigned const (&octet)[1]) {
    load_matrices_transposed(a, pixel[0] + octet[0]);
  }
  __device__ static void load_b(unsigned (&b)[2], unsigned const (&pixel)[1], unsigned octet) {
    load_matrices_transposed(b, pixel[0] + octet);
  }
};

template <>
struct pixel_operand<float> {
  static constexpr int step = 8, slots = 2;
  __device__ static int a_pixel(int lane, int slot) { return (lane & 3) + 4 * slot; }
  __device__ static int a_octet(int, int slot) { return slot; }
  __device__ static int b_pixel(int lane, int slot) { return (lane & 3) + 4 * slot; }
  __device__ static int within_octet(int lane) { return 4 * (lane >> 2); }
  __device__ static void load_a(unsigned (&a)[4], unsigned const (&pixel)[2], unsigned const (&octet)[2]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = as_tf32(load_word(pixel[i >> 1] + octet[i & 1]));
  }
  __device__ static void load_b(unsigned (&b)[2], unsigned const (&pixel)[2], unsigned octet) {
#pragma unroll
    for (int i = 0; i < 2; ++i) b[i] = as_tf32(load_word(pixel[i] + octet));
  }
};

/// The distance, in chunks, of pixels in shared memory such that neither ldmatrix (an odd one) nor the single words of
/// pixel_operand<float> (2 modulo 4) meet in a bank.
template <class E>
__device__ __host__ constexpr int pixel_pitch(int chunks) {
  return sizeof(E) == 2 ? chunks | 1 : chunks + (6 - chunks % 4) % 4;
}

__device__ DVLA_INLINE unsigned packed_bfloat16(float low, float high) { return instructions::bfloat16_word(low, high); }
/// Stores two numbers at an address aligned to both.
template <class E>
__device__ DVLA_INLINE void store_pair(E* to, float x, float y) {
  if constexpr (std::is_same_v<E, bfloat16>)
    *reinterpret_cast<unsigned*>(to) = packed_bfloat16(x, y);
  else
    *reinterpret_cast<float2*>(to) = make_float2(x, y);
}
/// Stores four numbers at an address aligned to all of them.
template <class E>
__device__ DVLA_INLINE void store_quad(E* to, float const (&v)[4]) {
  if constexpr (std::is_same_v<E, bfloat16>)
    *reinterpret_cast<uint2*>(to) = make_uint2(packed_bfloat16(v[0], v[1]), packed_bfloat16(v[2], v[3]));
  else
    *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
