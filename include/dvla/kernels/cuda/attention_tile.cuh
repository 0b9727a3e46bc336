// What attention's tensor core kernels share: rows of a head in shared memory, a warp's rows in registers, and the two products
// between them, 16 columns at a time: scores (rows by columns^T) and sums of columns weighted by scores.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/instructions.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

using namespace instructions;

inline constexpr int tile_rows = 16;   // of a warp; also the columns of one step
inline constexpr int chunk_rows = 64;  // what is fetched, and waited for, at a time
inline constexpr int blocks_of_chunk = chunk_rows / tile_rows;

inline constexpr float log2_of_e = 1.44269504f;

/// What lengths fill: whole tiles.
template <class I>
[[nodiscard]] DVLA_HD constexpr I padded_rows(I rows) {
  return (rows + tile_rows - 1) / tile_rows * tile_rows;
}

/// attention_shape as a kernel counts.
struct head_sizes {
  unsigned heads;
  int queries, keys, dim;

  explicit head_sizes(attention_shape const& s)
      : heads(static_cast<unsigned>(s.heads)),
        queries(static_cast<int>(s.queries)),
        keys(static_cast<int>(s.keys)),
        dim(static_cast<int>(s.head_dim)) {}
};

/// How rows of D elements lie in shared memory: with one access more, which makes their number odd, so that no two of eight
/// consecutive rows begin in the same banks.
template <class T, int D>
struct tile_layout {
  static constexpr int cell = 16 / sizeof(T);  // elements of one access
  static constexpr int cells = D / cell;
  static constexpr int lanes = std::bit_ceil(static_cast<unsigned>(cells));  // that share a row
  static constexpr int pitch = D + cell;
  static constexpr int row_bytes = pitch * static_cast<int>(sizeof(T));
  static constexpr int block_bytes = tile_rows * row_bytes;
  static constexpr int steps = D * static_cast<int>(sizeof(T)) / 32;  // of the tensor cores' depth
};

/// The rows of one head in global memory.
template <class T>
struct head_rows {
  T* data;
  std::size_t step;  // from row to row
  int count, dim;
};

template <class T>
[[nodiscard]] __device__ DVLA_INLINE head_rows<T> rows_of(attention_operand<T> const& x, unsigned image, unsigned head, int count,
                                                          int dim) {
  return {x.data + image * x.strides.batch + head * x.strides.head, x.strides.token, count, dim};
}

/// A float as the tensor cores take it.
[[nodiscard]] __device__ DVLA_INLINE std::uint32_t tf32_word(float x) { return as_tf32(__float_as_uint(x)); }

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

/// Waits until at most `pending` of this thread's groups of copies are under way; for fewer where more than four may be.
__device__ DVLA_INLINE void wait_for_copies(int pending) {
  switch (pending) {
    case 0:
      return copies_wait<0>();
    case 1:
      return copies_wait<1>();
    case 2:
      return copies_wait<2>();
    case 3:
      return copies_wait<3>();
    default:
      return copies_wait<4>();
  }
}

/// Asks for a head's rows to be brought near, of operands of its queries and of its keys and values; the block's threads share the
/// work. A block does so for one that will come to its place.
template <class T>
__device__ DVLA_INLINE void prefetch_rows(head_rows<T const> const& rows) {
  constexpr int line = 128 / sizeof(T);
  for (int row = static_cast<int>(threadIdx.x); row < rows.count; row += static_cast<int>(blockDim.x))
    for (int i = 0; i < rows.dim; i += line) prefetch(rows.data + static_cast<std::size_t>(row) * rows.step + i);
}
template <class T, class... Operand>
__device__ DVLA_INLINE void prefetch_head(head_sizes const& s, unsigned index, attention_operand<T const> const& k,
                                          attention_operand<T const> const& v, Operand const&... of_queries) {
  unsigned const image = index / s.heads, head = index % s.heads;
  prefetch_rows(rows_of(k, image, head, s.keys, s.dim));
  prefetch_rows(rows_of(v, image, head, s.keys, s.dim));
  (prefetch_rows(rows_of(of_queries, image, head, s.queries, s.dim)), ...);
}

/// Starts copying rows [first, first + rows) of a head to `tile`, with zeros where it has none. The threads that share the work, whole
/// warps, are numbered below `threads`. Floats are to be rounded when they are there.
template <class T, int D>
__device__ DVLA_INLINE void fetch_rows(T* tile, head_rows<T const> const& from, int first, int rows, unsigned thread,
                                       unsigned threads) {
  using layout = tile_layout<T, D>;
  int const column = static_cast<int>(thread % layout::lanes) * layout::cell, step = static_cast<int>(threads / layout::lanes);
  int row = static_cast<int>(thread / layout::lanes);
  T* to = tile + row * layout::pitch + column;
  T const* source = from.data + static_cast<std::size_t>(first + row) * from.step + column;
  int const existing = column < from.dim ? from.count - first : 0;
#pragma unroll 2
  for (; row < rows; row += step, to += step * layout::pitch, source += step * from.step) {
    if (layout::lanes != layout::cells && column >= D) break;
    bool const there = row < existing;
    copy_async(shared_address(to), reinterpret_cast<std::uintptr_t>(there ? source : from.data), there ? 16 : 0);
  }
}

