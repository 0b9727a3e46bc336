// What attention's backward kernels on tensor cores share: the statistics of queries, and where gradients are put.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/cuda/attention_gradient.cuh>
#include <dvla/kernels/cuda/attention_store.cuh>
#include <dvla/kernels/cuda/attention_tile.cuh>
#include <dvla/kernels/cuda/packet.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

/// What a query brings along: the log sum exp of its scores, to base 2, and delta = d_o . o.
struct query_statistics {
  float lse, delta;
};
/// Of two neighbours, from an even number on.
__device__ DVLA_INLINE void load_pair_of(query_statistics const* from, query_statistics (&to)[2]) {
  float4 const both = *reinterpret_cast<float4 const*>(from);
  to[0] = {both.x, both.y}, to[1] = {both.z, both.w};
}

/// The numbers of one access.
template <class T>
[[nodiscard]] __device__ DVLA_INLINE packet<float, 16 / sizeof(T)> numbers_of(uint4 const& cell) {
  packet<float, 16 / sizeof(T)> numbers;
  std::uint32_t const words[4] = {cell.x, cell.y, cell.z, cell.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (std::is_same_v<T, bfloat16>)
      numbers.at[2 * i] = __uint_as_float(words[i] << 16), numbers.at[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000u);
    else
      numbers.at[i] = __uint_as_float(words[i]);
  }
  return numbers;
}

/// As the tensor cores see it: then a row's score gradients add up to 0 within the rounding of sums alone.
template <class T>
[[nodiscard]] __device__ DVLA_INLINE float as_multiplied(float x) {
  return std::is_same_v<T, bfloat16> ? x : __uint_as_float(tf32_word(x));
}

/// The statistics of queries [first, first + rows), for all threads that call it: one warp, or a block's `warps`. Those of
/// queries that do not exist make their weights 0. A thread sends for Batch accesses of o at a time, then calls d_o(row, column)
/// for those of d_o: the cells that fetch_rows() has the same thread fetch. Calls meanwhile() once, when the first accesses are
/// under way.
template <class T, int D, int Batch, class Gradient, class Meanwhile>
__device__ DVLA_INLINE void find_statistics(query_statistics* to, head_rows<T const> const& o, float const* lse, int first,
                                            int rows, unsigned warp, unsigned warps, Gradient d_o, Meanwhile meanwhile) {
  using layout = tile_layout<T, D>;
  constexpr int lanes = layout::lanes;
  int const lane = static_cast<int>(threadIdx.x % 32), column = lane % lanes * layout::cell;
  int const step = static_cast<int>(warps) * (32 / lanes);
  bool under_way = false;
  for (int begin = static_cast<int>(warp) * (32 / lanes); begin < rows || !under_way; begin += Batch * step) {
    uint4 cells[Batch];
#pragma unroll
    for (int i = 0; i < Batch; ++i) {
      int const row = begin + i * step + lane / lanes;
      if (row < rows && first + row < o.count && column < o.dim)
        cells[i] = *reinterpret_cast<uint4 const*>(o.data + static_cast<std::size_t>(first + row) * o.step + column);
    }
    if (!under_way) {
      under_way = true;
      meanwhile();
      for (int row = static_cast<int>(32 * warp) + lane; row < rows; row += static_cast<int>(32 * warps))
        to[row].lse = first + row < o.count ? lse[first + row] * log2_of_e : std::numeric_limits<float>::infinity();
    }
#pragma unroll
    for (int i = 0; i < Batch; ++i) {
      int const row = begin + i * step + lane / lanes;
      float sum = 0;
      if (row < rows && first + row < o.count && column < o.dim) {
        packet<float, layout::cell> const x = numbers_of<T>(cells[i]), y = numbers_of<T>(d_o(row, column));
#pragma unroll
        for (int j = 0; j < layout::cell; ++j) sum = fmaf(x.at[j], as_multiplied<T>(y.at[j]), sum);
      }
#pragma unroll
      for (int distance = lanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0u, sum, distance);
      if (row < rows && lane % lanes == 0) to[row].delta = sum;
    }
  }
}

/// Puts 16 rows of sums times `factor` where the gradient goes: rows [first, first + 16) of the head's `count`.
template <class T, int D>
__device__ DVLA_INLINE void put_gradient(float const (&sums)[D / 8][4], float factor, gradient_target<T> const& target,
                                         head_sizes const& sizes, unsigned index, int count, int first) {
  if (!target.wanted()) return;
  if (target.contributions == nullptr) {
    auto const to = rows_of(target.to, index / sizes.heads, index % sizes.heads, count, sizes.dim);
    return put_rows<T, D>(sums, {factor, factor}, to, first, target.accumulate);
  }
  float* const head = target.contributions + std::size_t{index} * static_cast<unsigned>(count) * static_cast<unsigned>(sizes.dim);
  put_dense_rows<D>(sums, factor, head, count, sizes.dim, first);
}

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
