// Attention backward on tensor cores with all operands of a head in a block's shared memory. Warps that own keys gather dk and dv
// over the queries, warps that own queries gather dq over the keys, and either computes its own scores: seven products in place of
// the five of attention_whole_head.cuh, but nothing is exchanged, so any number of warps works on a head without waiting.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/attention_gather.cuh>
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

/// A block's shared memory: all rows of q and d_o, then of k and v, then the statistics of the queries.
template <class T, int D>
struct resident_memory {
  int queries, keys;  // padded

  DVLA_HD DVLA_INLINE explicit resident_memory(head_sizes const& s) : queries(padded_rows(s.queries)), keys(padded_rows(s.keys)) {}

  [[nodiscard]] __device__ DVLA_INLINE static T* begin() {
    extern __shared__ uint4 attention_memory[];
    return reinterpret_cast<T*>(attention_memory);
  }
  [[nodiscard]] __device__ DVLA_INLINE T* q() const { return begin(); }
  [[nodiscard]] __device__ DVLA_INLINE T* d_o() const { return q() + queries * tile_layout<T, D>::pitch; }
  [[nodiscard]] __device__ DVLA_INLINE T* k() const { return d_o() + queries * tile_layout<T, D>::pitch; }
  [[nodiscard]] __device__ DVLA_INLINE T* v() const { return k() + keys * tile_layout<T, D>::pitch; }
  [[nodiscard]] __device__ DVLA_INLINE query_statistics* statistics() const {
    return reinterpret_cast<query_statistics*>(v() + keys * tile_layout<T, D>::pitch);
  }
  [[nodiscard]] std::size_t bytes() const {
    auto const query_rows = static_cast<std::size_t>(queries), rows = 2 * (query_rows + static_cast<std::size_t>(keys));
    return rows * tile_layout<T, D>::row_bytes + query_rows * sizeof(query_statistics);
  }
};

template <class T>
struct resident_arguments {
  backward_arguments<T> all;
  float scale;  // of scores as logarithms to base 2
  unsigned multiprocessors;
};

/// Brings a head's rows and finds its queries' statistics; all are there for the block on return.
template <class T, int D>
__device__ DVLA_INLINE void fetch_operands(resident_memory<T, D> const& memory, backward_arguments<T> const& all, unsigned index) {
  auto const& s = all.sizes;
  unsigned const image = index / s.heads, head = index % s.heads, warps = blockDim.x / 32, warp = threadIdx.x / 32;
  auto const for_operands = [&](auto const& f) {
    f(memory.d_o(), all.d_o, s.queries), f(memory.q(), all.q, s.queries), f(memory.k(), all.k, s.keys), f(memory.v(), all.v, s.keys);
  };
  auto const send = [&] {
    for_operands([&](T* to, attention_operand<T const> const& from, int count) {
      fetch_rows<T, D>(to, rows_of(from, image, head, count, s.dim), 0, padded_rows(count), threadIdx.x, blockDim.x);
    });
    copies_commit();
  };
  auto const fetched_d_o = [&](int row, int column) {
    copies_wait<0>();  // this thread's, among which is this cell
    return *reinterpret_cast<uint4 const*>(memory.d_o() + row * tile_layout<T, D>::pitch + column);
  };
  find_statistics<T, D, 8>(memory.statistics(), rows_of(all.o, image, head, s.queries, s.dim),
                           all.lse + std::size_t{index} * static_cast<unsigned>(s.queries), 0, memory.queries, warp, warps,
                           fetched_d_o, send);
  copies_wait<0>();
  for_operands([&](T* to, attention_operand<T const> const&, int count) {
    round_rows<T, D>(to, padded_rows(count), threadIdx.x, blockDim.x);
  });
  __syncthreads();
}

