// Attention backward on tensor cores, a head a block: the scores are recomputed from q, k and the rows' log sum exp (Dao,
// FlashAttention-2, arXiv 2307.08691, section 3.1.2), once for all three gradients. A warp owns keys, walks over the queries and
// gathers dk and dv in registers; the scores' gradients stay in shared memory, where, after one barrier, warps that own queries
// gather dq. Nothing is added by two warps, so every sum has one order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/attention_gradient.cuh>
#include <dvla/kernels/cuda/attention_launch.cuh>
#include <dvla/kernels/cuda/attention_statistics.cuh>
#include <dvla/kernels/cuda/attention_tile.cuh>
#include <dvla/kernels/cuda/attention_tilings.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

/// A block's shared memory, in bytes: k, q and d_o; for every 16 keys their rows of v, in whose place their rows of the scores'
/// gradients come later, since only the keys' warp reads either before the barrier; the statistics of the queries.
template <class T, int D, int Tiles>
struct whole_head_memory {
  int keys, queries;                // padded, the keys to whole warps
  std::uint32_t score_row, stripe;  // from row to row of the scores' gradients, from 16 keys to the next
  std::uint32_t q, d_o, scores, statistics, end;

  DVLA_HD DVLA_INLINE whole_head_memory(int key_count, int query_count)
      : keys((key_count + Tiles * tile_rows - 1) / (Tiles * tile_rows) * (Tiles * tile_rows)), queries(padded_rows(query_count)) {
    constexpr std::uint32_t row = tile_layout<T, D>::row_bytes;
    auto const key_rows = static_cast<std::uint32_t>(keys), query_rows = static_cast<std::uint32_t>(queries);
    score_row = query_rows * static_cast<std::uint32_t>(sizeof(T)) + 16;  // an odd number of accesses
    stripe = tile_rows * (score_row > row ? score_row : row);
    q = key_rows * row, d_o = q + query_rows * row, scores = d_o + query_rows * row;
    statistics = scores + key_rows / tile_rows * stripe;
    end = statistics + query_rows * static_cast<std::uint32_t>(sizeof(query_statistics));
  }
};

/// Where in 16 keys' gradients of scores a lane finds 16 queries, as the left side of a weighted sum over the keys.
template <class T>
[[nodiscard]] __device__ DVLA_INLINE std::uint32_t place_in_scores(unsigned lane, std::uint32_t score_row) {
  if constexpr (std::is_same_v<T, bfloat16>)
    return (lane / 16 * 8 + lane % 8) * score_row + lane / 8 % 2 * 16;
  else
    return lane % 4 * 2 * score_row + lane / 4 * 4;
}
template <class T>
__device__ DVLA_INLINE void load_scores(weight_block<T>& to, std::uint32_t at, std::uint32_t score_row) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    load_matrices_transposed(to.words[0], at);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) to.words[i / 4][i % 4] = load_word(at + (i / 4 * 8 + i % 4 / 2) * score_row + i % 2 * 32);
  }
}
/// Stores what a lane has of 16 keys by 16 queries; `at` is its place: row lane / 4, columns 2 (lane % 4) and the next.
template <class T>
__device__ DVLA_INLINE void store_scores(weight_block<T> const& from, std::uint32_t at, std::uint32_t score_row) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      std::uint32_t const to = at + half * 8 * static_cast<std::uint32_t>(sizeof(T)) + r * 8 * score_row;
      if constexpr (std::is_same_v<T, bfloat16>)
        store_word(to, from.words[0][2 * half + r]);
      else
        store_words(to, from.words[half][r], from.words[half][r + 2]);
    }
  }
}

/// 16 Tiles keys of a warp on their way over the queries.
template <class T, int D, int Tiles>
struct gathering_keys {
  partly_kept_rows<T, D, whole_head_tiling_of<T, D, Tiles>.kept> k[Tiles];
  row_block<T, D> v[Tiles];
  float d_k[Tiles][D / 8][4] = {}, d_v[Tiles][D / 8][4] = {};

