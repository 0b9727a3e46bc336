// Attention forward on the GPU, o = softmax(scale q k^T) v for every head. On tensor cores a warp keeps its queries in registers
// and walks over the keys, which lie in shared memory for the whole head, with sums relative to a maximum that is raised when it
// must be (after Dao, FlashAttention-2, arXiv 2307.08691, algorithm 1).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/attention_general.cuh>
#include <dvla/kernels/cuda/attention_launch.cuh>
#include <dvla/kernels/cuda/attention_store.cuh>
#include <dvla/kernels/cuda/attention_tile.cuh>
#include <dvla/kernels/cuda/attention_tilings.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>

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
  unsigned multiprocessors;
};

/// 16 queries of a warp on their way over the keys. `sum` and `o` are relative to 2^top, the largest weight of a query's
/// first keys; `top` is raised only where later weights leave the range that floats sum up well: a step that finds so begins anew.
/// `top` is finite, so that even scores of minus infinity have a distance from it.
template <class T, int D>
struct attending_rows {
  static constexpr float largest_sum = 0x1p16f;  // of a lane's weights of one step

  row_block<T, D> q;
  float o[D / 8][4] = {};
  float top[2] = {std::numeric_limits<float>::lowest(), std::numeric_limits<float>::lowest()}, sum[2] = {};
  bool fresh = true;

  __device__ DVLA_INLINE attending_rows(head_rows<T const> const& queries, int first) { q.load(queries, first); }

  /// Attends to 16 Blocks keys, of which `count` exist. The addresses are this lane's in the first block.
  template <int Blocks>
  __device__ DVLA_INLINE void attend(std::uint32_t keys, std::uint32_t values, int count, float scale) {
    score_block s[Blocks];
    float added[2];
    for (bool raising = fresh;; raising = true) {
      find_scores(s, keys, count);
      if (raising) raise_top(s, scale);
      bool const in_range = find_weights(s, added, scale);
      if (raising || __all_sync(~0u, in_range)) break;
    }
    fresh = false;
    sum[0] += added[0], sum[1] += added[1];
#pragma unroll
    for (int b = 0; b < Blocks; ++b) add_weighted<T, D>(o, weight_block<T>(s[b]), values + b * tile_layout<T, D>::block_bytes);
  }

 private:
  template <int Blocks>
  __device__ DVLA_INLINE void find_scores(score_block (&s)[Blocks], std::uint32_t keys, int count) const {
#pragma unroll
    for (int b = 0; b < Blocks; ++b) {
#pragma unroll
      for (int i = 0; i < 8; ++i) s[b][i / 4][i % 4] = 0;
      add_scores<T, D>(s[b], q, keys + b * tile_layout<T, D>::block_bytes);
    }
    if (count >= tile_rows * Blocks) return;
#pragma unroll
    for (int b = 0; b < Blocks; ++b) hide_columns(s[b], count - b * tile_rows);
  }

  /// Scores become weights, and `added` this lane's sums of them; false if those are too large, or not numbers.
  template <int Blocks>
  __device__ DVLA_INLINE bool find_weights(score_block (&s)[Blocks], float (&added)[2], float scale) const {
    added[0] = added[1] = 0;
#pragma unroll
    for (int i = 0; i < 8 * Blocks; ++i) {
      float& x = s[i / 8][i / 4 % 2][i % 4];
      x = power_of_2(fmaf(x, scale, -top[i % 4 / 2]));
      added[i % 4 / 2] += x;
    }
    return added[0] <= largest_sum && added[1] <= largest_sum;
  }

  /// Brings `sum` and `o` to the maximum that includes these scores.
  template <int Blocks>
  __device__ DVLA_INLINE void raise_top(score_block const (&s)[Blocks], float scale) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = -std::numeric_limits<float>::infinity();
#pragma unroll
      for (int j = 0; j < 4 * Blocks; ++j) largest = fmaxf(largest, s[j / 4][j / 2 % 2][2 * r + j % 2]);
      float const raised = fmaxf(top[r], row_maximum(largest) * scale), factor = power_of_2(top[r] - raised);
      top[r] = raised;
      sum[r] *= factor;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) o[n][2 * r] *= factor, o[n][2 * r + 1] *= factor;
    }
  }
};

/// The keys of a chunk, Blocks (4, 2 or 1) times 16 at a time, then those that are left.
template <int Blocks, class T, int D>
__device__ DVLA_INLINE void attend_to_chunk(attending_rows<T, D>& rows, std::uint32_t keys, std::uint32_t values, int count,
                                            float scale) {
  constexpr int bytes = Blocks * tile_layout<T, D>::block_bytes;
  for (; count > (Blocks - 1) * tile_rows; count -= Blocks * tile_rows, keys += bytes, values += bytes)
    rows.template attend<Blocks>(keys, values, count, scale);
  if constexpr (Blocks > 1)
    if (count > 0) attend_to_chunk<Blocks / 2>(rows, keys, values, count, scale);
}

