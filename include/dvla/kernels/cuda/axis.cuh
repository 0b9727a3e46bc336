// Sums over an axis in the middle of a tensor and their adjoints, and row maxima.
#pragma once

#include <cstddef>
#include <limits>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/cuda/column_sums.cuh>
#include <dvla/kernels/cuda/column_walk.cuh>
#include <dvla/kernels/cuda/row_team.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace axis_sums {

/// The elements of x themselves; matrices are dense, one after another.
template <class X>
struct terms {
  using number = arithmetic_t<X>;
  static constexpr int values = 1;
  std::size_t rows, length;
  X const* x;

  template <int N>
  struct kept {
    X const* from;
    std::size_t step;
    __device__ raw_packet<X, N> load(std::size_t row) const { return load_raw<N>(from + row * step); }
    __device__ void add(raw_packet<X, N> const& loaded, packet<number, N> (&sums)[1]) const {
      sums[0] = sums[0] + loaded.template as<number>();
    }
  };
  template <int N>
  __device__ kept<N> columns(std::size_t matrix, std::size_t c) const {
    return {x + matrix * rows * length + c, length};
  }
};

/// y = factor * sum, overwritten or added to.
template <class Y>
struct finish {
  std::size_t length;
  double factor;
  Y* y;
  bool accumulate;
  __device__ void operator()(std::size_t matrix, std::size_t c, double const (&total)[1]) const {
    using number = arithmetic_t<Y>;
    Y& to = y[matrix * length + c];
    number const value = static_cast<number>(factor * total[0]);
    to = static_cast<Y>(accumulate ? static_cast<number>(to) + value : value);
  }
};

template <class Y, class X>
struct broadcast_body {
  using number = arithmetic_t<X>;
  static constexpr int rows_together = 4;
  std::size_t rows, length;
  Y const* dy;
  number factor;
  X* dx;
  bool accumulate;

  template <int N>
  struct kept {
    packet<number, N> gradient;
    X* to;
    std::size_t step;
    bool accumulate;
    __device__ raw_packet<X, N> load(std::size_t row) const {
      return accumulate ? load_raw<N>(to + row * step) : raw_packet<X, N>{};
    }
    __device__ void store(std::size_t row, raw_packet<X, N> const& old) const {
      store_packet(to + row * step, accumulate ? old.template as<number>() + gradient : gradient);
    }
  };
  template <int N>
  __device__ kept<N> columns(std::size_t matrix, std::size_t c) const {
    return {load_anywhere<number, N>(dy + matrix * length + c) * packet<number, N>(factor), dx + matrix * rows * length + c, length,
            accumulate};
  }
};

}  // namespace axis_sums

namespace row_maxima {

template <class T>
struct forward_body {
  std::size_t columns;
  T const* x;
  T* y;
  template <int N, class Team>
  __device__ void row(Team const& team, std::size_t r) const {
    auto const larger = [](T a, T b) { return b > a || b != b ? b : a; };
    T best = -std::numeric_limits<T>::infinity();
    team.template read<N>(
        columns, [&](std::size_t c) { return load_packet<T, N>(x + r * columns + c); },
        [&](std::size_t, auto const& value) {
#pragma unroll
          for (int i = 0; i < N; ++i) best = larger(best, value.at[i]);
        });
    best = team.reduce(best, larger);
    if (team.rank == 0) y[r] = best;
  }
};

template <class T>
struct backward_body {
  std::size_t columns;
  T const* x;
  T const* dy;
  T* dx;
  bool accumulate;
  template <int N, class Team>
  __device__ void row(Team const& team, std::size_t r) const {
    auto const larger = [](T a, T b) { return b > a ? b : a; };
    T const* const from = x + r * columns;
    T* const to = dx + r * columns;
    T best = -std::numeric_limits<T>::infinity();
    team.template read<N>(
        columns, [&](std::size_t c) { return load_packet<T, N>(from + c); },
        [&](std::size_t, auto const& value) {
#pragma unroll
          for (int i = 0; i < N; ++i) best = larger(best, value.at[i]);
        });
    best = team.reduce(best, larger);
    int equal = 0;
    team.template over<N>(columns, [&](std::size_t c) {
      auto const value = load_packet<T, N>(from + c);
#pragma unroll
      for (int i = 0; i < N; ++i) equal += value.at[i] == best ? 1 : 0;
    });
    packet<T, N> const share(dy[r] / static_cast<T>(team.sum(equal))), none(T(0)), top(best);
    team.template over<N>(columns, [&](std::size_t c) {
      auto const g = select(load_packet<T, N>(from + c) == top, share, none);
      store_packet(to + c, accumulate ? load_packet<T, N>(to + c) + g : g);
    });
  }
};

}  // namespace row_maxima

/// y[o, i] = (accumulate ? y[o, i] : 0) + factor * sum over a of x[o, a, i]; x is (outer, count, inner). y may be of another type
/// than x: sums of bfloat16 are float inside, and may stay so.
template <precision P, class X, class Y>
void axis_sum_into(basic_cuda<P> const& device, std::size_t outer, std::size_t count, std::size_t inner, X const* x,
                   arithmetic_t<X> factor, Y* y, bool accumulate) {
  column_sums::over_columns<packet_of<X>>(device, outer, count, inner, axis_sums::terms<X>{count, inner, x},
                                          axis_sums::finish<Y>{inner, static_cast<double>(factor), y, accumulate},
                                          "summing over an axis", x);
}

/// y[o, i] = factor * sum over a of x[o, a, i].
template <precision P, class X, class Y>
void axis_sum(basic_cuda<P> const& device, std::size_t outer, std::size_t count, std::size_t inner, X const* x,
              arithmetic_t<X> factor, Y* y) {
  axis_sum_into(device, outer, count, inner, x, factor, y, false);
}

/// dx[o, a, i] = factor * dy[o, i] for every a, overwritten or added to.
template <precision P, class Y, class X>
void axis_broadcast(basic_cuda<P> const& device, std::size_t outer, std::size_t count, std::size_t inner, Y const* dy,
                    arithmetic_t<X> factor, X* dx, bool accumulate) {
  column_walks::over_columns<packet_of<X>>(device, outer, count, inner,
                                           axis_sums::broadcast_body<Y, X>{count, inner, dy, factor, dx, accumulate},
                                           "broadcasting along an axis", dx);
}

/// y[r] = largest of x[r, :]; a NaN in the row is the result.
template <precision P, class T>
void row_max(basic_cuda<P> const& device, std::size_t rows, std::size_t columns, T const* x, T* y) {
  row_teams::over_rows<packet_of<T>>(device, rows, columns, row_maxima::forward_body<T>{columns, x, y}, "finding row maxima", x);
}

/// dx of row_max: dy shared evenly by the elements equal to the maximum.
template <precision P, class T>
void row_max_backward(basic_cuda<P> const& device, std::size_t rows, std::size_t columns, T const* x, T const* dy, T* dx,
                      bool accumulate) {
  row_teams::over_rows<packet_of<T>>(device, rows, columns, row_maxima::backward_body<T>{columns, x, dy, dx, accumulate},
                                     "sharing the gradients of row maxima", x, dx);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