/// Rounds floats to tf32 in those cells that fetch_rows() has had the same thread copy, once they are there.
template <class T, int D>
__device__ DVLA_INLINE void round_rows(T* tile, int rows, unsigned thread, unsigned threads) {
  if constexpr (!std::is_same_v<T, bfloat16>) {
    using layout = tile_layout<T, D>;
    constexpr int together = 2;
    int const column = static_cast<int>(thread % layout::lanes) * layout::cell, step = static_cast<int>(threads / layout::lanes);
    if (layout::lanes != layout::cells && column >= D) return;
    T* const own = tile + column;
    for (int row = static_cast<int>(thread / layout::lanes); row < rows; row += together * step) {
      uint4 cells[together];
#pragma unroll
      for (int i = 0; i < together; ++i)
        if (row + i * step < rows) cells[i] = *reinterpret_cast<uint4 const*>(own + (row + i * step) * layout::pitch);
#pragma unroll
      for (int i = 0; i < together; ++i)
        if (row + i * step < rows)
          *reinterpret_cast<uint4*>(own + (row + i * step) * layout::pitch) =
              uint4{as_tf32(cells[i].x), as_tf32(cells[i].y), as_tf32(cells[i].z), as_tf32(cells[i].w)};
    }
  }
}

/// Fetches all rows of x and y, a chunk of both a group; the block's threads share the work.
template <class T, int D>
__device__ DVLA_INLINE void fetch_chunks(T* to_x, T* to_y, head_rows<T const> const& x, head_rows<T const> const& y) {
  int const padded = padded_rows(x.count);
  for (int first = 0; first < padded; first += chunk_rows) {
    int const rows = ::min(chunk_rows, padded - first), at = first * tile_layout<T, D>::pitch;
    fetch_rows<T, D>(to_x + at, x, first, rows, threadIdx.x, blockDim.x);
    fetch_rows<T, D>(to_y + at, y, first, rows, threadIdx.x, blockDim.x);
    copies_commit();
  }
}
/// Waits for the i-th of the `chunks` of `count` rows that fetch_chunks() has sent for, and at the block's barrier: then it is there for
/// all.
template <class T, int D>
__device__ DVLA_INLINE void await_chunk(T* x, T* y, int count, int i, int chunks) {
  wait_for_copies(chunks - 1 - i);
  if constexpr (!std::is_same_v<T, bfloat16>) {
    int const first = i * chunk_rows, at = first * tile_layout<T, D>::pitch, rows = ::min(chunk_rows, padded_rows(count) - first);
    round_rows<T, D>(x + at, rows, threadIdx.x, blockDim.x);
    round_rows<T, D>(y + at, rows, threadIdx.x, blockDim.x);
  }
  __syncthreads();
}

// Where in a block of 16 rows a lane reads: in bytes from its beginning.

/// As the left side of scores: matrices of rows 0-7 and 8-15, then those 16 bytes further on.
template <class T, int D>
[[nodiscard]] __device__ DVLA_INLINE std::uint32_t place_in_rows(unsigned lane) {
  return static_cast<std::uint32_t>(lane % 16 * tile_layout<T, D>::row_bytes + lane / 16 * 16);
}
/// As the right side of scores: both halves of the depth of rows 0-7, then of rows 8-15.
template <class T, int D>
[[nodiscard]] __device__ DVLA_INLINE std::uint32_t place_in_columns(unsigned lane) {
  return static_cast<std::uint32_t>((lane / 16 * 8 + lane % 8) * tile_layout<T, D>::row_bytes + lane / 8 % 2 * 16);
}
/// As the right side of a weighted sum.
template <class T, int D>
[[nodiscard]] __device__ DVLA_INLINE std::uint32_t place_in_terms(unsigned lane) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return place_in_rows<T, D>(lane);
  else
    return static_cast<std::uint32_t>(lane % 4 * 2 * tile_layout<T, D>::row_bytes + lane / 4 * 4);
}

/// 16 rows as the left side of scores: for the first Kept steps of the depth in registers, for the others read from shared memory
/// again at each use.
template <class T, int D, int Kept>
struct partly_kept_rows {
  std::uint32_t words[Kept > 0 ? Kept : 1][4];
  std::uint32_t address;

