// Attention forward on the GPU, o = softmax(scale q k^T) v for every head. On tensor cores a warp has 16 or 32 queries and walks
// over the keys, which lie in shared memory for the whole head, with sums relative to a maximum that is raised when it must be
// (after Dao, FlashAttention-2, arXiv 2307.08691, algorithm 1).
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
#include <dvla/kernels/cuda/attention_warpgroups.cuh>
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
  bool stages;  // queries, where that is to be chosen
};

/// 16 Tiles queries of a warp on their way over the keys. `sum` and `o` are relative to 2^top, the largest weight of a query's first
/// keys. Where later weights leave the range that floats sum up well, which is seen at the end, the warp walks again, and raises
/// `top` as it goes. `top` is finite, so that even scores of minus infinity have a distance from it.
template <class T, int D, int Tiles>
struct attending_rows {
  static constexpr float largest_sum = 0x1p48f;  // of a lane's weights: far from overflow in sums of values, too

  partly_kept_rows<T, D, forward_tiling_of<T, D, Tiles>.kept> q[Tiles];
  float o[Tiles][D / 8][4], top[Tiles][2], sum[Tiles][2];
  bool fresh;

  __device__ DVLA_INLINE void begin() {
    fresh = true;
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
#pragma unroll
      for (int i = 0; i < 2; ++i) sum[t][i] = 0, top[t][i] = std::numeric_limits<float>::lowest();
#pragma unroll
      for (int i = 0; i < D / 2; ++i) o[t][i / 4][i % 4] = 0;
    }
  }

  /// Attends to 16 Blocks keys, of which `count` exist. The addresses are this lane's in the first block.
  template <int Blocks>
  __device__ DVLA_INLINE void attend(std::uint32_t keys, std::uint32_t values, int count, float scale, bool raising) {
    score_block s[Blocks][Tiles];
    find_scores(s, keys, count);
    if (fresh || raising) raise_top(s, scale);
    fresh = false;
    find_weights(s, scale);
#pragma unroll
    for (int b = 0; b < Blocks; ++b) {
      weight_block<T> weights[Tiles];
#pragma unroll
      for (int t = 0; t < Tiles; ++t) weights[t] = weight_block<T>(s[b][t]);
      add_weighted<T, D>(o, weights, values + b * tile_layout<T, D>::block_bytes);
    }
  }

  /// False if the weights were too large, or not numbers.
  [[nodiscard]] __device__ DVLA_INLINE bool in_range() const {
    bool all = true;
#pragma unroll
    for (int i = 0; i < 2 * Tiles; ++i) all = all && sum[i / 2][i % 2] <= largest_sum;
    return __all_sync(~0u, all);
  }

 private:
  template <int Blocks>
  __device__ DVLA_INLINE void find_scores(score_block (&s)[Blocks][Tiles], std::uint32_t keys, int count) const {
#pragma unroll
    for (int b = 0; b < Blocks; ++b) {
#pragma unroll
      for (int i = 0; i < 8 * Tiles; ++i) s[b][i / 8][i / 4 % 2][i % 4] = 0;
      add_scores<T, D>(s[b], q, keys + b * tile_layout<T, D>::block_bytes);
    }
    if (count >= tile_rows * Blocks) return;
#pragma unroll
    for (int i = 0; i < Blocks * Tiles; ++i) hide_columns(s[i / Tiles][i % Tiles], count - i / Tiles * tile_rows);
  }

  /// Scores become weights, which `sum` gathers.
  template <int Blocks>
  __device__ DVLA_INLINE void find_weights(score_block (&s)[Blocks][Tiles], float scale) {
#pragma unroll
    for (int i = 0; i < 8 * Blocks * Tiles; ++i) {
      int const t = i / 8 % Tiles;
      float& x = s[i / 8 / Tiles][t][i / 4 % 2][i % 4];
      x = power_of_2(fmaf(x, scale, -top[t][i % 4 / 2]));
      sum[t][i % 4 / 2] += x;
    }
  }

  /// Brings `sum` and `o` to the maximum that includes these scores.
  template <int Blocks>
  __device__ DVLA_INLINE void raise_top(score_block const (&s)[Blocks][Tiles], float scale) {
#pragma unroll
    for (int i = 0; i < 2 * Tiles; ++i) {
      int const t = i / 2, r = i % 2;
      float largest = -std::numeric_limits<float>::infinity();
#pragma unroll
      for (int j = 0; j < 4 * Blocks; ++j) largest = fmaxf(largest, s[j / 4][t][j / 2 % 2][2 * r + j % 2]);
      float const raised = fmaxf(top[t][r], row_maximum(largest) * scale), factor = power_of_2(top[t][r] - raised);
      top[t][r] = raised;
      if (fresh) continue;
      sum[t][r] *= factor;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) o[t][n][2 * r] *= factor, o[t][n][2 * r + 1] *= factor;
    }
  }
};

