// What the warpgroups of attention_warpgroups.cuh leave of a head's queries, up to eight, by one more warpgroup: its warps have 16 keys
// at a time each, by warps' own products, and what these come to is added up through shared memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/cuda/attention_tile.cuh>
#include <dvla/kernels/cuda/wgmma.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

inline constexpr int group_threads = 128, most_groups = 3, most_rest = 8;
inline constexpr int swizzled_row = 128;  // bytes
// How far operands of products move, by 16 and by 64 rows.
inline constexpr unsigned block_step = tile_rows * swizzled_row / 16, chunk_step = chunk_rows * swizzled_row / 16;
inline constexpr int rest_pitch = 72;  // floats of a query's part: 64 weighted sums, the exponent they are relative to, sum of weights

struct rest_of_head {
  std::uint32_t places[3];  // of the first row of queries, keys and values in shared memory
  float* parts;             // [blocks of 16 keys, queries, rest_pitch]
  float scale;
  int keys, first, count;  // of keys; the first query and the number of queries

  /// By all threads of a warpgroup, at the block's barrier of that number.
  __device__ DVLA_INLINE void attend_and_put(head_rows<bfloat16> const& to, float* lse, int barrier) const {
    int const warp = static_cast<int>(threadIdx.x % group_threads / 32);
#pragma unroll 1
    for (int block = warp; block < blocks(); block += 4) attend(block);
    await_threads<group_threads>(barrier);
#pragma unroll 1
    for (int row = warp; row < count; row += 4) put(row, to, lse);
    await_threads<group_threads>(barrier);  // before the next head's parts
  }

 private:
  [[nodiscard]] __device__ DVLA_INLINE int blocks() const { return padded_rows(keys) / tile_rows; }

  /// A block of 16 keys.
  __device__ DVLA_INLINE void attend(int block) const {
    unsigned const lane = threadIdx.x % 32;
    std::uint32_t const at = static_cast<unsigned>(block * tile_rows * swizzled_row);
    std::uint32_t const q = places[0] + static_cast<unsigned>(first * swizzled_row);
    score_block s = {};
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      std::uint32_t left[4], right[4];
      load_matrices(left, q + swizzled_place(lane % 16, 2 * i + lane / 16));
      load_matrices(right, places[1] + at + swizzled_place(lane / 16 * 8 + lane % 8, 2 * i + lane / 8 % 2));
      multiply_add<bfloat16>(s[0], left, right[0], right[1]);
      multiply_add<bfloat16>(s[1], left, right[2], right[3]);
    }
    hide_columns(s, keys - block * tile_rows);
    float const largest = fmaxf(fmaxf(s[0][0], s[0][1]), fmaxf(s[1][0], s[1][1]));
    float const top = fmaxf(std::numeric_limits<float>::lowest(), row_maximum(largest) * scale);
    float sum = 0;
    std::uint32_t weights[4] = {0, 0, 0, 0};  // rows 8 to 15 have no queries
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float const x = power_of_2(fmaf(s[i][0], scale, -top)), y = power_of_2(fmaf(s[i][1], scale, -top));
      sum += x + y;
      weights[2 * i] = bfloat16_word(x, y);
    }
    sum = row_sum(sum);
    int const row = static_cast<int>(lane / 4);
    float* const to = parts + (block * count + row) * rest_pitch;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      std::uint32_t right[4];
      load_matrices_transposed(right, places[2] + at + swizzled_place(lane % 16, 2 * i + lane / 16));
      float o[2][4] = {};
      multiply_add<bfloat16>(o[0], weights, right[0], right[1]);
      multiply_add<bfloat16>(o[1], weights, right[2], right[3]);
      if (row >= count) continue;
      *reinterpret_cast<float2*>(to + 16 * i + 2 * (lane % 4)) = float2{o[0][0], o[0][1]};
      *reinterpret_cast<float2*>(to + 16 * i + 8 + 2 * (lane % 4)) = float2{o[1][0], o[1][1]};
    }
    if (row < count && lane % 4 == 0) *reinterpret_cast<float2*>(to + 64) = float2{top, sum};
  }

  /// The result of a query, by a warp.
  __device__ DVLA_INLINE void put(int row, head_rows<bfloat16> const& to, float* lse) const {
    int const lane = static_cast<int>(threadIdx.x % 32), step = count * rest_pitch;
    float const* const from = parts + row * rest_pitch;
    float top = std::numeric_limits<float>::lowest(), sum = 0;
#pragma unroll 4
    for (int i = 0; i < blocks(); ++i) top = fmaxf(top, from[i * step + 64]);
    float2 o = {0, 0};
#pragma unroll 4
    for (int i = 0; i < blocks(); ++i) {
      float2 const of = *reinterpret_cast<float2 const*>(from + i * step + 64);
      float2 const x = *reinterpret_cast<float2 const*>(from + i * step + 2 * lane);
      float const factor = power_of_2(of.x - top);
      sum = fmaf(factor, of.y, sum);
      o.x = fmaf(factor, x.x, o.x), o.y = fmaf(factor, x.y, o.y);
    }
    if (2 * lane < to.dim)
      *reinterpret_cast<std::uint32_t*>(to.data + static_cast<std::size_t>(first + row) * to.step + 2 * lane) =
          bfloat16_word(o.x / sum, o.y / sum);
    if (lse != nullptr && lane == 0) lse[first + row] = top / log2_of_e + logf(sum);
  }
};

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
