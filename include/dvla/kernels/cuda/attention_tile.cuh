// What attention's tensor core kernels share: rows of a head in shared memory, a warp's 16 rows in registers, and the two
// products between them, 16 columns at a time: scores (rows by columns^T) and sums of columns weighted by scores.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/attention_instructions.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

inline constexpr int tile_rows = 16;   // of a warp's rows; also the columns of one step
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

/// How rows of two matrices x and y lie in shared memory: side by side, D elements each, and one access more, which makes their
/// number odd, so that no two of eight consecutive rows begin in the same banks.
template <class T, int D>
struct tile_layout {
  static constexpr int cell = 16 / sizeof(T);  // elements of one access
  static constexpr int cells = D / cell;
  static constexpr int lanes = std::bit_ceil(static_cast<unsigned>(cells));  // that share a row
  static constexpr int pitch = 2 * D + cell;
  static constexpr int row_bytes = pitch * static_cast<int>(sizeof(T));
  static constexpr int block_bytes = tile_rows * row_bytes;
  static constexpr int to_y = D * static_cast<int>(sizeof(T));        // bytes from x to y
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

/// Copies rows [first, first + rows) of a head to x or y of `tile`, zeros where it has none. float is rounded to tf32 at once;
/// bfloat16 is under way until the thread waits for it. The threads that share the work, whole warps, are numbered below `threads`.
template <class T, int D>
__device__ DVLA_INLINE void fetch_rows(T* tile, head_rows<T const> const& from, int first, int rows, unsigned thread,
                                       unsigned threads) {
  using layout = tile_layout<T, D>;
  int const column = static_cast<int>(thread % layout::lanes) * layout::cell, step = static_cast<int>(threads / layout::lanes);
  int row = static_cast<int>(thread / layout::lanes);
  T* to = tile + row * layout::pitch + column;
  T const* source = from.data + static_cast<std::size_t>(first + row) * from.step + column;
  int const existing = column < from.dim ? from.count - first : 0;
#pragma unroll(std::is_same_v <T, bfloat16> ? 2 : 4)
  for (; row < rows; row += step, to += step * layout::pitch, source += step * from.step) {
    if (layout::lanes != layout::cells && column >= D) break;
    bool const there = row < existing;
    if constexpr (std::is_same_v<T, bfloat16>) {
      fetch_16_bytes(to, there ? source : from.data, there);
    } else {
      float4 const x = there ? *reinterpret_cast<float4 const*>(source) : float4{0, 0, 0, 0};
      *reinterpret_cast<uint4*>(to) = uint4{tf32_word(x.x), tf32_word(x.y), tf32_word(x.z), tf32_word(x.w)};
    }
  }
}

/// Fetches all rows of x and y to `tile`, a chunk of both a group; the block's threads share the work.
template <class T, int D>
__device__ DVLA_INLINE void fetch_chunks(T* tile, head_rows<T const> const& x, head_rows<T const> const& y) {
  int const padded = padded_rows(x.count);
  for (int first = 0; first < padded; first += chunk_rows, tile += chunk_rows * tile_layout<T, D>::pitch) {
    int const rows = ::min(chunk_rows, padded - first);
    fetch_rows<T, D>(tile, x, first, rows, threadIdx.x, blockDim.x);
    fetch_rows<T, D>(tile + D, y, first, rows, threadIdx.x, blockDim.x);
    close_fetches();
  }
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

/// A warp's 16 rows as the left side of scores: in registers, or read from shared memory again at each use.
template <class T, int D, bool InRegisters = true>
struct row_block {
  std::uint32_t words[tile_layout<T, D>::steps][4];

  __device__ DVLA_INLINE explicit row_block(std::uint32_t address) {
#pragma unroll
    for (int i = 0; i < tile_layout<T, D>::steps; ++i) load_matrices(words[i], address + 32 * i);
  }
  __device__ DVLA_INLINE void get(int step, std::uint32_t (&to)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = words[step][i];
  }
};
template <class T, int D>
struct row_block<T, D, false> {
  std::uint32_t address;

  __device__ DVLA_INLINE explicit row_block(std::uint32_t at) : address(at) {}
  __device__ DVLA_INLINE void get(int step, std::uint32_t (&to)[4]) const { load_matrices(to, address + 32 * step); }
};

// A product of 16 rows and 16 columns is two of 8 columns. Lane i holds of each: columns 2 (i % 4) and the next of row i / 4,
// then those of row i / 4 + 8.
using score_block = float[2][4];

/// scores += rows columns^T.
template <class T, int D, class Rows>
__device__ DVLA_INLINE void add_scores(score_block& scores, Rows const& rows, std::uint32_t columns) {
#pragma unroll
  for (int i = 0; i < tile_layout<T, D>::steps; ++i) {
    std::uint32_t a[4], b[4];
    rows.get(i, a);
    load_matrices(b, columns + 32 * i);
    multiply_add<T>(scores[0], a, b[0], b[1]);
    multiply_add<T>(scores[1], a, b[2], b[3]);
  }
}

/// Columns from `count` on do not exist: their weights will be 0.
__device__ DVLA_INLINE void hide_columns(score_block& scores, int count) {
  int const first = static_cast<int>(threadIdx.x % 4 * 2);
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i / 4 * 8 + first + i % 2 >= count) scores[i / 4][i % 4] = -std::numeric_limits<float>::infinity();
}

/// sums += weights terms, for 16 terms of D elements. A product's layout is the left side's of the next one: for bfloat16 with
/// neighbours packed, for tf32 with a depth that counts the terms 0, 2, 4, 6, 1, 3, 5, 7.
template <class T, int D>
__device__ DVLA_INLINE void add_weighted(float (&sums)[D / 8][4], score_block const& weights, std::uint32_t terms) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    std::uint32_t const a[4] = {bfloat16_word(weights[0][0], weights[0][1]), bfloat16_word(weights[0][2], weights[0][3]),
                                bfloat16_word(weights[1][0], weights[1][1]), bfloat16_word(weights[1][2], weights[1][3])};
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      std::uint32_t b[4];
      load_matrices_transposed(b, terms + 32 * n);
      multiply_add<T>(sums[2 * n], a, b[0], b[1]);
      multiply_add<T>(sums[2 * n + 1], a, b[2], b[3]);
    }
  } else {
    constexpr int row_bytes = tile_layout<T, D>::row_bytes;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float const(&w)[4] = weights[half];
      std::uint32_t const a[4] = {tf32_word(w[0]), tf32_word(w[2]), tf32_word(w[1]), tf32_word(w[3])};
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        std::uint32_t const at = terms + 8 * half * row_bytes + 32 * n;
        multiply_add<T>(sums[n], a, load_word(at), load_word(at + row_bytes));
      }
    }
  }
}