  /// Gathers over 16 queries, whose statistics those are; the addresses of q and d_o are this lane's as columns and as terms.
  /// Finds the scores' gradients; those of the keys from `count` on are 0.
  __device__ DVLA_INLINE void gather(std::uint32_t const (&q)[2], std::uint32_t const (&d_o)[2], query_statistics const* statistics,
                                     int count, float scale, weight_block<T> (&gradients)[Tiles]) {
    score_block scores[Tiles] = {}, d_scores[Tiles] = {};
    add_scores<T, D>(scores, k, q[0]);
    add_scores<T, D>(d_scores, v, d_o[0]);
    int const row = static_cast<int>(threadIdx.x % 32 / 4);
    query_statistics of[2][2];
#pragma unroll
    for (int half = 0; half < 2; ++half) load_pair_of(statistics + 8 * half + threadIdx.x % 4 * 2, of[half]);
    weight_block<T> weights[Tiles];
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float &w = scores[t][i / 4][i % 4], &d = d_scores[t][i / 4][i % 4];
        w = power_of_2(fmaf(w, scale, -of[i / 4][i % 2].lse));
        d = w * (d - of[i / 4][i % 2].delta);
      }
      if (count < (t + 1) * tile_rows) {
#pragma unroll
        for (int i = 0; i < 8; ++i)
          if (t * tile_rows + i % 4 / 2 * 8 + row >= count) d_scores[t][i / 4][i % 4] = 0;
      }
      weights[t] = weight_block<T>(scores[t]), gradients[t] = weight_block<T>(d_scores[t]);
    }
    add_weighted<T, D>(d_v, weights, d_o[1]);
    add_weighted<T, D>(d_k, gradients, q[1]);
  }
};

template <class T>
struct whole_head_arguments {
  backward_arguments<T> all;
  float scale;  // of scores as logarithms to base 2
  unsigned multiprocessors;
};

/// Sends for the head's rows and finds its queries' statistics; all are there for the block on return.
template <class T, int D, int Tiles>
__device__ DVLA_INLINE void fetch_head(whole_head_memory<T, D, Tiles> const& memory, char* shared, backward_arguments<T> const& all,
                                       unsigned index) {
  auto const& s = all.sizes;
  unsigned const image = index / s.heads, head = index % s.heads, warps = blockDim.x / 32, warp = threadIdx.x / 32;
  auto const v = rows_of(all.v, image, head, s.keys, s.dim);
  auto const place = [&](std::uint32_t at) { return reinterpret_cast<T*>(shared + at); };
  auto const send = [&] {
    fetch_rows<T, D>(place(0), rows_of(all.k, image, head, s.keys, s.dim), 0, memory.keys, threadIdx.x, blockDim.x);
    for (int i = static_cast<int>(warp); i < memory.keys / tile_rows; i += static_cast<int>(warps))
      fetch_rows<T, D>(place(memory.scores + i * memory.stripe), v, i * tile_rows, tile_rows, threadIdx.x % 32, 32);
    fetch_rows<T, D>(place(memory.q), rows_of(all.q, image, head, s.queries, s.dim), 0, memory.queries, threadIdx.x, blockDim.x);
    fetch_rows<T, D>(place(memory.d_o), rows_of(all.d_o, image, head, s.queries, s.dim), 0, memory.queries, threadIdx.x,
                     blockDim.x);
    copies_commit();
  };
  auto const fetched_d_o = [&](int row, int column) {
    copies_wait<0>();  // this thread's, among which is this cell
    return *reinterpret_cast<uint4 const*>(place(memory.d_o) + row * tile_layout<T, D>::pitch + column);
  };
  find_statistics<T, D, 8>(
      reinterpret_cast<query_statistics*>(shared + memory.statistics), rows_of(all.o, image, head, s.queries, s.dim),
      all.lse + std::size_t{index} * static_cast<unsigned>(s.queries), 0, memory.queries, warp, warps, fetched_d_o, send);
  copies_wait<0>();
  if constexpr (!std::is_same_v<T, bfloat16>) {
    round_rows<T, D>(place(0), memory.keys, threadIdx.x, blockDim.x);
    for (int i = static_cast<int>(warp); i < memory.keys / tile_rows; i += static_cast<int>(warps))
      round_rows<T, D>(place(memory.scores + i * memory.stripe), tile_rows, threadIdx.x % 32, 32);
    round_rows<T, D>(place(memory.q), memory.queries, threadIdx.x, blockDim.x);
    round_rows<T, D>(place(memory.d_o), memory.queries, threadIdx.x, blockDim.x);
  }
  __syncthreads();
}

