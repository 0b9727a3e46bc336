// Attention backward on tensor cores, for heads that do not fit a block: dq, which gathers over the keys, and dk and
// dv, which gather over the queries, each recompute their own scores: a warp owns 16 rows of a gradient, so nothing is exchanged
// and every sum has one order.
#pragma once

#include <algorithm>
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

/// This lane's places in the first block of 16 columns x, as columns of scores and as terms of sums; columns y lie `to_y` further
/// on.
template <class T, int D>
struct column_places {
  std::uint32_t columns, terms, to_y;

  __device__ DVLA_INLINE column_places(T const* x, int rows, unsigned lane)
      : columns(shared_address(x) + place_in_columns<T, D>(lane)),
        terms(shared_address(x) + place_in_terms<T, D>(lane)),
        to_y(static_cast<std::uint32_t>(rows * tile_layout<T, D>::row_bytes)) {}
};

/// 16 rows of operands, in registers where they fit.
template <class T, int D>
using rows_of_warp = std::conditional_t<rows_fit_registers<T, D>, row_block<T, D>, shared_row_block<T, D>>;

/// 16 Tiles rows of a warp on their way over the columns: queries a = q, b = d_o gather d_a = dq over x = k, y = v; keys a = k,
/// b = v gather d_a = dk and d_b = dv over x = q, y = d_o.
template <class T, int D, bool OfKeys, int Tiles = 1, class A = rows_of_warp<T, D>, class B = A>
struct gathering_rows {
  A a[Tiles];
  B b[Tiles];
  query_statistics row_statistics[Tiles][2];  // of rows i / 4 and i / 4 + 8 of a tile for lane i; nothing of keys
  float d_a[Tiles][D / 8][4] = {}, d_b[Tiles][D / 8][4] = {};

  /// Gathers over block `i`, of which `count` columns exist. The statistics are the columns', if these are queries.
  __device__ DVLA_INLINE void gather(int i, int count, column_places<T, D> const& places, query_statistics const* statistics,
                                     float scale) {
    std::uint32_t const block = static_cast<std::uint32_t>(i * tile_layout<T, D>::block_bytes);
    score_block scores[Tiles] = {}, d_scores[Tiles] = {};
    add_scores<T, D>(scores, a, places.columns + block);
    add_scores<T, D>(d_scores, b, places.columns + places.to_y + block);
    query_statistics of_columns[2][2];
    if constexpr (OfKeys) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        load_pair_of(statistics + i * tile_rows + 8 * half + threadIdx.x % 4 * 2, of_columns[half]);
    }
    weight_block<T> weights[Tiles], gradients[Tiles];
#pragma unroll
    for (int t = 0; t < Tiles; ++t) {
      if (!OfKeys && count < tile_rows) hide_columns(scores[t], count);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        auto const& query = OfKeys ? of_columns[j / 4][j % 2] : row_statistics[t][j % 4 / 2];
        float &w = scores[t][j / 4][j % 4], &d = d_scores[t][j / 4][j % 4];
        w = power_of_2(fmaf(w, scale, -query.lse));
        d = w * (d - query.delta);
      }
      weights[t] = weight_block<T>(scores[t]), gradients[t] = weight_block<T>(d_scores[t]);
    }
    if constexpr (OfKeys) add_weighted<T, D>(d_b, weights, places.terms + places.to_y + block);
    add_weighted<T, D>(d_a, gradients, places.terms + block);
  }
};

template <class T>
struct tensor_backward_arguments {
  backward_arguments<T> all;
  float scale;         // of scores as logarithms to base 2
  unsigned blocks;     // of a head, for each gradient
  bool queries, keys;  // the gradients to compute: of both, every other block's are of keys

  [[nodiscard]] __device__ bool of_keys() const { return queries && keys ? blockIdx.x % 2 == 0 : keys; }
  [[nodiscard]] __device__ unsigned block() const { return computed_again(blockIdx.x) / (queries && keys ? 2 : 1); }
  [[nodiscard]] __device__ unsigned head() const { return block() / blocks; }
};

/// One head's operands: the rows a, b and columns x, y of gathering_rows, and what the statistics of its queries come from.
template <class T, bool OfKeys>
struct backward_head {
  head_rows<T const> a, b, x, y, o, d_o;
  float const* lse;

