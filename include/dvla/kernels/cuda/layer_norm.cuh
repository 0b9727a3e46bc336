// Layer normalisation over the last axis of x [rows, columns], and its gradients.
#pragma once

#include <cmath>
#include <cstddef>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/cuda/column_sums.cuh>
#include <dvla/kernels/cuda/row_team.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace layer_norms {

template <class X>
struct forward_body {
  using number = arithmetic_t<X>;
  std::size_t columns;
  number eps;
  X const* x;
  number const* weight;
  number const* bias;
  X* y;
  number* mean;
  number* inverse_std;

  template <int N, class Team>
  __device__ void row(Team const& team, std::size_t r) const {
    X const* const from = x + r * columns;
    packet<number, N> sum(number(0)), rest(number(0)), squares(number(0));
    team.template read<N>(
        columns, [&](std::size_t c) { return load_raw<N>(from + c); },
        [&](std::size_t, auto const& loaded) { sum = sum + loaded.template as<number>(); });
    number const count = static_cast<number>(columns), about = team.sum(sum) / count;
    team.template over<N>(columns, [&](std::size_t c) {
      auto const d = load_packet<number, N>(from + c) - packet<number, N>(about);
      rest = rest + d;
      squares = squares + d * d;
    });
    number const shift = team.sum(rest) / count;  // what rounding left of the mean
    number const center = about + shift, variance = team.sum(squares) / count - shift * shift;
    number const inverse = number(1) / std::sqrt((variance < 0 ? number(0) : variance) + eps);
    team.template over<N>(columns, [&](std::size_t c) {
      auto const normal = (load_packet<number, N>(from + c) - packet<number, N>(center)) * packet<number, N>(inverse);
      store_packet(y + r * columns + c, normal * load_anywhere<number, N>(weight + c) + load_anywhere<number, N>(bias + c));
    });
    if (team.rank == 0) {
      mean[r] = center;
      inverse_std[r] = inverse;
    }
  }
};

/// The sums of dy and of dy times the normalised x.
template <class X>
struct gradient_terms {
  using number = arithmetic_t<X>;
  static constexpr int values = 2;
  std::size_t length;
  X const* x;
  X const* dy;
  number const* mean;
  number const* inverse_std;

  template <int N>
  struct kept {
    X const* x;
    X const* dy;
    number const* mean;
    number const* inverse_std;
    std::size_t step;
    struct operands {
      raw_packet<X, N> x, dy;
      number mean, inverse_std;
    };
    __device__ operands load(std::size_t row) const {
      return {load_raw<N>(x + row * step), load_raw<N>(dy + row * step), mean[row], inverse_std[row]};
    }
    __device__ void add(operands const& at, packet<number, N> (&sums)[2]) const {
      auto const g = at.dy.template as<number>();
      sums[0] = sums[0] + g;
      sums[1] = sums[1] + g * ((at.x.template as<number>() - packet<number, N>(at.mean)) * packet<number, N>(at.inverse_std));
    }
  };
  template <int N>
  __device__ kept<N> columns(std::size_t, std::size_t c) const {
    return {x + c, dy + c, mean, inverse_std, length};
  }
};

template <class T>
struct gradient_finish {
  T* dweight;
  T* dbias;
  bool accumulate;
  __device__ void operator()(std::size_t, std::size_t c, double const (&total)[2]) const {
    if (dbias != nullptr) dbias[c] = static_cast<T>(total[0]) + (accumulate ? dbias[c] : T(0));
    if (dweight != nullptr) dweight[c] = static_cast<T>(total[1]) + (accumulate ? dweight[c] : T(0));
  }
};

template <class X>
struct input_gradient_body {
  using number = arithmetic_t<X>;
  std::size_t columns;
  X const* x;
  X const* dy;
  number const* mean;
  number const* inverse_std;
  number const* weight;
  X* dx;
  bool accumulate;

  template <int N, class Team>
  __device__ void row(Team const& team, std::size_t r) const {
    using numbers = packet<number, N>;
    numbers const center(mean[r]), inverse(inverse_std[r]);
    X const* const values = x + r * columns;
    X const* const gradients = dy + r * columns;
    X* const to = dx + r * columns;
    numbers sum(number(0)), projection(number(0));
    team.template over<N>(columns, [&](std::size_t c) {
      numbers const g = load_packet<number, N>(gradients + c) * load_anywhere<number, N>(weight + c);
      sum = sum + g;
      projection = projection + g * ((load_packet<number, N>(values + c) - center) * inverse);
    });
    number const count = static_cast<number>(columns);
    numbers const offset(team.sum(sum) / count), tilt(team.sum(projection) / count);
    team.template over<N>(columns, [&](std::size_t c) {
      numbers const normal = (load_packet<number, N>(values + c) - center) * inverse;
      numbers const g = load_packet<number, N>(gradients + c) * load_anywhere<number, N>(weight + c);
      numbers const result = (g - offset - normal * tilt) * inverse;
      store_packet(to + c, accumulate ? load_packet<number, N>(to + c) + result : result);
    });
  }
};

}  // namespace layer_norms

/// y = (x - mean) / sqrt(variance + eps) * weight + bias with each row's own mean and biased variance; weight and bias are
/// [columns], mean and inverse_std [rows] are kept for the backward pass. y may be x.
template <precision P, class X>
void layer_norm_forward(basic_cuda<P> const& device, std::size_t rows, std::size_t columns, arithmetic_t<X> eps, X const* x,
                        arithmetic_t<X> const* weight, arithmetic_t<X> const* bias, X* y, arithmetic_t<X>* mean,
                        arithmetic_t<X>* inverse_std) {
  row_teams::over_rows<packet_of<X>>(device, rows, columns,
                                     layer_norms::forward_body<X>{columns, eps, x, weight, bias, y, mean, inverse_std},
                                     "computing a layer normalisation", x, y);
}

/// Gradients of layer_norm_forward(). dx [rows, columns], dweight and dbias [columns] may be null; each group is added to on
/// request.
template <precision P, class X>
void layer_norm_backward(basic_cuda<P> const& device, std::size_t rows, std::size_t columns, X const* x, X const* dy,
                         arithmetic_t<X> const* mean, arithmetic_t<X> const* inverse_std, arithmetic_t<X> const* weight,
                         std::type_identity_t<X>* dx, arithmetic_t<X>* dweight, arithmetic_t<X>* dbias, bool accumulate_dx,
                         bool accumulate_parameters) {
  constexpr int n = packet_of<X>;
  if (dweight != nullptr || dbias != nullptr)
    column_sums::over_columns<n>(device, 1, rows, columns, layer_norms::gradient_terms<X>{columns, x, dy, mean, inverse_std},
                                 layer_norms::gradient_finish<arithmetic_t<X>>{dweight, dbias, accumulate_parameters},
                                 "summing the gradients of a layer normalisation", x, dy);
  if (dx == nullptr) return;
  row_teams::over_rows<n>(device, rows, columns,
                          layer_norms::input_gradient_body<X>{columns, x, dy, mean, inverse_std, weight, dx, accumulate_dx},
                          "computing the gradient of a layer normalisation", x, dy, dx);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