/// The gradients of the scores of a warp's keys to shared memory; dk and dv stay with the warp.
template <class T, int D, int Tiles>
__device__ DVLA_INLINE void gather_keys(gathering_keys<T, D, Tiles>& keys, whole_head_memory<T, D, Tiles> const& memory,
                                        char const* shared, int left, float scale) {
  using layout = tile_layout<T, D>;
  unsigned const lane = threadIdx.x % 32;
  std::uint32_t const begin = shared_address(shared), tile = threadIdx.x / 32 * Tiles;
  std::uint32_t const stripe = begin + memory.scores + tile * memory.stripe;
  std::uint32_t const to = stripe + lane / 4 * memory.score_row + lane % 4 * 2 * static_cast<std::uint32_t>(sizeof(T));
#pragma unroll
  for (int t = 0; t < Tiles; ++t) {
    keys.k[t].load(begin + (tile + t) * layout::block_bytes + place_in_rows<T, D>(lane));
    keys.v[t].load(stripe + t * memory.stripe + place_in_rows<T, D>(lane));
  }
  __syncwarp();  // v is read
  auto const* statistics = reinterpret_cast<query_statistics const*>(shared + memory.statistics);
  std::uint32_t columns = begin + memory.q + place_in_columns<T, D>(lane), terms = begin + memory.q + place_in_terms<T, D>(lane);
  std::uint32_t const to_d_o = memory.d_o - memory.q;
  for (int i = 0; i < memory.queries; i += tile_rows, columns += layout::block_bytes, terms += layout::block_bytes) {
    weight_block<T> gradients[Tiles];
    keys.gather({columns, terms}, {columns + to_d_o, terms + to_d_o}, statistics + i, left, scale, gradients);
#pragma unroll
    for (int t = 0; t < Tiles; ++t)
      store_scores<T>(gradients[t], to + t * memory.stripe + i * static_cast<std::uint32_t>(sizeof(T)), memory.score_row);
  }
}

/// Puts 16 rows of a gradient, by way of the warp's own rows of shared memory where those are given and nothing is added up: then in
/// accesses of 16 bytes.
template <class T, int D>
__device__ DVLA_INLINE void put_by_way_of(T* own, float const (&sums)[D / 8][4], float factor, gradient_target<T> const& target,
                                          head_sizes const& sizes, unsigned index, int count, int first) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (own != nullptr && target.contributions == nullptr && !target.accumulate) {
      if (!target.wanted()) return;
      __syncwarp();  // what was there is read
      stage_rows<T, D>(sums, {factor, factor}, shared_address(own));
      __syncwarp();
      auto const to = rows_of(target.to, index / sizes.heads, index % sizes.heads, count, sizes.dim);
      return put_staged_rows<T, D>(own, to, first, tile_rows);
    }
  }
  put_gradient<T, D>(sums, factor, target, sizes, index, count, first);
}

/// dk and dv of a warp's keys, by way of q's and d_o's places, which nobody reads any more; to be called behind a barrier for that.
template <class T, int D, int Tiles>
__device__ DVLA_INLINE void put_keys(gathering_keys<T, D, Tiles> const& keys, whole_head_memory<T, D, Tiles> const& memory,
                                     char* shared, backward_arguments<T> const& all, unsigned index) {
#pragma unroll
  for (int t = 0; t < Tiles; ++t) {
    int const first = (static_cast<int>(threadIdx.x / 32) * Tiles + t) * tile_rows, count = all.sizes.keys;
    if (first >= count) break;
    bool const fits = first < memory.queries;
    T* const q = reinterpret_cast<T*>(shared + memory.q) + first * tile_layout<T, D>::pitch;
    T* const d_o = reinterpret_cast<T*>(shared + memory.d_o) + first * tile_layout<T, D>::pitch;
    put_by_way_of<T, D>(fits ? q : nullptr, keys.d_k[t], all.scale, all.dk, all.sizes, index, count, first);
    put_by_way_of<T, D>(fits ? d_o : nullptr, keys.d_v[t], 1, all.dv, all.sizes, index, count, first);
  }
}