  /// From shared memory, where this lane's place is given.
  __device__ DVLA_INLINE void load(std::uint32_t at) {
    address = at;
#pragma unroll
    for (int i = 0; i < Kept; ++i) load_matrices(words[i], address + 32 * i);
  }
  /// Rows [first, first + 16) of a head, zeros where it has none, if all are kept.
  __device__ DVLA_INLINE void load(head_rows<T const> const& from, int first) {
    static_assert(Kept == tile_layout<T, D>::steps);
    constexpr int word = 4 / sizeof(T);  // elements
    int const lane = static_cast<int>(threadIdx.x % 32), row = first + lane / 4, column = lane % 4 * word;
    T const* const at = from.data + static_cast<std::size_t>(row) * from.step + column;
#pragma unroll
    for (int i = 0; i < 4 * Kept; ++i) {
      int const down = i % 2 * 8, across = i / 2 * 4 * word;
      std::uint32_t x = 0;
      if (row + down < from.count && column + across < from.dim)
        x = *reinterpret_cast<std::uint32_t const*>(at + down * from.step + across);
      words[i / 4][i % 4] = std::is_same_v<T, bfloat16> ? x : as_tf32(x);
    }
  }
  __device__ DVLA_INLINE void get(int step, std::uint32_t (&to)[4]) const {
    if (step >= Kept) return load_matrices(to, address + 32 * step);
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = words[step][i];
  }
};
template <class T, int D>
using row_block = partly_kept_rows<T, D, tile_layout<T, D>::steps>;
template <class T, int D>
using shared_row_block = partly_kept_rows<T, D, 0>;

// A product of 16 rows and 16 columns is two of 8 columns. Lane i holds of each: columns 2 (i % 4) and the next of row i / 4,
// then those of row i / 4 + 8.
using score_block = float[2][4];

/// scores += rows columns^T, for Tiles blocks of 16 rows.
template <class T, int D, int Tiles, class Rows>
__device__ DVLA_INLINE void add_scores(score_block (&scores)[Tiles], Rows const (&rows)[Tiles], std::uint32_t columns) {
#pragma unroll
  for (int i = 0; i < tile_layout<T, D>::steps; ++i) {
    std::uint32_t b[4];
    load_matrices(b, columns + 32 * i);
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
      std::uint32_t a[4];
      rows[t].get(i, a);
      multiply_add<T>(scores[t][0], a, b[0], b[1]);
      multiply_add<T>(scores[t][1], a, b[2], b[3]);
    }
  }
}
template <class T, int D, class Rows>
__device__ DVLA_INLINE void add_scores(score_block& scores, Rows const& rows, std::uint32_t columns) {
  add_scores<T, D>(reinterpret_cast<score_block(&)[1]>(scores), reinterpret_cast<Rows const(&)[1]>(rows), columns);
}

/// Of 8 N columns, those from `count` on do not exist: their weights will be 0.
template <int N>
__device__ DVLA_INLINE void hide_columns(float (&scores)[N][4], int count) {
  int const first = static_cast<int>(threadIdx.x % 4 * 2);
#pragma unroll
  for (int i = 0; i < 4 * N; ++i)
    if (i / 4 * 8 + first + i % 2 >= count) scores[i / 4][i % 4] = -std::numeric_limits<float>::infinity();
}

/// 16 rows of 16 weights as the left side of a weighted sum. A product's layout is the left side's of the next one: for bfloat16
/// with neighbours packed, for tf32, 8 weights at a time, with a depth that counts them 0, 2, 4, 6, 1, 3, 5, 7.
template <class T>
struct weight_block {
  static constexpr int parts = std::is_same_v<T, bfloat16> ? 1 : 2;
  std::uint32_t words[parts][4];

  weight_block() = default;
  __device__ DVLA_INLINE explicit weight_block(score_block const& w) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if constexpr (std::is_same_v<T, bfloat16>) {
        words[0][2 * half] = bfloat16_word(w[half][0], w[half][1]);
        words[0][2 * half + 1] = bfloat16_word(w[half][2], w[half][3]);
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) words[half][i] = tf32_word(w[half][i % 2 * 2 + i / 2]);
      }
    }
  }
};

/// sums += weights terms, for 16 terms of D elements and Tiles blocks of weights.
template <class T, int D, int Tiles>
__device__ DVLA_INLINE void add_weighted(float (&sums)[Tiles][D / 8][4], weight_block<T> const (&weights)[Tiles],
                                         std::uint32_t terms) {
  if constexpr (std::is_same_v<T, bfloat16>) {
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      std::uint32_t b[4];
      load_matrices_transposed(b, terms + 32 * n);
#pragma unroll
      for (int t = 0; t < Tiles; ++t) {
        multiply_add<T>(sums[t][2 * n], weights[t].words[0], b[0], b[1]);
        multiply_add<T>(sums[t][2 * n + 1], weights[t].words[0], b[2], b[3]);
      }
    }
  } else {
    constexpr int row_bytes = tile_layout<T, D>::row_bytes;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        std::uint32_t const at = terms + 8 * half * row_bytes + 32 * n;
        std::uint32_t const b[2] = {load_word(at), load_word(at + row_bytes)};
#pragma unroll
        for (int t = 0; t < Tiles; ++t) multiply_add<T>(sums[t][n], weights[t].words[half], b[0], b[1]);
      }
    }
  }
}
template <class T, int D>
__device__ DVLA_INLINE void add_weighted(float (&sums)[D / 8][4], weight_block<T> const& weights, std::uint32_t terms) {
  add_weighted<T, D, 1>(reinterpret_cast<float(&)[1][D / 8][4]>(sums), reinterpret_cast<weight_block<T> const(&)[1]>(weights), terms);
}

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