/// One head's attention as its warps see it: where its rows lie, and this lane's places in the keys and values.
template <class T, int D>
struct attended_head {
  forward_arguments<T> const& a;
  std::uint32_t keys, values;

  [[nodiscard]] __device__ DVLA_INLINE unsigned index() const { return computed_again(blockIdx.x) / a.blocks; }
  template <class Operand>
  [[nodiscard]] __device__ DVLA_INLINE auto rows(Operand const& x, int count) const {
    return rows_of(x, index() / a.sizes.heads, index() % a.sizes.heads, count, a.sizes.dim);
  }

  /// The results of 16 queries from `first` on, of which there may be none. In the block's first round (arriving), every warp
  /// waits for each chunk of keys and values and at the block's barrier, even one that has no queries.
  __device__ DVLA_INLINE void attend(int first, bool arriving) const {
    int const queries = a.sizes.queries, count = a.sizes.keys, chunks = (count + chunk_rows - 1) / chunk_rows;
    attending_rows<T, D> of(rows(a.q, queries), first);
    for (int i = 0; i < chunks; ++i) {
      if (arriving) {
        wait_for_copies(chunks - 1 - i);
        __syncthreads();
      }
      int const chunk = i * chunk_rows * tile_layout<T, D>::row_bytes;
      if (first < queries)
        attend_to_chunk<forward_tiling_of<T, D>.step>(of, keys + chunk, values + chunk, ::min(chunk_rows, count - i * chunk_rows),
                                                      a.scale);
    }
    if (first >= queries) return;
    float const sum[2] = {row_sum(of.sum[0]), row_sum(of.sum[1])};
    put_rows<T, D>(of.o, {1 / sum[0], 1 / sum[1]}, rows(a.o, queries), first, false);
    if (a.lse == nullptr || threadIdx.x % 4 != 0) return;
    float* const lse = a.lse + std::size_t{index()} * static_cast<unsigned>(queries);
    for (int r = 0; r < 2; ++r)
      if (int const row = first + static_cast<int>(threadIdx.x % 32 / 4) + 8 * r; row < queries)
        lse[row] = of.top[r] / log2_of_e + logf(sum[r]);
  }
};

/// Shared memory holds all keys and then all values of a head; queries and results go straight to and from registers. The warps of
/// a head take 16 queries each, again and again; the first ones of blocks that are likely to meet on a multiprocessor are on
/// different fourths of it, so that last rounds, which not all warps take part in, do not meet on one.
template <class T, int D>
__global__ void __launch_bounds__(32 * forward_tiling_of<T, D>.warps, forward_tiling_of<T, D>.blocks)
    forward_kernel(__grid_constant__ forward_arguments<T> const a) {
  detail::await_predecessors();
  extern __shared__ uint4 attention_memory[];
  unsigned const warps = blockDim.x / 32, lane = threadIdx.x % 32;
  T* const keys = reinterpret_cast<T*>(attention_memory);
  T* const values = keys + padded_rows(a.sizes.keys) * tile_layout<T, D>::pitch;
  attended_head<T, D> const head{a, shared_address(keys) + place_in_columns<T, D>(lane),
                                 shared_address(values) + place_in_terms<T, D>(lane)};
  fetch_chunks<T, D>(keys, values, head.rows(a.k, a.sizes.keys), head.rows(a.v, a.sizes.keys));

  int const step = static_cast<int>(a.blocks * warps) * tile_rows;
  unsigned const warp = blockIdx.x % a.blocks * warps + (threadIdx.x / 32 + blockIdx.x / a.multiprocessors) % warps;
  int first = static_cast<int>(warp) * tile_rows;
  for (bool arriving = true; arriving || first < a.sizes.queries; arriving = false, first += step) head.attend(first, arriving);
}

/// Attention by forward_kernel(), if the shape, the operands' places and the card's shared memory allow it.
template <class T>
[[nodiscard]] bool tensor_forward(cuda_queue& queue, attention_shape const& shape, float scale, attention_operand<T const> const& q,
                                  attention_operand<T const> const& k, attention_operand<T const> const& v,
                                  attention_operand<T> const& o, float* lse) {
  if (!has_tensor_shape<T>(shape, scale) || !have_whole_accesses(q, k, v, o)) return false;
  return with_padded_dim(shape.head_dim, [&]<int D>(std::integral_constant<int, D>) {
    std::size_t const bytes = 2 * padded_rows(shape.keys) * tile_layout<T, D>::row_bytes, heads = shape.batch * shape.heads;
    if (bytes > queue.shared_memory()) return false;
    auto const plan = plan_tiles(shape.queries, heads, forward_tiling_of<T, D>.warps, queue);
    forward_arguments<T> const arguments{
        q, k, v, o, lse, scale * log2_of_e, head_sizes(shape), plan.blocks, static_cast<unsigned>(queue.multiprocessors())};
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
