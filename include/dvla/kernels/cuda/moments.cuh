// Mean and variance down the columns of a matrix. Deviations are taken from numbers near the mean at every level, so that a common
// mean much larger than they are costs no digits: a thread's from the first of its rows, a part's from the part's first row, the
// column's from the first part's mean.
#pragma once

#include <dvla/kernels/cuda/column_sums.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace column_sums {

/// Of each part and column: the mean less the column's first element, and the sum of squared deviations from the mean.
struct moment_parts : plain_parts<2> {
  std::size_t part_rows, rows;

  /// Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979), with the first
  /// part's mean as the common reference.
  [[nodiscard]] __device__ double begin(std::size_t matrix, std::size_t column) const { return *first(matrix, 0, column); }
  __device__ void add(double reference, std::size_t part, column_values<2> const& of_part, double (&total)[2]) const {
    double const n = static_cast<double>(part + 1 < parts ? part_rows : rows - part * part_rows);
    double const distance = of_part.at[0] - reference;
    total[0] += n * distance;
    total[1] += of_part.at[1] + n * distance * distance;
  }
  __device__ void conclude(double reference, double (&total)[2]) const {
    double const distance = total[0] / static_cast<double>(rows);
    total[1] -= total[0] * distance;
    total[0] = reference + distance;
  }
};

/// What a thread sums over its rows: deviations from the first of them, and their squares.
template <int N, class X>
struct moment_sums {
  using number = arithmetic_t<X>;
  packet<number, N> pivot, sum{number(0)}, squares{number(0)};

  __device__ explicit moment_sums(packet<number, N> const& first) : pivot(first) {}
  __device__ void add(raw_packet<X, N> const& loaded) {
    packet<number, N> const d = loaded.template as<number>() - pivot;
    sum = sum + d;
    squares = squares + d * d;
  }
  /// Of `count` rows, count times mean and squared deviations, all from `common`, into total[i] and total[N + i].
  __device__ void totals(std::size_t count, packet<number, N> const& common, double (&total)[2 * N]) const {
    double const n = static_cast<double>(count), inverse = 1 / n;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      double const s = static_cast<double>(sum.at[i]), m = s * inverse;
      double const mean = (static_cast<double>(pivot.at[i]) - static_cast<double>(common.at[i])) + m;
      total[i] = n * mean;
      total[N + i] = (static_cast<double>(squares.at[i]) - s * m) + n * mean * mean;
    }
  }
};

/// From such totals over a part of `rows` rows, whose common number lies `distance` above the column's first element, the part's
/// moments.
__device__ inline void conclude_part(std::size_t rows, double distance, double& sum, double& squares) {
  double const mean = sum / static_cast<double>(rows);
  squares -= sum * mean;
  sum = distance + mean;
}

/// Count times mean and squared deviations of a thread's rows, all from `reference`, into total[i] and total[N + i].
template <int N, class X>
__device__ void thread_moments(layout const& l, place const& at, X const* from, X const* reference, double (&total)[2 * N]) {
  using number = arithmetic_t<X>;
  std::size_t const columns = l.packets * N;
  moment_sums<N, X> sums(load_packet<number, N>(from + at.first * columns));
  in_batches<4>(
      at.first + l.lanes, at.last, l.lanes, [&](std::size_t row) { return load_raw<N>(from + row * columns); },
      [&](std::size_t, auto const& loaded) { sums.add(loaded); });
  sums.totals((at.last - at.first + l.lanes - 1) / l.lanes, load_packet<number, N>(reference), total);
}

/// finish(0, column, {mean less the first element, sum of squared deviations}), at once or through the parts.
template <int N, class X, class Finish>
__global__ void __launch_bounds__(block_threads)
    moment_kernel(layout const l, X const* x, moment_parts const parts, Finish const finish) {
  detail::await_predecessors();
  using number = arithmetic_t<X>;
  place const at(l);
  X const* const top = x + at.packet * N;
  X const* const reference = top + at.part * l.part_rows * l.packets * N;
  double total[2 * N] = {};
  if (at.active && at.first < at.last) thread_moments<N>(l, at, top, reference, total);
  add_lanes(l, at.lane, total);
  if (at.active && at.lane == 0) {
    packet<number, N> const first = load_packet<number, N>(top), common = load_packet<number, N>(reference);
#pragma unroll
    for (int i = 0; i < N; ++i)
      conclude_part(l.rows_of(at.part), static_cast<double>(common.at[i]) - static_cast<double>(first.at[i]), total[i], total[N + i]);
  }
  hand_over<N>(l, at, total, parts, finish);
}

template <int N, precision P, class X, class Finish>
void launch_moments(basic_cuda<P> const& device, std::size_t rows, std::size_t columns, X const* x, Finish const& finish) {
  layout const l = column_walks::for_sums(*device.queue, 1, rows, columns / N);
  detail::device_scratch<double> const memory(device, part_numbers<moment_parts>(l, columns));
  moment_parts const parts{{memory.data(), columns, l.parts}, l.part_rows, rows};
  detail::start(*device.queue, "computing the statistics of a batch normalisation", moment_kernel<N, X, Finish>,
                detail::blocks_of(l.blocks(), 1), block_threads, 0, l, x, parts, finish);
  launch_finish(device, l, parts, finish, "joining the statistics of a batch normalisation");
}

}  // namespace column_sums
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