/// The gradients of a warp's rows of a head from `first` on: dk and dv of keys, dq of queries. Where a last tile has no rows, it reads
/// those before it.
template <class T, int D, bool OfKeys>
__device__ DVLA_INLINE void gather_rows(resident_memory<T, D> const& memory, resident_arguments<T> const& arguments, unsigned index,
                                        int first) {
  constexpr auto tiling = resident_tiling_of<T, D>;
  auto const& all = arguments.all;
  unsigned const lane = threadIdx.x % 32;
  int const count = OfKeys ? all.sizes.keys : all.sizes.queries, columns = OfKeys ? all.sizes.queries : all.sizes.keys;
  gathering_rows<T, D, OfKeys, tiling.tiles, partly_kept_rows<T, D, OfKeys ? tiling.k : tiling.q>,
                 partly_kept_rows<T, D, OfKeys ? tiling.v : tiling.d_o>>
      rows;
#pragma unroll
  for (int t = 0; t < tiling.tiles; ++t) {
    int const row = ::min(first + t * tile_rows, padded_rows(count) - tile_rows);
    auto const at = static_cast<std::uint32_t>(row * tile_layout<T, D>::row_bytes) + place_in_rows<T, D>(lane);
    rows.a[t].load(shared_address(OfKeys ? memory.k() : memory.q()) + at);
    rows.b[t].load(shared_address(OfKeys ? memory.v() : memory.d_o()) + at);
    if constexpr (!OfKeys) {
      rows.row_statistics[t][0] = memory.statistics()[row + static_cast<int>(lane / 4)];
      rows.row_statistics[t][1] = memory.statistics()[row + static_cast<int>(lane / 4) + 8];
    }
  }
  column_places<T, D> const places(OfKeys ? memory.q() : memory.k(), OfKeys ? memory.queries : memory.keys, lane);
#pragma unroll 1
  for (int i = 0; i * tile_rows < columns; ++i)
    rows.gather(i, columns - i * tile_rows, places, memory.statistics(), arguments.scale);
#pragma unroll
  for (int t = 0; t < tiling.tiles; ++t) {
    int const row = first + t * tile_rows;
    if (row >= count) break;
    if constexpr (OfKeys) {
      put_gradient<T, D>(rows.d_a[t], all.scale, all.dk, all.sizes, index, count, row);
      put_gradient<T, D>(rows.d_b[t], 1, all.dv, all.sizes, index, count, row);
    } else {
      put_gradient<T, D>(rows.d_a[t], all.scale, all.dq, all.sizes, index, count, row);
    }
  }
}

template <class T, int D>
__global__ void __launch_bounds__(32 * resident_tiling_of<T, D>.warps, 1)
    resident_kernel(__grid_constant__ resident_arguments<T> const a) {
  detail::await_predecessors();
  resident_memory<T, D> const memory(a.all.sizes);
  fetch_operands<T, D>(memory, a.all, blockIdx.x);
  if (unsigned const next = blockIdx.x + a.multiprocessors; next < gridDim.x)  // a multiprocessor holds one block
    prefetch_head(a.all.sizes, next, a.all.k, a.all.v, a.all.q, a.all.o, a.all.d_o);
  constexpr int rows = resident_tiling_of<T, D>.tiles * tile_rows;
  int const of_keys = a.all.dk.wanted() || a.all.dv.wanted() ? (memory.keys + rows - 1) / rows : 0;
  int const all = of_keys + (a.all.dq.wanted() ? (memory.queries + rows - 1) / rows : 0), warps = static_cast<int>(blockDim.x / 32);
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x / 32); i < all; i += warps) {
    if (i < of_keys)
      gather_rows<T, D, true>(memory, a, blockIdx.x, i * rows);
    else
      gather_rows<T, D, false>(memory, a, blockIdx.x, (i - of_keys) * rows);
  }
}

/// The gradients by resident_kernel(), if its block holds a head and dq is not to be added to the memory of dk or dv.
template <class T, int D>
[[nodiscard]] bool resident_backward(cuda_queue& queue, attention_shape const& shape, backward_arguments<T> const& all) {
  constexpr unsigned most = resident_tiling_of<T, D>.warps;
  constexpr int tile = resident_tiling_of<T, D>.tiles * tile_rows;
  if constexpr (most == 0) {
    return false;
  } else {
    resident_memory<T, D> const memory(all.sizes);
    bool const same_memory = all.dq.wanted() && (all.dq.to.data == all.dk.to.data || all.dq.to.data == all.dv.to.data);
    if (same_memory || memory.bytes() > queue.shared_memory()) return false;
    auto const parts = [](int rows) { return static_cast<unsigned>((rows + tile - 1) / tile); };
    unsigned const tiles = parts(memory.keys) + parts(memory.queries), rounds = (tiles + most - 1) / most;
    resident_arguments<T> const arguments{all, all.scale * log2_of_e, static_cast<unsigned>(queue.multiprocessors())};
    launch<resident_kernel<T, D>>(queue, shape.batch * shape.heads, (tiles + rounds - 1) / rounds, memory.bytes(), arguments);
    return true;
  }
}

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