  __device__ DVLA_INLINE backward_head(backward_arguments<T> const& all, unsigned index) {
    auto const& s = all.sizes;
    unsigned const image = index / s.heads, head = index % s.heads;
    auto const q = rows_of(all.q, image, head, s.queries, s.dim), k = rows_of(all.k, image, head, s.keys, s.dim);
    auto const v = rows_of(all.v, image, head, s.keys, s.dim);
    o = rows_of(all.o, image, head, s.queries, s.dim), d_o = rows_of(all.d_o, image, head, s.queries, s.dim);
    if constexpr (OfKeys)
      a = k, b = v, x = q, y = d_o;
    else
      a = q, b = d_o, x = k, y = v;
    lse = all.lse + std::size_t{index} * static_cast<unsigned>(s.queries);
  }
};

/// A block's shared memory: all columns x, then y; a warp's rows a and b, unless they are in registers; the statistics of all
/// columns or of a warp's rows.
template <class T, int D, bool OfKeys>
struct backward_memory {
  static constexpr std::size_t rows_of_warp = rows_fit_registers<T, D> ? 0 : 2 * tile_rows;

  T *columns, *rows;
  query_statistics* statistics;

  __device__ DVLA_INLINE backward_memory(int count, unsigned warp, unsigned warps) {
    extern __shared__ uint4 attention_memory[];
    constexpr unsigned pitch = tile_layout<T, D>::pitch;
    unsigned const both = 2 * static_cast<unsigned>(padded_rows(count));
    columns = reinterpret_cast<T*>(attention_memory), rows = columns + (both + warp * rows_of_warp) * pitch;
    statistics = reinterpret_cast<query_statistics*>(columns + (both + warps * rows_of_warp) * pitch);
    if (!OfKeys) statistics += warp * tile_rows;
  }
  [[nodiscard]] static std::size_t bytes(std::size_t columns, std::size_t warps) {
    std::size_t const padded = padded_rows(columns);
    return (2 * padded + warps * rows_of_warp) * tile_layout<T, D>::row_bytes +
           (OfKeys ? padded : warps * tile_rows) * sizeof(query_statistics);
  }
};

/// Sends for all columns in the block's first round, finds the statistics, and returns a warp's rows from `first` on.
template <class T, int D, bool OfKeys>
__device__ DVLA_INLINE gathering_rows<T, D, OfKeys> begin_round(backward_memory<T, D, OfKeys> const& memory,
                                                                backward_head<T, OfKeys> const& head, int first, bool first_round) {
  unsigned const thread = computed_again(threadIdx.x), warps = blockDim.x / 32, warp = thread / 32, lane = thread % 32;
  T* const y = memory.columns + padded_rows(head.x.count) * tile_layout<T, D>::pitch;
  if (first_round) fetch_chunks<T, D>(memory.columns, y, head.x, head.y);
  __syncwarp();                                       // for what the last round read of the warp's memory
  constexpr int batch = D * sizeof(T) < 256 ? 4 : 1;  // where registers are left
  int const begin = OfKeys ? 0 : first;
  auto const d_o = [&](int row, int column) {
    return *reinterpret_cast<uint4 const*>(head.d_o.data + static_cast<std::size_t>(begin + row) * head.d_o.step + column);
  };
  if (!OfKeys)
    find_statistics<T, D, batch>(memory.statistics, head.o, head.lse, first, tile_rows, 0, 1, d_o, [] {});
  else if (first_round)
    find_statistics<T, D, batch>(memory.statistics, head.o, head.lse, 0, padded_rows(head.x.count), warp, warps, d_o, [] {});
  gathering_rows<T, D, OfKeys> rows;
  if constexpr (rows_fit_registers<T, D>) {
    rows.a[0].load(head.a, first);
    rows.b[0].load(head.b, first);
  } else {
    T* const b = memory.rows + tile_rows * tile_layout<T, D>::pitch;
    fetch_rows<T, D>(memory.rows, head.a, first, tile_rows, lane, 32);
    fetch_rows<T, D>(b, head.b, first, tile_rows, lane, 32);
    copies_commit();
    copies_wait<0>();
    round_rows<T, D>(memory.rows, tile_rows, lane, 32);
    round_rows<T, D>(b, tile_rows, lane, 32);
    __syncwarp();
    rows.a[0].load(shared_address(memory.rows) + place_in_rows<T, D>(lane));
    rows.b[0].load(shared_address(b) + place_in_rows<T, D>(lane));
  }
  __syncwarp();
  if constexpr (!OfKeys)
    rows.row_statistics[0][0] = memory.statistics[lane / 4], rows.row_statistics[0][1] = memory.statistics[lane / 4 + 8];
  return rows;
}