/// The keys of a chunk, Blocks (4, 2 or 1) times 16 at a time, then those that are left.
template <int Blocks, class T, int D, int Tiles>
__device__ DVLA_INLINE void attend_to_chunk(attending_rows<T, D, Tiles>& rows, std::uint32_t keys, std::uint32_t values, int count,
                                            float scale, bool raising) {
  constexpr int bytes = Blocks * tile_layout<T, D>::block_bytes;
#pragma unroll 1
  for (; count > (Blocks - 1) * tile_rows; count -= Blocks * tile_rows, keys += bytes, values += bytes)
    rows.template attend<Blocks>(keys, values, count, scale, raising);
  if constexpr (Blocks > 1)
    if (count > 0) attend_to_chunk<Blocks / 2>(rows, keys, values, count, scale, raising);
}

/// One head's attention as its warps see it: where its rows lie, and this lane's places in the keys and values.
template <class T, int D, int Tiles>
struct attended_head {
  static constexpr int tile = Tiles * tile_rows;
  static constexpr bool staged_results = forward_tiling_of<T, D, Tiles>.staged && std::is_same_v<T, bfloat16>;

  forward_arguments<T> const& a;
  std::uint32_t keys, values;
  T* own;  // the warp's shared memory for its queries, if they are staged, then for their results, if they are bfloat16

  [[nodiscard]] __device__ DVLA_INLINE bool staged() const {
    return forward_tiling_of<T, D, Tiles>.staged && (staged_results || a.stages);
  }
  [[nodiscard]] __device__ DVLA_INLINE unsigned index() const { return computed_again(blockIdx.x) / a.blocks; }
  template <class Operand>
  [[nodiscard]] __device__ DVLA_INLINE auto rows(Operand const& x, unsigned index, int count) const {
    return rows_of(x, index / a.sizes.heads, index % a.sizes.heads, count, a.sizes.dim);
  }

  /// Sends for the queries from `first` on, if they are staged.
  __device__ DVLA_INLINE void fetch(unsigned index, int first) const {
    if (staged()) fetch_rows<T, D>(own, rows(a.q, index, a.sizes.queries), first, tile, threadIdx.x % 32, 32);
  }

  /// The results of the queries from `first` on, of which there may be none; staged ones have been sent for with the first chunk or
  /// before. In the block's first round (arriving), every warp waits for each chunk of keys and values and at the block's barrier,
  /// even one that has no queries.
  __device__ DVLA_INLINE void attend(int first, bool arriving) const {
    extern __shared__ uint4 attention_memory[];
    int const count = a.sizes.keys, chunks = (count + chunk_rows - 1) / chunk_rows;
    bool const attending = first < a.sizes.queries;
    attending_rows<T, D, Tiles> of;
    if constexpr (!staged_results)
      if (!staged()) of.q[0].load(rows(a.q, index(), a.sizes.queries), first);
    for (bool raising = false;; raising = true, arriving = false) {
      of.begin();
#pragma unroll 1
      for (int i = 0; i < chunks; ++i) {
        if (arriving) {
          auto* const rows = reinterpret_cast<T*>(attention_memory);
          await_chunk<T, D>(rows, rows + padded_rows(count) * tile_layout<T, D>::pitch, count, i, chunks);
        }
        if (!attending) continue;
        if (staged() && i == 0) load_staged(of);
        int const chunk = i * chunk_rows * tile_layout<T, D>::row_bytes;
        attend_to_chunk<forward_tiling_of<T, D, Tiles>.step>(of, keys + chunk, values + chunk,
                                                             ::min(chunk_rows, count - i * chunk_rows), a.scale, raising);
      }
      if (!attending) return;
      if (raising || of.in_range()) break;
    }
    put(of, first);
  }

