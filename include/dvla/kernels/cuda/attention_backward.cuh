// Attention backward on the GPU. The scores are recomputed from q, k and the rows' log sum exp (Dao, FlashAttention-2,
// arXiv 2307.08691, section 3.1.2). dq, which gathers over the keys, and dk and dv, which gather over the queries, each
// recompute their own: a warp owns 16 rows of a gradient, so nothing is exchanged and every sum has one order.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/attention_general_backward.cuh>
#include <dvla/kernels/cuda/attention_gradient.cuh>
#include <dvla/kernels/cuda/attention_launch.cuh>
#include <dvla/kernels/cuda/attention_tile.cuh>
#include <dvla/kernels/cuda/device.cuh>
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

/// As the tensor cores see it: then a row's score gradients add up to 0 within the rounding of sums alone.
template <class T>
[[nodiscard]] __device__ DVLA_INLINE float as_multiplied(float x) {
  return std::is_same_v<T, bfloat16> ? x : __uint_as_float(tf32_word(x));
}

/// The statistics of queries [first, first + rows), for all threads that call it: one warp, or a block's `warps`. Those of
/// queries that do not exist make their weights 0.
template <class T, int D>
__device__ DVLA_INLINE void find_statistics(query_statistics* to, head_rows<T const> const& o, head_rows<T const> const& d_o,
                                            float const* lse, int first, int rows, unsigned warp, unsigned warps) {
  using layout = tile_layout<T, D>;
  constexpr int lanes = layout::lanes, batch = 4;  // loads under way
  int const lane = static_cast<int>(threadIdx.x % 32), column = lane % lanes * layout::cell;
  int const step = static_cast<int>(warps) * (32 / lanes);
  for (int begin = static_cast<int>(warp) * (32 / lanes); begin < rows; begin += batch * step) {
    float sums[batch] = {};
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      int const row = begin + i * step + lane / lanes;
      if (row >= rows || first + row >= o.count || column >= o.dim) continue;
      std::size_t const at = static_cast<std::size_t>(first + row);
      auto const x = load_packet<float, layout::cell>(o.data + at * o.step + column);
      auto const y = load_packet<float, layout::cell>(d_o.data + at * d_o.step + column);
#pragma unroll
      for (int j = 0; j < layout::cell; ++j) sums[i] = fmaf(x.at[j], as_multiplied<T>(y.at[j]), sums[i]);
    }
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      int const row = begin + i * step + lane / lanes;
#pragma unroll
      for (int distance = lanes / 2; distance > 0; distance /= 2) sums[i] += __shfl_xor_sync(~0u, sums[i], distance);
      if (row < rows && lane % lanes == 0) to[row].delta = sums[i];
    }
  }
  for (int row = static_cast<int>(32 * warp) + lane; row < rows; row += static_cast<int>(32 * warps))
    to[row].lse = first + row < o.count ? lse[first + row] * log2_of_e : std::numeric_limits<float>::infinity();
}

/// This lane's places in the first block of 16 columns x and y: in x, as columns of scores and as terms of sums.
template <class T, int D>
struct column_places {
  std::uint32_t columns, terms;

  __device__ DVLA_INLINE column_places(T const* x, unsigned lane)
      : columns(shared_address(x) + place_in_columns<T, D>(lane)), terms(shared_address(x) + place_in_terms<T, D>(lane)) {}
};

/// 16 rows of a warp on their way over the columns: queries a = q, b = d_o gather d_a = dq over x = k, y = v; keys a = k,
/// b = v gather d_a = dk and d_b = dv over x = q, y = d_o.
template <class T, int D, bool OfKeys>
struct gathering_rows {
  static constexpr bool in_registers = D * sizeof(T) <= 256;  // else a and b would take half of a thread's

  row_block<T, D, in_registers> a, b;
  query_statistics row_statistics[2];  // of rows i / 4 and i / 4 + 8 for lane i; nothing of keys
  float d_a[D / 8][4] = {}, d_b[D / 8][4] = {};

  __device__ DVLA_INLINE gathering_rows(T const* tile, query_statistics const* statistics, unsigned lane)
      : a(shared_address(tile) + place_in_rows<T, D>(lane)), b(shared_address(tile + D) + place_in_rows<T, D>(lane)) {
    if constexpr (!OfKeys) row_statistics[0] = statistics[lane / 4], row_statistics[1] = statistics[lane / 4 + 8];
  }