/// The tiles of one head that fall to a block.
template <class T, int D, bool OfKeys>
__device__ DVLA_INLINE void backward_block(tensor_backward_arguments<T> const& arguments) {
  auto const& all = arguments.all;
  unsigned const warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int const count = OfKeys ? all.sizes.keys : all.sizes.queries, columns = OfKeys ? all.sizes.queries : all.sizes.keys;
  int const blocks = padded_rows(columns) / tile_rows, chunks = (blocks + blocks_of_chunk - 1) / blocks_of_chunk;
  int const step = static_cast<int>(arguments.blocks * warps) * tile_rows;
  backward_memory<T, D, OfKeys> const memory(columns, warp, warps);
  column_places<T, D> const places(memory.columns, blocks * tile_rows, lane);
  T* const y = memory.columns + blocks * tile_rows * tile_layout<T, D>::pitch;

  // In the first round, every warp waits for each chunk and at the block's barrier, even one that has no rows.
  int first = static_cast<int>(arguments.block() % arguments.blocks * warps + warp) * tile_rows;
  for (bool arriving = true; arriving || first < count; arriving = false, first += step) {
    auto rows = begin_round<T, D, OfKeys>(memory, {all, arguments.head()}, first, arriving);
    for (int i = 0; i < blocks;) {
      if (arriving) await_chunk<T, D>(memory.columns, y, columns, i / blocks_of_chunk, chunks);
      for (int const end = ::min(blocks, i + blocks_of_chunk); i < end; ++i)
        if (first < count) rows.gather(i, columns - i * tile_rows, places, memory.statistics, arguments.scale);
    }
    if (first >= count) continue;
    if constexpr (OfKeys) {
      put_gradient<T, D>(rows.d_a[0], all.scale, all.dk, all.sizes, arguments.head(), count, first);
      put_gradient<T, D>(rows.d_b[0], 1, all.dv, all.sizes, arguments.head(), count, first);
    } else {
      put_gradient<T, D>(rows.d_a[0], all.scale, all.dq, all.sizes, arguments.head(), count, first);
    }
  }
}

template <class T, int D>
__global__ void __launch_bounds__(32 * gather_tiling_of<T, D>.warps, gather_tiling_of<T, D>.blocks)
    gather_kernel(__grid_constant__ tensor_backward_arguments<T> const a) {
  detail::await_predecessors();
  if (a.of_keys())
    backward_block<T, D, true>(a);
  else
    backward_block<T, D, false>(a);
}

/// The gradients by gather_kernel(), if the card's shared memory allows it.
template <class T, int D>
[[nodiscard]] bool gather_backward(cuda_queue& queue, attention_shape const& shape, backward_arguments<T> const& all) {
  constexpr std::size_t most = gather_tiling_of<T, D>.warps;
  std::size_t const heads = shape.batch * shape.heads;
  auto const of_queries = plan_tiles(shape.queries, heads, most, queue), of_keys = plan_tiles(shape.keys, heads, most, queue);
  std::size_t const query_bytes = backward_memory<T, D, false>::bytes(shape.keys, of_queries.warps);
  std::size_t const key_bytes = backward_memory<T, D, true>::bytes(shape.queries, of_keys.warps);
  if (std::max(query_bytes, key_bytes) > queue.shared_memory()) return false;
  bool const queries = all.dq.wanted(), keys = all.dk.wanted() || all.dv.wanted();
  bool const same_memory = all.dq.to.data == all.dk.to.data || all.dq.to.data == all.dv.to.data;
  auto const run = [&](bool of_q, bool of_k, tile_plan const& plan, std::size_t shared_bytes) {
    launch<gather_kernel<T, D>>(queue, heads * plan.blocks * (of_q && of_k ? 2 : 1), plan.warps, shared_bytes,
                                tensor_backward_arguments<T>{all, all.scale * log2_of_e, plan.blocks, of_q, of_k});
  };
  if (queries && keys && of_queries == of_keys && !same_memory) {
    run(true, true, of_queries, std::max(query_bytes, key_bytes));
  } else {
    if (queries) run(true, false, of_queries, query_bytes);
    if (keys) run(false, true, of_keys, key_bytes);
  }
  return true;
}

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