/// dq of the queries that fall to a warp, 16 Tiles at a time, from the gradients of all scores.
template <class T, int D, int Tiles>
__device__ DVLA_INLINE void gather_queries(whole_head_memory<T, D, Tiles> const& memory, char* shared,
                                           backward_arguments<T> const& all, unsigned index) {
  constexpr int tile = Tiles * tile_rows;
  unsigned const lane = threadIdx.x % 32;
  int const step = static_cast<int>(blockDim.x / 32) * tile, existing = padded_rows(all.sizes.keys);
  for (int first = static_cast<int>(threadIdx.x / 32) * tile; first < memory.queries; first += step) {
    float d_q[Tiles][D / 8][4] = {};
    std::uint32_t terms = shared_address(shared) + place_in_terms<T, D>(lane);
    std::uint32_t scores = shared_address(shared) + memory.scores + place_in_scores<T>(lane, memory.score_row) +
                           static_cast<std::uint32_t>(first) * static_cast<std::uint32_t>(sizeof(T));
#pragma unroll 2
    for (int i = 0; i < existing; i += tile_rows, terms += tile_layout<T, D>::block_bytes, scores += memory.stripe) {
      weight_block<T> weights[Tiles];
#pragma unroll
      for (int t = 0; t < Tiles; ++t)
        load_scores<T>(weights[t], scores + t * tile_rows * static_cast<std::uint32_t>(sizeof(T)), memory.score_row);
      add_weighted<T, D>(d_q, weights, terms);
    }
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
      int const row = first + t * tile_rows;
      if (row >= memory.queries) break;
      T* const own = reinterpret_cast<T*>(shared + memory.q) + row * tile_layout<T, D>::pitch;
      put_by_way_of<T, D>(own, d_q[t], all.scale, all.dq, all.sizes, index, all.sizes.queries, row);
    }
  }
}

template <class T, int D, int Tiles>
__global__ void __launch_bounds__(32 * whole_head_tiling_of<T, D, Tiles>.warps, 1)
    whole_head_kernel(__grid_constant__ whole_head_arguments<T> const a) {
  detail::await_predecessors();
  extern __shared__ uint4 attention_memory[];
  char* const shared = reinterpret_cast<char*>(attention_memory);
  whole_head_memory<T, D, Tiles> const memory(a.all.sizes.keys, a.all.sizes.queries);
  fetch_head<T, D>(memory, shared, a.all, blockIdx.x);
  if constexpr (Tiles > 1)  // of which a multiprocessor holds one block
    if (unsigned const next = blockIdx.x + a.multiprocessors; next < gridDim.x)
      prefetch_head(a.all.sizes, next, a.all.k, a.all.v, a.all.q, a.all.o, a.all.d_o);
  gathering_keys<T, D, Tiles> keys;
  gather_keys<T, D>(keys, memory, shared, a.all.sizes.keys - static_cast<int>(threadIdx.x / 32) * Tiles * tile_rows, a.scale);
  constexpr bool staging = std::is_same_v<T, bfloat16>;
  if constexpr (!staging) put_keys<T, D>(keys, memory, shared, a.all, blockIdx.x);
  __syncthreads();
  if constexpr (staging) put_keys<T, D>(keys, memory, shared, a.all, blockIdx.x);
  if (!a.all.dq.wanted()) return;
  if (staging && a.all.dq.accumulate) __syncthreads();  // a barrier orders additions to one place by dk, dv and dq
  gather_queries<T, D>(memory, shared, a.all, blockIdx.x);
}

/// The gradients by whole_head_kernel(), 16 Tiles keys a warp, if a head fits a block and its shared memory.
template <class T, int D, int Tiles>
[[nodiscard]] bool whole_head_by_tiles(cuda_queue& queue, attention_shape const& shape, backward_arguments<T> const& all) {
  constexpr std::size_t most = whole_head_tiling_of<T, D, Tiles>.warps, tile = Tiles * tile_rows, most_queries = 4096;
  if constexpr (most == 0) {
    return false;
  } else {
    std::size_t const warps = (shape.keys + tile - 1) / tile;
    if (warps > most || shape.queries > most_queries) return false;
    std::size_t const bytes = whole_head_memory<T, D, Tiles>(all.sizes.keys, all.sizes.queries).end;
    if (bytes > queue.shared_memory()) return false;
    whole_head_arguments<T> const arguments{all, all.scale * log2_of_e, static_cast<unsigned>(queue.multiprocessors())};
    launch<whole_head_kernel<T, D, Tiles>>(queue, shape.batch * shape.heads, static_cast<unsigned>(warps), bytes, arguments);
    return true;
  }
}
template <class T, int D>
[[nodiscard]] bool whole_head_backward(cuda_queue& queue, attention_shape const& shape, backward_arguments<T> const& all) {
  constexpr std::size_t few = 128;  // keys, of which more warps have less each
  return (shape.keys > few && whole_head_by_tiles<T, D, 2>(queue, shape, all)) || whole_head_by_tiles<T, D, 1>(queue, shape, all);
}

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