 private:
  __device__ DVLA_INLINE void load_staged(attending_rows<T, D, Tiles>& of) const {
    if constexpr (!std::is_same_v<T, bfloat16>) {
      round_rows<T, D>(own, tile, threadIdx.x % 32, 32);  // where they are already: the same again
      __syncwarp();
    }
    std::uint32_t const place = shared_address(own) + place_in_rows<T, D>(threadIdx.x % 32);
#pragma unroll
    for (int t = 0; t < Tiles; ++t) of.q[t].load(place + t * tile_layout<T, D>::block_bytes);
  }

  __device__ DVLA_INLINE void put(attending_rows<T, D, Tiles> const& of, int first) const {
    int const lane = static_cast<int>(threadIdx.x % 32), queries = a.sizes.queries;
    unsigned const head = index();
    float* const lse = a.lse + std::size_t{head} * static_cast<unsigned>(queries);
    if constexpr (staged_results) __syncwarp();  // the queries are read
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
      float const sum[2] = {row_sum(of.sum[t][0]), row_sum(of.sum[t][1])}, factor[2] = {1 / sum[0], 1 / sum[1]};
      if constexpr (staged_results)
        stage_rows<T, D>(of.o[t], factor, shared_address(own) + t * tile_layout<T, D>::block_bytes);
      else
        put_rows<T, D>(of.o[t], factor, rows(a.o, head, queries), first + t * tile_rows, false);
      if (a.lse == nullptr || lane % 4 != 0) continue;
#pragma unroll
      for (int r = 0; r < 2; ++r)
        if (int const row = first + t * tile_rows + lane / 4 + 8 * r; row < queries)
          lse[row] = of.top[t][r] / log2_of_e + logf(sum[r]);
    }
    if constexpr (staged_results) {
      __syncwarp();
      put_staged_rows<T, D>(own, rows(a.o, head, queries), first, tile);
    }
  }
};

/// Shared memory holds all keys and then all values of a head, and staged queries of each warp. The warps of a head take that many each,
/// again and again; the first ones of blocks that are likely to meet on a multiprocessor are on different fourths of it, so that
/// last rounds, which not all warps take part in, do not meet on one.
template <class T, int D, int Tiles>
__global__ void __launch_bounds__(32 * forward_tiling_of<T, D, Tiles>.warps, forward_tiling_of<T, D, Tiles>.blocks)
    forward_kernel(__grid_constant__ forward_arguments<T> const a) {
  detail::await_predecessors();
  extern __shared__ uint4 attention_memory[];
  constexpr int pitch = tile_layout<T, D>::pitch, tile = Tiles * tile_rows;
  unsigned const warps = blockDim.x / 32, lane = threadIdx.x % 32;
  int const padded = padded_rows(a.sizes.keys);
  T* const keys = reinterpret_cast<T*>(attention_memory);
  T* const values = keys + padded * pitch;
  attended_head<T, D, Tiles> const head{a, shared_address(keys) + place_in_columns<T, D>(lane),
                                        shared_address(values) + place_in_terms<T, D>(lane),
                                        values + (padded + static_cast<int>(threadIdx.x / 32) * tile) * pitch};
  unsigned const warp = blockIdx.x % a.blocks * warps + (threadIdx.x / 32 + blockIdx.x / a.multiprocessors) % warps;
  int const step = static_cast<int>(a.blocks * warps) * tile;
  int first = static_cast<int>(warp) * tile;
  unsigned const index = head.index();
  head.fetch(index, first);
  fetch_chunks<T, D>(keys, values, head.rows(a.k, index, a.sizes.keys), head.rows(a.v, index, a.sizes.keys));
  for (bool arriving = true; arriving || first < a.sizes.queries; arriving = false, first += step) {
    if (head.staged() && !arriving) {
      __syncwarp();  // the results are read
      head.fetch(head.index(), first);
      copies_commit();
      copies_wait<0>();
      __syncwarp();
    }
    head.attend(first, arriving);
  }
}

