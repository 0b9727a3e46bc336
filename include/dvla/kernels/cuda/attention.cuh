// Attention forward on the GPU, o = softmax(scale q k^T) v for every head. On tensor cores a warp keeps 16 queries in registers
// and walks over the keys, which lie in shared memory for the whole head, with a running maximum (Dao, FlashAttention-2,
// arXiv 2307.08691, algorithm 1).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/attention_general.cuh>
#include <dvla/kernels/cuda/attention_launch.cuh>
#include <dvla/kernels/cuda/attention_tile.cuh>
#include <dvla/kernels/cuda/device.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

template <class T>
struct forward_arguments {
  attention_operand<T const> q, k, v;
  attention_operand<T> o;
  float* lse;   // or null
  float scale;  // of scores as logarithms to base 2
  head_sizes sizes;
  unsigned blocks;  // of a head
};

/// 16 queries of a warp on their way over the keys. `top` is the largest scaled score so far, to base 2, and finite, so that
/// even scores of minus infinity have a distance from it; `sum` and `o` are relative to it.
template <class T, int D>
struct attending_rows {
  row_block<T, D> q;
  float o[D / 8][4] = {};
  float top[2] = {std::numeric_limits<float>::lowest(), std::numeric_limits<float>::lowest()}, sum[2] = {};

  /// Attends to 16 Blocks keys, of which `count` exist. The addresses are this lane's in the first block.
  template <int Blocks>
  __device__ DVLA_INLINE void attend(std::uint32_t keys, std::uint32_t values, int count, float scale) {
    score_block s[Blocks] = {};
#pragma unroll
    for (int b = 0; b < Blocks; ++b) add_scores<T, D>(s[b], q, keys + b * tile_layout<T, D>::block_bytes);
    if (count < tile_rows * Blocks) {
#pragma unroll
      for (int b = 0; b < Blocks; ++b) hide_columns(s[b], count - b * tile_rows);
    }
    raise_top(s, scale);
#pragma unroll
    for (int b = 0; b < Blocks; ++b) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float& x = s[b][i / 4][i % 4];
        x = power_of_2(fmaf(x, scale, -top[i % 4 / 2]));
        sum[i % 4 / 2] += x;
      }
      add_weighted<T, D>(o, s[b], values + b * tile_layout<T, D>::block_bytes);
    }
  }

 private:
  /// Brings `sum` and `o` to the maximum that includes these scores.
  template <int Blocks>
  __device__ DVLA_INLINE void raise_top(score_block const (&s)[Blocks], float scale) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = -std::numeric_limits<float>::infinity();
#pragma unroll
      for (int i = 0; i < 4 * Blocks; ++i) largest = fmaxf(largest, s[i / 4][i / 2 % 2][2 * r + i % 2]);
      float const raised = fmaxf(top[r], row_maximum(largest) * scale), factor = power_of_2(top[r] - raised);
      top[r] = raised;
      sum[r] *= factor;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) o[n][2 * r] *= factor, o[n][2 * r + 1] *= factor;
    }
  }
};

/// The keys of a chunk, which are of 4, 2 or 1 blocks of 16 at a time.
template <class T, int D>
__device__ DVLA_INLINE void attend_to_chunk(attending_rows<T, D>& rows, std::uint32_t keys, std::uint32_t values, int count,
                                            float scale) {
  constexpr int block_bytes = tile_layout<T, D>::block_bytes;
  int const blocks = padded_rows(count) / tile_rows;
  if (blocks >= 4) return rows.template attend<4>(keys, values, count, scale);
  if (blocks & 2) {
    rows.template attend<2>(keys, values, count, scale);
    keys += 2 * block_bytes, values += 2 * block_bytes, count -= 2 * tile_rows;
  }
  if (blocks & 1) rows.template attend<1>(keys, values, count, scale);
}

