// How a warp's 16 rows of sums go from the tensor cores' registers to global memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/cuda/attention_tile.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

[[nodiscard]] __device__ DVLA_INLINE float2 load_pair(bfloat16 const* from) {
  std::uint32_t const word = *reinterpret_cast<std::uint32_t const*>(from);
  return {__uint_as_float(word << 16), __uint_as_float(word & 0xFFFF0000u)};
}
[[nodiscard]] __device__ DVLA_INLINE float2 load_pair(float const* from) { return *reinterpret_cast<float2 const*>(from); }

/// Writes, or adds, 16 rows of sums times `factor` to rows [first, first + 16) of a head, as far as it has them. The four lanes of
/// a row write 32 bytes together: of float, two neighbours a lane, which the product's layout gives; of bfloat16, four, for which
/// lanes exchange one pair: even ones take the lower 8 columns of 16, odd ones the upper.
template <class T, int D>
__device__ DVLA_INLINE void put_rows(float const (&sums)[D / 8][4], float const (&factor)[2], head_rows<T> const& to, int first,
                                     bool accumulate) {
  int const lane = static_cast<int>(threadIdx.x % 32), pair = lane % 4 * 2;
  if (accumulate) __syncwarp();  // what another lane has added to the same place is there
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    int const row = first + lane / 4 + 8 * r;
    bool const there = row < to.count;
    T* const at = to.data + static_cast<std::size_t>(there ? row : 0) * to.step;
    auto const value = [&](int n) {  // of columns 8 n + pair and the next
      float2 x = {sums[n][2 * r] * factor[r], sums[n][2 * r + 1] * factor[r]};
      if (accumulate && there && 8 * n + pair < to.dim) {
        float2 const old = load_pair(at + 8 * n + pair);
        x.x += old.x, x.y += old.y;
      }
      return x;
    };
    if constexpr (std::is_same_v<T, bfloat16>) {
      bool const odd = lane % 2 != 0;
#pragma unroll
      for (int n = 0; n < D / 8; n += 2) {
        float2 const low = value(n), high = value(n + 1);
        std::uint32_t const words[2] = {bfloat16_word(low.x, low.y), bfloat16_word(high.x, high.y)};
        std::uint32_t const other = __shfl_xor_sync(~0u, odd ? words[0] : words[1], 1);
        int const column = 8 * n + pair + (odd ? 6 : 0);
        if (there && column < to.dim)
          *reinterpret_cast<uint2*>(at + column) = odd ? uint2{other, words[1]} : uint2{words[0], other};
      }
    } else {
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        float2 const x = value(n);
        if (there && 8 * n + pair < to.dim) *reinterpret_cast<float2*>(at + 8 * n + pair) = x;
      }
    }
  }
}

/// Leaves 16 rows of sums times `factor` in shared memory, from where put_staged_rows() takes them once the warp has come there.
template <class T, int D>
__device__ DVLA_INLINE void stage_rows(float const (&sums)[D / 8][4], float const (&factor)[2], std::uint32_t to) {
  static_assert(std::is_same_v<T, bfloat16>);
  std::uint32_t const at = to + threadIdx.x % 32 / 4 * tile_layout<T, D>::row_bytes + threadIdx.x % 4 * 4;
#pragma unroll
  for (int i = 0; i < D / 4; ++i) {
    float const* const x = &sums[i / 2][i % 2 * 2];
    store_word(at + i % 2 * 8 * tile_layout<T, D>::row_bytes + i / 2 * 16, bfloat16_word(x[0] * factor[i % 2], x[1] * factor[i % 2]));
  }
}

/// Copies `rows` rows of a tile to those from `first` on of a head, as far as it has them; for a warp.
template <class T, int D>
__device__ DVLA_INLINE void put_staged_rows(T const* tile, head_rows<T> const& to, int first, int rows) {
  using layout = tile_layout<T, D>;
  constexpr int step = 32 / layout::lanes;
  int const lane = static_cast<int>(threadIdx.x % 32), column = lane % layout::lanes * layout::cell;
  int const count = column < to.dim ? to.count - first : 0;
  T* at = to.data + static_cast<std::size_t>(first + lane / layout::lanes) * to.step + column;
  T const* source = tile + lane / layout::lanes * layout::pitch + column;
#pragma unroll
  for (int row = lane / layout::lanes; row < rows; row += step, at += step * to.step, source += step * layout::pitch)
    if (row < count) *reinterpret_cast<uint4*>(at) = *reinterpret_cast<uint4 const*>(source);
}

/// The same as floats in rows of `dim` numbers, one after the other.
template <int D>
__device__ DVLA_INLINE void put_dense_rows(float const (&sums)[D / 8][4], float factor, float* to, int count, int dim, int first) {
  int const lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int i = 0; i < D / 4; ++i) {
    int const row = first + lane / 4 + i % 2 * 8, column = i / 2 * 8 + lane % 4 * 2;
    float const* const x = &sums[i / 2][i % 2 * 2];
    if (row < count && column < dim)
      *reinterpret_cast<float2*>(to + static_cast<std::size_t>(row) * static_cast<unsigned>(dim) + column) =
          float2{x[0] * factor, x[1] * factor};
  }
}

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