  /// Gathers over block `i`, of which `count` columns exist. The statistics are the columns', if these are queries.
  __device__ DVLA_INLINE void gather(int i, int count, column_places<T, D> const& places, query_statistics const* statistics,
                                     float scale) {
    using layout = tile_layout<T, D>;
    std::uint32_t const block = static_cast<std::uint32_t>(i * layout::block_bytes);
    score_block weights = {}, d_scores = {};
    add_scores<T, D>(weights, a, places.columns + block);
    add_scores<T, D>(d_scores, b, places.columns + layout::to_y + block);
    if (!OfKeys && count < tile_rows) hide_columns(weights, count);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      query_statistics of[2] = {row_statistics[0], row_statistics[1]};
      if constexpr (OfKeys) load_pair_of(statistics + i * tile_rows + 8 * half + threadIdx.x % 4 * 2, of);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        auto const& query = of[OfKeys ? j % 2 : j / 2];
        float &w = weights[half][j], &d = d_scores[half][j];
        w = power_of_2(fmaf(w, scale, -query.lse));
        d = w * (d - query.delta);
      }
    }
    if constexpr (OfKeys) add_weighted<T, D>(d_b, weights, places.terms + layout::to_y + block);
    add_weighted<T, D>(d_a, d_scores, places.terms + block);
  }
};

/// Puts 16 rows of sums times `factor` where the gradient goes: rows [first, first + 16) of the head's `count`.
template <class T, int D>
__device__ DVLA_INLINE void put_gradient(float const (&sums)[D / 8][4], float factor, T* stage, gradient_target<T> const& target,
                                         head_sizes const& sizes, unsigned index, int count, int first) {
  if (!target.wanted()) return;
  if (target.contributions == nullptr) {
    auto const to = rows_of(target.to, index / sizes.heads, index % sizes.heads, count, sizes.dim);
    return put_rows<T, D>(sums, {factor, factor}, stage, to, first, target.accumulate);
  }
  float* const head = target.contributions + std::size_t{index} * static_cast<unsigned>(count) * static_cast<unsigned>(sizes.dim);
  for_pairs<D>(sums, {factor, factor}, [&](int row, int column, float x, float y) {
    if (first + row < count && column < sizes.dim)
      store_pair(head + static_cast<std::size_t>(first + row) * static_cast<unsigned>(sizes.dim) + column, x, y);
  });
}

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

/// A block's shared memory: all columns x and y, two tiles of 16 rows a warp, the statistics of all columns or of a warp's tile.
template <class T, int D, bool OfKeys>
struct backward_memory {
  T *columns, *rows;  // x and y; a and b
  query_statistics* statistics;

  __device__ DVLA_INLINE backward_memory(int count, unsigned warp, unsigned warps) {
    extern __shared__ uint4 attention_memory[];
    constexpr unsigned tile = tile_rows * tile_layout<T, D>::pitch;
    unsigned const blocks = static_cast<unsigned>(padded_rows(count)) / tile_rows;
    columns = reinterpret_cast<T*>(attention_memory), rows = columns + (blocks + warp) * tile;
    statistics = reinterpret_cast<query_statistics*>(columns + (blocks + warps) * tile) + (OfKeys ? 0 : warp * tile_rows);
  }
  [[nodiscard]] static std::size_t bytes(std::size_t columns, std::size_t warps) {
    std::size_t const padded = padded_rows(columns), rows = warps * tile_rows;
    return (padded + rows) * tile_layout<T, D>::row_bytes + (OfKeys ? padded : rows) * sizeof(query_statistics);
  }
};

/// Sends for a warp's rows from `first` on and, in the block's first round, for all columns; finds the statistics meanwhile.
template <class T, int D, bool OfKeys>
__device__ DVLA_INLINE void begin_round(backward_memory<T, D, OfKeys> const& memory, backward_head<T, OfKeys> const& head,
                                        int first, bool first_round) {
  unsigned const thread = computed_again(threadIdx.x), warps = blockDim.x / 32, warp = thread / 32, lane = thread % 32;
  fetch_rows<T, D>(memory.rows, head.a, first, tile_rows, lane, 32);
  fetch_rows<T, D>(memory.rows + D, head.b, first, tile_rows, lane, 32);
  if (first_round)
    fetch_chunks<T, D>(memory.columns, head.x, head.y);
  else
    close_fetches();
  if (!OfKeys)
    find_statistics<T, D>(memory.statistics, head.o, head.d_o, head.lse, first, tile_rows, 0, 1);
  else if (first_round)
    find_statistics<T, D>(memory.statistics, head.o, head.d_o, head.lse, 0, padded_rows(head.x.count), warp, warps);
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
  column_places<T, D> const places(memory.columns, lane);

  // In the first round, every warp waits for each chunk and at the block's barrier, even one that has no rows.
  int first = static_cast<int>(arguments.block() % arguments.blocks * warps + warp) * tile_rows;
  for (bool arriving = true; arriving || first < count; arriving = false, first += step) {
    begin_round<T, D, OfKeys>(memory, {all, arguments.head()}, first, arriving);
    wait_for_fetches(arriving ? chunks - 1 : 0);
    __syncwarp();
    gathering_rows<T, D, OfKeys> rows(memory.rows, memory.statistics, lane);
    for (int i = 0; i < blocks;) {
      if (arriving) {
        wait_for_fetches(chunks - 1 - i / blocks_of_chunk);
        __syncthreads();
      }
      for (int const end = ::min(blocks, i + blocks_of_chunk); i < end; ++i)
        if (first < count) rows.gather(i, columns - i * tile_rows, places, memory.statistics, arguments.scale);
    }
    if (first >= count) continue;
    if constexpr (OfKeys) {
      put_gradient<T, D>(rows.d_a, all.scale, memory.rows, all.dk, all.sizes, arguments.head(), count, first);
      put_gradient<T, D>(rows.d_b, 1, memory.rows + D, all.dv, all.sizes, arguments.head(), count, first);
    } else {
      put_gradient<T, D>(rows.d_a, all.scale, memory.rows, all.dq, all.sizes, arguments.head(), count, first);
    }
  }
}

