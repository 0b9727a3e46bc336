// What the tensor-core convolutions are made of: 16-byte copies into shared memory, fragments and their products.
//
// Operands are bfloat16, or floats that are rounded to tf32. Both are moved in chunks of 16 bytes (8 or 4 elements), and one
// product takes two chunks of 16 rows with two chunks of 8 columns: mma.m16n8k16 of bfloat16 and m16n8k8 of tf32 lay out their
// operands alike, word by word (PTX ISA, "Matrix fragments for mma"), so kernels are written once for both.
#pragma once

#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/core/config.hpp>
#include <dvla/kernels/precision.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// Whether products of X may use the tensor cores.
template <precision P, class X>
inline constexpr bool on_tensor_cores = std::is_same_v<X, bfloat16> || (std::is_same_v<X, float> && P == precision::tf32);

/// Elements of a chunk of 16 bytes.
template <class E>
inline constexpr int chunk = 16 / static_cast<int>(sizeof(E));

__device__ DVLA_INLINE unsigned shared_address(void const* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

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
  int const read = inside ? Bytes : 0;
  if constexpr (Bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(read) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(Bytes), "r"(read) : "memory");
}
__device__ DVLA_INLINE void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most Pending of this thread's groups of copies are under way.
template <int Pending>
__device__ DVLA_INLINE void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

__device__ DVLA_INLINE unsigned load_word(unsigned address) {
  unsigned word;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
  return word;
}
/// Four matrices of 8 rows of 16 bytes; lane l gives the address of row l % 8 of matrix l / 8.
__device__ DVLA_INLINE void load_matrices(unsigned (&m)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3]) : "r"(address) : "memory");
}
/// Two matrices, whose rows' addresses lanes 0 to 15 give.
__device__ DVLA_INLINE void load_matrices(unsigned (&m)[2], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(m[0]), "=r"(m[1]) : "r"(address) : "memory");
}
/// The same for matrices of 8 x 8 16-bit elements, transposed.
__device__ DVLA_INLINE void load_matrices_transposed(unsigned (&m)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3]) : "r"(address) : "memory");
}
__device__ DVLA_INLINE void load_matrices_transposed(unsigned (&m)[2], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(m[0]), "=r"(m[1]) : "r"(address) : "memory");
}

__device__ DVLA_INLINE unsigned as_tf32(unsigned float_bits) {
  unsigned rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(float_bits)));
  return rounded;
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
  if constexpr (std::is_same_v<E, bfloat16>)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// The same with one chunk of each: words 0 and 1 of a and word 0 of b.
template <class E>
__device__ DVLA_INLINE void multiply_chunk(float (&sums)[4], unsigned a0, unsigned a1, unsigned b0) {
  if constexpr (std::is_same_v<E, bfloat16>)
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]) : "r"(a0), "r"(a1), "r"(b0));
  else
    asm volatile("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]) : "r"(a0), "r"(a1), "r"(b0));
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

__device__ DVLA_INLINE unsigned packed_bfloat16(float low, float high) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
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
