// What the warpgroups of attention_warpgroups.cuh leave of a head's queries, up to eight, by one more warpgroup: its warps have 32 keys
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
inline constexpr int rest_keys = 32;   // at a time
inline constexpr int rest_pitch = 72;  // floats of a query's part: 64 weighted sums, the exponent they are relative to, sum of weights

/// Weights as the left side of a product, 16 columns after the other.
template <int N>
__device__ DVLA_INLINE void pack_weights(std::uint32_t (&to)[N / 2][4], float const (&s)[N][4]) {
#pragma unroll
  for (int i = 0; i < 2 * N; ++i) to[i / 4][i % 4] = bfloat16_word(s[i / 2][i % 2 * 2], s[i / 2][i % 2 * 2 + 1]);
}

struct rest_of_head {
  static constexpr int most_parts = 8;

  std::uint32_t places[3];  // of the first row of queries, keys and values in shared memory
  float* to_parts;          // [parts of 32 keys, queries, rest_pitch]
  float scale;
  int keys, first, count;  // of keys; the first query and the number of queries

  /// By all threads of a warpgroup, at the block's barrier of that number.
  __device__ DVLA_INLINE void attend_and_put(head_rows<bfloat16> const& to, float* lse, int barrier) const {
    int const warp = static_cast<int>(threadIdx.x % group_threads / 32);
#pragma unroll 1
    for (int part = warp; part < parts(); part += 4) attend(part);
    await_threads<group_threads>(barrier);
#pragma unroll 1
    for (int row = warp; row < count; row += 4) put(row, to, lse);
    await_threads<group_threads>(barrier);  // before the next head's parts
  }

 private:
  [[nodiscard]] __device__ DVLA_INLINE int parts() const { return (keys + rest_keys - 1) / rest_keys; }

  /// To 32 keys; in place of 16 that are not there, the ones before them are read, and hidden.
  __device__ DVLA_INLINE void attend(int part) const {
    unsigned const lane = threadIdx.x % 32, begin = static_cast<unsigned>(part * rest_keys);
    std::uint32_t const at[2] = {begin * swizzled_row,
                                 ::min(begin + tile_rows, static_cast<unsigned>(padded_rows(keys) - tile_rows)) * swizzled_row};
    float s[4][4] = {};
#pragma unroll
    for (unsigned i = 0; i < 8; ++i) {
      unsigned const half = i % 2, step = i / 2;
      std::uint32_t left[4], right[4];
      load_matrices(left, places[0] + swizzled_place(static_cast<unsigned>(first) + lane % 16, 2 * step + lane / 16));
      load_matrices(right, places[1] + at[half] + swizzled_place(lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
      multiply_add<bfloat16>(s[2 * half], left, right[0], right[1]);
      multiply_add<bfloat16>(s[2 * half + 1], left, right[2], right[3]);
    }
    hide_columns(s, keys - part * rest_keys);
    float largest = -std::numeric_limits<float>::infinity(), sum = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) largest = fmaxf(largest, s[i / 2][i % 2]);
    float const top = fmaxf(std::numeric_limits<float>::lowest(), row_maximum(largest) * scale);
    std::uint32_t weights[2][4] = {};  // rows 8 to 15 have no queries
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float const x = power_of_2(fmaf(s[i][0], scale, -top)), y = power_of_2(fmaf(s[i][1], scale, -top));
      sum += x + y;
      weights[i / 2][i % 2 * 2] = bfloat16_word(x, y);
    }
    sum = row_sum(sum);
    int const row = static_cast<int>(lane / 4);
    float* const to = to_parts + (part * count + row) * rest_pitch;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      float o[2][4] = {};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        std::uint32_t right[4];
        load_matrices_transposed(right, places[2] + at[half] + swizzled_place(lane % 16, 2 * i + lane / 16));
        multiply_add<bfloat16>(o[0], weights[half], right[0], right[1]);
        multiply_add<bfloat16>(o[1], weights[half], right[2], right[3]);
      }
      if (row >= count) continue;
      *reinterpret_cast<float2*>(to + 16 * i + 2 * (lane % 4)) = float2{o[0][0], o[0][1]};
      *reinterpret_cast<float2*>(to + 16 * i + 8 + 2 * (lane % 4)) = float2{o[1][0], o[1][1]};
    }
    if (row < count && lane % 4 == 0) *reinterpret_cast<float2*>(to + 64) = float2{top, sum};
  }

  /// The result of a query, by a warp.
  __device__ DVLA_INLINE void put(int row, head_rows<bfloat16> const& to, float* lse) const {
    int const lane = static_cast<int>(threadIdx.x % 32), step = count * rest_pitch;
    float const* const from = to_parts + row * rest_pitch;
    float2 x[most_parts], of[most_parts];
    float top = std::numeric_limits<float>::lowest(), sum = 0;
#pragma unroll
    for (int i = 0; i < most_parts; ++i) {
      bool const there = i < parts();
      x[i] = there ? *reinterpret_cast<float2 const*>(from + i * step + 2 * lane) : float2{0, 0};
      of[i] = there ? *reinterpret_cast<float2 const*>(from + i * step + 64) : float2{std::numeric_limits<float>::lowest(), 0};
      top = fmaxf(top, of[i].x);
    }
    float2 o = {0, 0};
#pragma unroll
    for (int i = 0; i < most_parts; ++i) {
      float const factor = power_of_2(of[i].x - top);
      sum = fmaf(factor, of[i].y, sum);
      o.x = fmaf(factor, x[i].x, o.x), o.y = fmaf(factor, x[i].y, o.y);
    }
    float const factor = 1 / sum;
    if (2 * lane < to.dim)
      *reinterpret_cast<std::uint32_t*>(to.data + static_cast<std::size_t>(first + row) * to.step + 2 * lane) =
          bfloat16_word(o.x * factor, o.y * factor);
    if (lse != nullptr && lane == 0) lse[first + row] = top / log2_of_e + logf(sum);
  }
};

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