template <class T, int D>
__global__ void __launch_bounds__(32 * most_warps<D>, std::is_same_v<T, bfloat16> ? 2 : 1)
    backward_kernel(__grid_constant__ tensor_backward_arguments<T> const a) {
  if (a.of_keys())
    backward_block<T, D, true>(a);
  else
    backward_block<T, D, false>(a);
}

/// The gradients by backward_kernel(), if the shape, the operands' places and the card's shared memory allow it.
template <class T>
[[nodiscard]] bool tensor_backward(cuda_queue const& queue, attention_shape const& shape, backward_arguments<T> const& all) {
  if (!has_tensor_shape<T>(shape, all.scale) || shape.queries == 0 ||
      !have_whole_accesses(all.q, all.k, all.v, all.o, all.d_o, all.dq.to, all.dk.to, all.dv.to))
    return false;
  return with_padded_dim(shape.head_dim, [&]<int D>(std::integral_constant<int, D>) {
    std::size_t const heads = shape.batch * shape.heads;
    auto const of_queries = plan_tiles(shape.queries, heads, most_warps<D>, queue),
               of_keys = plan_tiles(shape.keys, heads, most_warps<D>, queue);
    std::size_t const query_bytes = backward_memory<T, D, false>::bytes(shape.keys, of_queries.warps);
    std::size_t const key_bytes = backward_memory<T, D, true>::bytes(shape.queries, of_keys.warps);
    if (std::max(query_bytes, key_bytes) > shared_memory_limit(queue)) return false;
    bool const queries = all.dq.wanted(), keys = all.dk.wanted() || all.dv.wanted();
    bool const same_memory = all.dq.to.data == all.dk.to.data || all.dq.to.data == all.dv.to.data;
    auto const run = [&](bool of_q, bool of_k, tile_plan const& plan, std::size_t shared_bytes) {
      launch<backward_kernel<T, D>>(queue, heads * plan.blocks * (of_q && of_k ? 2 : 1), plan.warps, shared_bytes,
                                    tensor_backward_arguments<T>{all, all.scale * log2_of_e, plan.blocks, of_q, of_k});
    };
    if (queries && keys && of_queries == of_keys && !same_memory) {
      run(true, true, of_queries, std::max(query_bytes, key_bytes));
    } else {
      if (queries) run(true, false, of_queries, query_bytes);
      if (keys) run(false, true, of_keys, key_bytes);
    }
    return true;
  });
}

}  // namespace attention_cuda

/// The gradients of attention_forward(), from its inputs, its result o with lse, and the result's gradient d_o. Each of dq,
/// dk, dv is overwritten, or added to (accumulate); one whose data is null is skipped. The gradient of an operand shared by
/// all images (batch stride 0) has batch stride 0 itself and receives the sum over the images, in a fixed order. Gradients
/// that are added to may be the same memory. Runs on tensor cores where attention_forward() does, if the shared memory allows.
template <precision P, class T>
void attention_backward(basic_cuda<P> const& device, attention_shape const& shape, arithmetic_t<T> scale,
                        attention_operand<T const> q, attention_operand<T const> k, attention_operand<T const> v,
                        attention_operand<T const> o, arithmetic_t<T> const* lse, attention_operand<T const> d_o,
                        attention_operand<T> dq, attention_operand<T> dk, attention_operand<T> dv, bool accumulate) {
  using namespace attention_cuda;
  if (shape.batch * shape.heads * shape.head_dim == 0) return;
  gathered_gradient<T> const of_q(device, shape, shape.queries, dq, accumulate), of_k(device, shape, shape.keys, dk, accumulate),
      of_v(device, shape, shape.keys, dv, accumulate);
  backward_arguments<T> const arguments{
      q, k, v, o, d_o, lse, of_q.target(), of_k.target(), of_v.target(), scale, head_sizes(shape)};
  bool done = false;
  if constexpr (has_tensor_cores<P, T>) done = tensor_backward<T>(*device.queue, shape, arguments);
  if (!done) general_backward<P, T>(device, shape, arguments);
  for (auto const* gradient : {&of_q, &of_k, &of_v}) gradient->finish(*device.queue);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