/// Attention by forward_kernel(), 16 Tiles queries a warp, if the card's shared memory allows it; for more than 16, if it allows it to
/// as many blocks at once as registers do. Where the staged queries of all warps leave no place for the keys, floats come to
/// registers by themselves, and fewer warps do it for bfloat16.
template <class T, int D, int Tiles>
[[nodiscard]] bool forward_by_tiles(cuda_queue& queue, attention_shape const& shape, forward_arguments<T>& arguments) {
  constexpr auto tiling = forward_tiling_of<T, D, Tiles>;
  constexpr std::size_t tile = Tiles * tile_rows, blocks = Tiles > 1 ? tiling.blocks : 1, reserved = 1024;  // of each block
  std::size_t const heads = shape.batch * shape.heads;
  auto const run = [&](unsigned most, bool stages) {
    auto const plan = plan_tiles(shape.queries, heads, most, queue, tile);
    std::size_t const bytes = (2 * padded_rows(shape.keys) + (stages ? plan.warps * tile : 0)) * tile_layout<T, D>::row_bytes;
    if (blocks * (bytes + reserved) > queue.shared_memory() + reserved) return false;
    arguments.blocks = plan.blocks;
    arguments.stages = stages;
    launch<forward_kernel<T, D, Tiles>>(queue, heads * plan.blocks, plan.warps, bytes, arguments);
    return true;
  };
  if (run(tiling.warps, tiling.staged)) return true;
  if constexpr (Tiles == 1 && tiling.staged) {
    if constexpr (!std::is_same_v<T, bfloat16>) return run(tiling.warps, false);
    for (unsigned most = tiling.warps / 2; most > 0; most /= 2)
      if (run(most, true)) return true;
  }
  return false;
}

/// Attention by forward_kernel(), if the shape, the operands' places and the card's shared memory allow it.
template <class T>
[[nodiscard]] bool tensor_forward(cuda_queue& queue, attention_shape const& shape, float scale, attention_operand<T const> const& q,
                                  attention_operand<T const> const& k, attention_operand<T const> const& v,
                                  attention_operand<T> const& o, float* lse) {
  if (!has_tensor_shape<T>(shape, scale) || !have_whole_accesses(q, k, v, o)) return false;
  if constexpr (std::is_same_v<T, bfloat16>)
    if (shape.queries > 2 * chunk_rows && forward_by_warpgroups(queue, shape, scale, q, k, v, o, lse)) return true;
  forward_arguments<T> arguments{
      q, k, v, o, lse, scale * log2_of_e, head_sizes(shape), 1, static_cast<unsigned>(queue.multiprocessors()), false};
  return with_padded_dim(shape.head_dim, [&]<int D>(std::integral_constant<int, D>) {
    if constexpr (forward_tiling_of<T, D, 2>.warps != 0)  // where one tile a warp would take rounds
      if (heads_fill(shape.batch * shape.heads, queue) && shape.queries > forward_tiling_of<T, D, 1>.warps * tile_rows &&
          forward_by_tiles<T, D, 2>(queue, shape, arguments))
        return true;
    return forward_by_tiles<T, D, 1>(queue, shape, arguments);
  });
}

}  // namespace attention_cuda

/// o = softmax(scale q k^T) v per head, for q [batch, heads, queries, head_dim] and k, v [batch, heads, keys, head_dim] at the
/// strides of each operand. lse [batch, heads, queries], null or kept for the backward pass, is the log sum exp of a row's
/// scaled scores. Any lengths. bfloat16, and float where the device rounds products to tf32, are multiplied by tensor cores if
/// the rows of all operands are whole 16-byte accesses of at most 128 elements and a head's keys and values fit the shared
/// memory of a multiprocessor; the other cases are exact in arithmetic_t<T>. Code for sm_90a has bfloat16 of 129 to 200 queries, 129 to
/// 256 keys and at most 64 elements multiplied by warpgroups.
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