/// Shared memory holds all keys and values, and two tiles of 16 queries a warp: one in use, one under way.
template <class T, int D>
__global__ void __launch_bounds__(32 * most_warps<D>, 2) forward_kernel(__grid_constant__ forward_arguments<T> const a) {
  using layout = tile_layout<T, D>;
  extern __shared__ uint4 attention_memory[];
  unsigned const warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int const queries = a.sizes.queries, count = a.sizes.keys;
  auto const index = [&] { return computed_again(blockIdx.x) / a.blocks; };  // of the head, among those of all images
  auto const rows_of_head = [&](auto const& x, int rows) {
    return rows_of(x, index() / a.sizes.heads, index() % a.sizes.heads, rows, a.sizes.dim);
  };
  int const padded = padded_rows(count), chunks = (padded + chunk_rows - 1) / chunk_rows;
  T* const columns = reinterpret_cast<T*>(attention_memory);
  T* const own = columns + (padded + static_cast<int>(warp) * tile_rows) * layout::pitch;
  int const begin = static_cast<int>(blockIdx.x % a.blocks * warps + warp) * tile_rows;
  int const step = static_cast<int>(a.blocks * warps) * tile_rows;

  fetch_rows<T, D>(own, rows_of_head(a.q, queries), begin, tile_rows, lane, 32);
  fetch_chunks<T, D>(columns, rows_of_head(a.k, count), rows_of_head(a.v, count));
  // In the first round, every warp waits for each chunk and at the block's barrier, even one that has no queries.
  for (int round = 0, first = begin; round == 0 || first < queries; ++round, first += step) {
    T *const tile = own + round % 2 * D, *const next = own + (round + 1) % 2 * D;
    wait_for_fetches(round == 0 ? chunks - 1 : 0);
    __syncwarp();
    attending_rows<T, D> rows{row_block<T, D>(shared_address(tile) + place_in_rows<T, D>(lane))};
    if (first + step < queries)
      fetch_rows<T, D>(next, rows_of_head(a.q, queries), first + step, tile_rows, computed_again(lane), 32);
    close_fetches();
    for (int i = 0; i < chunks; ++i) {
      if (round == 0) {
        wait_for_fetches(chunks - i);
        __syncthreads();
      }
      int const chunk = i * chunk_rows * layout::row_bytes;
      if (first < queries)
        attend_to_chunk(rows, shared_address(columns) + place_in_columns<T, D>(lane) + chunk,
                        shared_address(columns + D) + place_in_terms<T, D>(lane) + chunk, ::min(chunk_rows, count - i * chunk_rows),
                        a.scale);
    }
    if (first >= queries) continue;
    float const sum[2] = {row_sum(rows.sum[0]), row_sum(rows.sum[1])};
    put_rows<T, D>(rows.o, {1 / sum[0], 1 / sum[1]}, tile, rows_of_head(a.o, queries), first, false);
    if (a.lse == nullptr || lane % 4 != 0) continue;
    float* const lse = a.lse + std::size_t{index()} * static_cast<unsigned>(queries);
    for (int r = 0; r < 2; ++r)
      if (int const row = first + static_cast<int>(lane / 4) + 8 * r; row < queries)
        lse[row] = rows.top[r] / log2_of_e + logf(sum[r]);
  }
}

/// Attention by forward_kernel(), if the shape, the operands' places and the card's shared memory allow it.
template <class T>
[[nodiscard]] bool tensor_forward(cuda_queue const& queue, attention_shape const& shape, float scale,
                                  attention_operand<T const> const& q, attention_operand<T const> const& k,
                                  attention_operand<T const> const& v, attention_operand<T> const& o, float* lse) {
  if (!has_tensor_shape<T>(shape, scale) || !have_whole_accesses(q, k, v, o)) return false;
  return with_padded_dim(shape.head_dim, [&]<int D>(std::integral_constant<int, D>) {
    std::size_t const heads = shape.batch * shape.heads;
    auto const plan = plan_tiles(shape.queries, heads, most_warps<D>, queue);
    std::size_t const bytes = (padded_rows(shape.keys) + std::size_t{plan.warps} * tile_rows) * tile_layout<T, D>::row_bytes;
    if (bytes > shared_memory_limit(queue)) return false;
    forward_arguments<T> const arguments{q, k, v, o, lse, scale * log2_of_e, head_sizes(shape), plan.blocks};
    launch<forward_kernel<T, D>>(queue, heads * plan.blocks, plan.warps, bytes, arguments);
    return true;
  });
}

}  // namespace attention_cuda

/// o = softmax(scale q k^T) v per head, for q [batch, heads, queries, head_dim] and k, v [batch, heads, keys, head_dim] at the
/// strides of each operand. lse [batch, heads, queries], null or kept for the backward pass, is the log sum exp of a row's
/// scaled scores. Any lengths. bfloat16, and float where the device rounds products to tf32, are multiplied by tensor cores if
/// the rows of all operands are whole 16-byte accesses of at most 128 elements and a head's keys and values fit the shared
/// memory of a multiprocessor; the other cases are exact in arithmetic_t<T>.
template <precision P, class T>
void attention_forward(basic_cuda<P> const& device, attention_shape const& shape, arithmetic_t<T> scale,
                       attention_operand<T const> q, attention_operand<T const> k, attention_operand<T const> v,
                       attention_operand<T> o, arithmetic_t<T>* lse) {
  using namespace attention_cuda;
  if (shape.batch * shape.heads * shape.queries == 0) return;
  if constexpr (has_tensor_cores<P, T>)
    if (tensor_forward<T>(*device.queue, shape, scale, q, k, v, o, lse)) return;
  general_forward<T>(*device.queue, shape, scale, q, k, v, o, lse);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
