// Sums down the columns of matrices in a fixed order: a thread adds few rows in the arithmetic type, everything above is double.
// Threads of a block join in a tree; parts of long columns leave partial sums, which a second kernel adds up.
#pragma once

#include <type_traits>

#include <dvla/kernels/cuda/column_walk.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace column_sums {

using column_walks::block_threads;
using column_walks::layout;
using column_walks::place;

template <int K>
struct column_values {
  double at[K];
};

/// The values of `parts` parts of every column, K each, and how they add up.
template <int K>
struct plain_parts {
  static constexpr int values = K;
  double* data;
  std::size_t columns, parts;

  /// The first value of a part; the next ones are `columns` further on.
  [[nodiscard]] __device__ double* first(std::size_t matrix, std::size_t part, std::size_t column) const {
    return data + (matrix * parts + part) * K * columns + column;
  }
  [[nodiscard]] __device__ column_values<K> load(std::size_t matrix, std::size_t part, std::size_t column) const {
    double const* const from = first(matrix, part, column);
    column_values<K> out;
#pragma unroll
    for (int k = 0; k < K; ++k) out.at[k] = from[static_cast<std::size_t>(k) * columns];
    return out;
  }

  /// What joining the parts of a column begins with, how a part joins in, and the whole column's values.
  [[nodiscard]] __device__ int begin(std::size_t, std::size_t) const { return 0; }
  __device__ void add(int, std::size_t, column_values<K> const& part_values, double (&total)[K]) const {
#pragma unroll
    for (int k = 0; k < K; ++k) total[k] += part_values.at[k];
  }
  __device__ void conclude(int, double (&)[K]) const {}
};

/// Adds the values of a block's lanes to those of lane 0, in a tree. Called by the whole block.
template <int M>
__device__ void add_lanes(layout const& l, unsigned lane, double (&value)[M]) {
  __shared__ double passed[M][block_threads];
  for (unsigned n = l.lanes; n > 1;) {
    unsigned const half = (n + 1) / 2;
    if (lane >= half && lane < n) {
#pragma unroll
      for (int m = 0; m < M; ++m) passed[m][threadIdx.x] = value[m];
    }
    __syncthreads();
    if (lane + half < n) {
#pragma unroll
      for (int m = 0; m < M; ++m) value[m] += passed[m][threadIdx.x + half * l.width];
    }
    __syncthreads();
    n = half;
  }
}

/// Hands lane 0's values, K to each of N columns, to finish(matrix, column, values) or to the parts.
template <int N, class Parts, class Finish>
__device__ void hand_over(layout const& l, place const& at, double const (&total)[Parts::values * N], Parts const& parts,
                          Finish const& finish) {
  constexpr int K = Parts::values;
  if (!at.active || at.lane != 0) return;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    std::size_t const column = at.packet * N + static_cast<std::size_t>(i);
    double of_column[K];
#pragma unroll
    for (int k = 0; k < K; ++k) of_column[k] = total[k * N + i];
    if (l.parts == 1) {
      finish(at.matrix, column, of_column);
    } else {
      double* const to = parts.first(at.matrix, at.part, column);
#pragma unroll
      for (int k = 0; k < K; ++k) to[static_cast<std::size_t>(k) * parts.columns] = of_column[k];
    }
  }
}

/// terms.columns<N>(matrix, c) gives what a thread keeps for its columns; of that, load(row) reads a row, and add(loaded, sums)
/// adds its Terms::values terms.
template <int N, class Terms, class Parts, class Finish>
__global__ void __launch_bounds__(block_threads)
    sum_kernel(layout const l, Terms const terms, Parts const parts, Finish const finish) {
  detail::await_predecessors();
  using number = typename Terms::number;
  constexpr int K = Parts::values;
  place const at(l);
  packet<number, N> sums[K];
#pragma unroll
  for (int k = 0; k < K; ++k) sums[k] = packet<number, N>(number(0));
  if (at.active) {
    auto const columns = terms.template columns<N>(at.matrix, at.packet * N);
    in_batches<4>(
        at.first, at.last, l.lanes, [&](std::size_t row) { return columns.load(row); },
        [&](std::size_t, auto const& loaded) { columns.add(loaded, sums); });
  }
  double total[K * N];
#pragma unroll
  for (int m = 0; m < K * N; ++m) total[m] = static_cast<double>(sums[m / N].at[m % N]);
  add_lanes(l, at.lane, total);
  hand_over<N>(l, at, total, parts, finish);
}

