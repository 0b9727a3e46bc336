// Softmax and log sum exp over the rows of a matrix [rows, classes], and the first step of the cross-entropy built on them.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>

#include <dvla/kernels/cuda/row_team.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace softmax_rows {

/// The largest element of a row and the sum of exp(element - largest).
template <class T>
struct row_scale {
  T largest, sum;
};

/// A NaN does not count as largest, but makes the sum NaN.
template <int N, class Team, class T>
__device__ row_scale<T> scale_of(Team const& team, std::size_t classes, T const* x) {
  auto const larger = [](T a, T b) { return b > a ? b : a; };
  T largest = -std::numeric_limits<T>::infinity();
  team.template read<N>(
      classes, [&](std::size_t c) { return load_packet<T, N>(x + c); },
      [&](std::size_t, auto const& value) {
#pragma unroll
        for (int i = 0; i < N; ++i) largest = larger(largest, value.at[i]);
      });
  largest = team.reduce(largest, larger);
  packet<T, N> sum(T(0));
  team.template over<N>(classes, [&](std::size_t c) { sum = sum + exp(load_packet<T, N>(x + c) - packet<T, N>(largest)); });
  return {largest, team.sum(sum)};
}

template <class T>
struct forward_body {
  std::size_t classes;
  T const* x;
  T* y;
  template <int N, class Team>
  __device__ void row(Team const& team, std::size_t r) const {
    auto const [largest, sum] = scale_of<N>(team, classes, x + r * classes);
    packet<T, N> const top(largest), factor(T(1) / sum);
    T const* const from = x + r * classes;
    T* const to = y + r * classes;
    team.template over<N>(classes, [&](std::size_t c) { store_packet(to + c, exp(load_packet<T, N>(from + c) - top) * factor); });
  }
};

template <class T>
struct backward_body {
  std::size_t classes;
  T const* y;
  T const* dy;
  T* dx;
  bool accumulate;
  template <int N, class Team>
  __device__ void row(Team const& team, std::size_t r) const {
    T const* const value = y + r * classes;
    T const* const gradient = dy + r * classes;
    T* const to = dx + r * classes;
    packet<T, N> sum(T(0));
    team.template over<N>(classes,
                          [&](std::size_t c) { sum = sum + load_packet<T, N>(value + c) * load_packet<T, N>(gradient + c); });
    packet<T, N> const mean(team.sum(sum));
    team.template over<N>(classes, [&](std::size_t c) {
      auto const g = load_packet<T, N>(value + c) * (load_packet<T, N>(gradient + c) - mean);
      store_packet(to + c, accumulate ? load_packet<T, N>(to + c) + g : g);
    });
  }
};

template <class T>
struct log_sum_body {
  std::size_t classes;
  T const* x;
  T* lse;
  template <int N, class Team>
  __device__ void row(Team const& team, std::size_t r) const {
    auto const scale = scale_of<N>(team, classes, x + r * classes);
    if (team.rank == 0) lse[r] = scale.largest + std::log(scale.sum);
  }
};

}  // namespace softmax_rows

/// y = exp(x) / sum exp(x) of each row. y may be x.
template <precision P, class T>
void softmax_forward(basic_cuda<P> const& device, std::size_t rows, std::size_t classes, T const* x, T* y) {
  row_teams::over_rows<packet_of<T>>(device, rows, classes, softmax_rows::forward_body<T>{classes, x, y}, "computing a softmax", x,
                                     y);
}

/// dx = y (dy - sum of y dy over the row), for the softmax y; dx is overwritten or added to. dx may be dy when overwritten.
template <precision P, class T>
void softmax_backward(basic_cuda<P> const& device, std::size_t rows, std::size_t classes, T const* y, T const* dy, T* dx,
                      bool accumulate) {
  row_teams::over_rows<packet_of<T>>(device, rows, classes, softmax_rows::backward_body<T>{classes, y, dy, dx, accumulate},
                                     "computing the gradient of a softmax", y, dy, dx);
}

/// lse[row] = log sum exp(x) of the row.
template <precision P, class T>
void log_sum_exp(basic_cuda<P> const& device, std::size_t rows, std::size_t classes, T const* x, T* lse) {
  row_teams::over_rows<packet_of<T>>(device, rows, classes, softmax_rows::log_sum_body<T>{classes, x, lse}, "computing log sum exp",
                                     x);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