/// Two neighbouring elements.
__device__ DVLA_INLINE void store_pair(bfloat16* to, float x, float y) {
  *reinterpret_cast<std::uint32_t*>(to) = bfloat16_word(x, y);
}
__device__ DVLA_INLINE void store_pair(float* to, float x, float y) { *reinterpret_cast<float2*>(to) = float2{x, y}; }
[[nodiscard]] __device__ DVLA_INLINE float2 load_pair(bfloat16 const* from) {
  std::uint32_t const word = *reinterpret_cast<std::uint32_t const*>(from);
  return {__uint_as_float(word << 16), __uint_as_float(word & 0xFFFF0000u)};
}
[[nodiscard]] __device__ DVLA_INLINE float2 load_pair(float const* from) { return *reinterpret_cast<float2 const*>(from); }

/// Calls f(row, column, x, y) for the pairs of neighbours that this lane holds of 16 rows of sums, row by row times `factor`.
template <int D, class F>
__device__ DVLA_INLINE void for_pairs(float const (&sums)[D / 8][4], float const (&factor)[2], F f) {
  int const lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int n = 0; n < D / 8; ++n) {
#pragma unroll
    for (int r = 0; r < 2; ++r)
      f(lane / 4 + 8 * r, 8 * n + lane % 4 * 2, sums[n][2 * r] * factor[r], sums[n][2 * r + 1] * factor[r]);
  }
}

/// Writes, or adds, 16 rows of sums times `factor` to rows [first, first + 16) of a head, as far as it has them. `stage` is 16
/// rows of the warp's shared memory, through which they become whole accesses.
template <class T, int D>
__device__ DVLA_INLINE void put_rows(float const (&sums)[D / 8][4], float const (&factor)[2], T* stage, head_rows<T> const& to,
                                     int first, bool accumulate) {
  using layout = tile_layout<T, D>;
  T* const rows = to.data + static_cast<std::size_t>(first) * to.step;
  int const left = to.count - first;
  __syncwarp();
  for_pairs<D>(sums, factor, [&](int row, int column, float x, float y) {
    if (accumulate && row < left && column < to.dim) {
      float2 const old = load_pair(rows + row * to.step + column);
      x += old.x, y += old.y;
    }
    store_pair(stage + row * layout::pitch + column, x, y);
  });
  __syncwarp();
#pragma unroll
  for (int i = 0; i < tile_rows * layout::cells; i += 32) {
    unsigned const at = i + threadIdx.x % 32;
    int const row = static_cast<int>(at / layout::cells), column = static_cast<int>(at % layout::cells) * layout::cell;
    if (row < left && column < to.dim)
      *reinterpret_cast<uint4*>(rows + row * to.step + column) =
          *reinterpret_cast<uint4 const*>(stage + row * layout::pitch + column);
  }
  __syncwarp();
}

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