/// finish(matrix, column, values) with the parts of every column joined: four columns a block, 64 threads each.
template <class Parts, class Finish>
__global__ void __launch_bounds__(block_threads) finish_kernel(std::size_t outer, Parts const parts, Finish const finish) {
  detail::await_predecessors();
  constexpr int K = Parts::values;
  __shared__ double of_warp[block_threads / 32][K][4];
  unsigned const warp = threadIdx.x / 32, beside = threadIdx.x % 4;
  std::size_t const item = blockIdx.x * std::size_t{4} + beside, matrix = item / parts.columns, column = item % parts.columns;
  double total[K] = {};
  auto const reference = matrix < outer ? parts.begin(matrix, column) : 0;
  if (matrix < outer)
    in_batches<8>(
        threadIdx.x / 4, parts.parts, block_threads / 4, [&](std::size_t part) { return parts.load(matrix, part, column); },
        [&](std::size_t part, auto const& loaded) { parts.add(reference, part, loaded, total); });
#pragma unroll
  for (int k = 0; k < K; ++k) {
#pragma unroll
    for (int step = 16; step >= 4; step /= 2) total[k] += __shfl_down_sync(0xFFFFFFFFu, total[k], step);
    if (threadIdx.x % 32 < 4) of_warp[warp][k][beside] = total[k];
  }
  __syncthreads();
  if (threadIdx.x >= 4 || matrix >= outer) return;
#pragma unroll
  for (int k = 0; k < K; ++k) {
#pragma unroll
    for (unsigned w = 1; w < block_threads / 32; ++w) total[k] += of_warp[w][k][beside];
  }
  parts.conclude(reference, total);
  finish(matrix, column, total);
}

/// Numbers that the parts of a layout leave.
template <class Parts>
[[nodiscard]] std::size_t part_numbers(layout const& l, std::size_t columns) {
  return l.parts == 1 ? 0 : l.outer * l.parts * Parts::values * columns;
}

/// The second kernel, where a layout has parts.
template <precision P, class Parts, class Finish>
void launch_finish(basic_cuda<P> const& device, layout const& l, Parts const& parts, Finish const& finish, char const* doing) {
  if (l.parts == 1) return;
  detail::start(*device.queue, doing, finish_kernel<Parts, Finish>, detail::blocks_of(l.outer * parts.columns, 4), block_threads, 0,
                l.outer, parts, finish);
}

template <int N, precision P, class Terms, class Finish>
void launch(basic_cuda<P> const& device, std::size_t outer, std::size_t rows, std::size_t columns, Terms const& terms,
            Finish const& finish, char const* doing) {
  using parts_type = plain_parts<Terms::values>;
  layout const l = column_walks::for_sums(*device.queue, outer, rows, columns / N);
  detail::device_scratch<double> const memory(device, part_numbers<parts_type>(l, columns));
  parts_type const parts{memory.data(), columns, l.parts};
  detail::start(*device.queue, doing, sum_kernel<N, Terms, parts_type, Finish>, detail::blocks_of(l.blocks(), 1), block_threads, 0, l,
                terms, parts, finish);
  launch_finish(device, l, parts, finish, doing);
}

/// Calls finish(matrix, column, sums) once for each column of `outer` matrices of rows x columns, with the sums of the terms down
/// that column; without rows they are 0. Packets of N if rows are whole packets and the arrays allow them.
template <int N, precision P, class Terms, class Finish, class... E>
void over_columns(basic_cuda<P> const& device, std::size_t outer, std::size_t rows, std::size_t columns, Terms const& terms,
                  Finish const& finish, char const* doing, E const*... arrays) {
  if (outer == 0 || columns == 0) return;
  if (columns % N == 0 && allows_packets<N>(arrays...))
    launch<N>(device, outer, rows, columns, terms, finish, doing);
  else
    launch<1>(device, outer, rows, columns, terms, finish, doing);
}

}  // namespace column_sums
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
