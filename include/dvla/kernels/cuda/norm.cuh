// Batch normalisation over the rows of x [rows, channels], and its gradients. Layer normalisation is included beside it.
#pragma once

#include <cstddef>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/cuda/column_sums.cuh>
#include <dvla/kernels/cuda/column_walk.cuh>
#include <dvla/kernels/cuda/layer_norm.cuh>
#include <dvla/kernels/cuda/moments.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace batch_norms {

template <class X>
struct statistics_finish {
  X const* x;
  arithmetic_t<X>* mean;
  arithmetic_t<X>* variance;
  std::size_t rows;

  __device__ void operator()(std::size_t, std::size_t c, double const (&moment)[2]) const {
    double const v = moment[1] / static_cast<double>(rows);
    mean[c] = static_cast<arithmetic_t<X>>(static_cast<double>(x[c]) + moment[0]);
    variance[c] = static_cast<arithmetic_t<X>>(v < 0 ? 0 : v);  // a NaN stays one
  }
};

/// The same, ready for use: 1 / std in place of the variance, and running statistics moved towards both.
template <class X>
struct observe_finish {
  using number = arithmetic_t<X>;
  X const* x;
  number* mean;
  number* inverse_std;
  number* running_mean;
  number* running_variance;
  std::size_t rows;
  double momentum;
  number eps;

  __device__ void operator()(std::size_t, std::size_t c, double const (&moment)[2]) const {
    double const biased = moment[1] / static_cast<double>(rows);
    number const m = static_cast<number>(static_cast<double>(x[c]) + moment[0]), v = static_cast<number>(biased < 0 ? 0 : biased);
    double const unbiased = static_cast<double>(rows) / static_cast<double>(rows - 1);
    mean[c] = m;
    inverse_std[c] = number(1) / std::sqrt(v + eps);
    running_mean[c] =
        static_cast<number>((1 - momentum) * static_cast<double>(running_mean[c]) + momentum * static_cast<double>(m));
    running_variance[c] = static_cast<number>((1 - momentum) * static_cast<double>(running_variance[c]) +
                                              momentum * unbiased * static_cast<double>(v));
  }
};

/// What follows a normalisation in the same pass.
enum class activation { none, relu };

/// Where the activation of y = (x - mean) slope + bias lets a gradient through: everywhere, or where y > 0.
template <activation A, class T, int N>
struct passing {
  packet<T, N> slope, bias;

  __device__ packet<T, N> forward(packet<T, N> const& deviation) const {
    auto const y = deviation * slope + bias;
    if constexpr (A == activation::none) return y;
    else return select(y < packet<T, N>(T(0)), packet<T, N>(T(0)), y);  // a NaN passes through
  }
  __device__ packet<T, N> backward(packet<T, N> const& deviation, packet<T, N> const& dy) const {
    if constexpr (A == activation::none) return dy;
    else return select(deviation * slope + bias > packet<T, N>(T(0)), dy, packet<T, N>(T(0)));
  }
};
template <int N, activation A, class T>
__device__ passing<A, T, N> passing_of(T const* inverse_std, T const* weight, T const* bias, std::size_t c) {
  passing<A, T, N> out{load_anywhere<T, N>(inverse_std + c) * load_anywhere<T, N>(weight + c), {}};
  if (A == activation::relu || bias != nullptr) out.bias = load_anywhere<T, N>(bias + c);
  return out;
}

template <class X, activation A>
struct apply_body {
  using number = arithmetic_t<X>;
  static constexpr int rows_together = 4;
  std::size_t channels;
  X const* x;
  number const* mean;
  number const* inverse_std;
  number const* weight;
  number const* bias;
  X* y;

  template <int N>
  struct kept {
    X const* from;
    X* to;
    std::size_t step;
    packet<number, N> mean;
    passing<A, number, N> through;
    __device__ raw_packet<X, N> load(std::size_t row) const { return load_raw<N>(from + row * step); }
    __device__ void store(std::size_t row, raw_packet<X, N> const& loaded) const {
      store_packet(to + row * step, through.forward(loaded.template as<number>() - mean));
    }
  };
  template <int N>
  __device__ kept<N> columns(std::size_t, std::size_t c) const {
    return {x + c, y + c, channels, load_anywhere<number, N>(mean + c), passing_of<N, A>(inverse_std, weight, bias, c)};
  }
};

/// The sums of dy and of dy (x - mean), dy where it passes the activation.
template <class X, activation A>
struct gradient_terms {
  using number = arithmetic_t<X>;
  static constexpr int values = 2;
  std::size_t channels;
  X const* x;
  X const* dy;
  number const* mean;
  number const* inverse_std;
  number const* weight;
  number const* bias;

  template <int N>
  struct kept {
    X const* x;
    X const* dy;
    std::size_t step;
    packet<number, N> mean;
    passing<A, number, N> through;
    struct operands {
      raw_packet<X, N> x, dy;
    };
    __device__ operands load(std::size_t row) const { return {load_raw<N>(x + row * step), load_raw<N>(dy + row * step)}; }
    __device__ void add(operands const& at, packet<number, N> (&sums)[2]) const {
      auto const deviation = at.x.template as<number>() - mean;
      auto const g = through.backward(deviation, at.dy.template as<number>());
      sums[0] = sums[0] + g;
      sums[1] = sums[1] + g * deviation;
    }
  };
  template <int N>
  __device__ kept<N> columns(std::size_t, std::size_t c) const {
    kept<N> out{x + c, dy + c, channels, load_anywhere<number, N>(mean + c), {}};
    if constexpr (A != activation::none) out.through = passing_of<N, A>(inverse_std, weight, bias, c);
    return out;
  }
};

/// From those sums the gradients of the parameters, and the offset and tilt in dx = slope dy - offset - (x - mean) tilt, each
/// unless null.
template <class T>
struct gradient_finish {
  T const* inverse_std;
  T const* weight;
  T* dweight;
  T* dbias;
  T* offset;
  T* tilt;
  std::size_t rows;
  bool accumulate;

  __device__ void operator()(std::size_t, std::size_t c, double const (&total)[2]) const {
    double const inverse = static_cast<double>(inverse_std[c]), projection = total[1] * inverse;
    if (dbias != nullptr) dbias[c] = static_cast<T>(total[0]) + (accumulate ? dbias[c] : T(0));
    if (dweight != nullptr) dweight[c] = static_cast<T>(projection) + (accumulate ? dweight[c] : T(0));
    if (offset == nullptr) return;
    double const slope = static_cast<double>(weight[c] * inverse_std[c]);
    offset[c] = static_cast<T>(slope * total[0] / static_cast<double>(rows));
    tilt[c] = static_cast<T>(slope * projection * inverse / static_cast<double>(rows));
  }
};

/// dx = slope dy - offset - (x - mean) tilt, dy where it passes the activation; without offset and tilt, slope dy.
template <class X, activation A>
struct input_gradient_body {
  using number = arithmetic_t<X>;
  static constexpr int rows_together = 2;
  std::size_t channels;
  X const* x;
  X const* dy;
  number const* mean;
  number const* inverse_std;
  number const* weight;
  number const* bias;
  number const* offset;
  number const* tilt;
  X* dx;
  bool accumulate;

  template <int N>
  struct operands {
    raw_packet<X, N> x, dy, dx;
  };
  template <int N>
  struct kept {
    X const* x;
    X const* dy;
    X* dx;
    std::size_t step;
    bool tilted, accumulate;
    passing<A, number, N> through;
    packet<number, N> mean, offset, tilt;

    [[nodiscard]] __device__ bool reads_x() const { return A != activation::none || tilted; }
    __device__ operands<N> load(std::size_t row) const {
      operands<N> out;
      out.dy = load_raw<N>(dy + row * step);
      if (reads_x()) out.x = load_raw<N>(x + row * step);
      if (accumulate) out.dx = load_raw<N>(dx + row * step);
      return out;
    }
    __device__ void store(std::size_t row, operands<N> const& at) const {
      packet<number, N> g = at.dy.template as<number>(), deviation;
      if (reads_x()) deviation = at.x.template as<number>() - mean;
      g = through.backward(deviation, g) * through.slope;
      if (tilted) g = (g - offset) - deviation * tilt;
      if (accumulate) g = at.dx.template as<number>() + g;
      store_packet(dx + row * step, g);
    }
  };
  template <int N>
  __device__ kept<N> columns(std::size_t, std::size_t c) const {
    kept<N> out{x + c, dy + c, dx + c, channels, tilt != nullptr, accumulate, passing_of<N, A>(inverse_std, weight, bias, c), {}, {}, {}};
    if (out.reads_x()) out.mean = load_anywhere<number, N>(mean + c);
    if (out.tilted) {
      out.offset = load_anywhere<number, N>(offset + c);
      out.tilt = load_anywhere<number, N>(tilt + c);
    }
    return out;
  }
};

}  // namespace batch_norms

/// Mean and biased variance of each channel over the rows. Digits are kept where |mean| >> standard deviation.
template <precision P, class X>
void batch_norm_statistics(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, arithmetic_t<X>* mean,
                           arithmetic_t<X>* variance) {
  constexpr int n = packet_of<X>;
  if (rows == 0 || channels == 0) return;
  batch_norms::statistics_finish<X> const finish{x, mean, variance, rows};
  if (channels % n == 0 && allows_packets<n>(x))
    column_sums::launch_moments<n>(device, rows, channels, x, finish);
  else
    column_sums::launch_moments<1>(device, rows, channels, x, finish);
}

/// The statistics of a batch, mean and 1 / std, towards which the running ones move.
template <precision P, class X>
void batch_norm_observe(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, arithmetic_t<X> eps,
                        double momentum, arithmetic_t<X>* mean, arithmetic_t<X>* inverse_std, arithmetic_t<X>* running_mean,
                        arithmetic_t<X>* running_variance) {
  constexpr int n = packet_of<X>;
  batch_norms::observe_finish<X> const finish{x, mean, inverse_std, running_mean, running_variance, rows, momentum, eps};
  if (channels % n == 0 && allows_packets<n>(x))
    column_sums::launch_moments<n>(device, rows, channels, x, finish);
  else
    column_sums::launch_moments<1>(device, rows, channels, x, finish);
}

/// y = (x - mean) * inverse_std * weight + bias, the last four [channels], or the activation of that. y may be x.
template <batch_norms::activation A = batch_norms::activation::none, precision P, class X>
void batch_norm_apply(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, arithmetic_t<X> const* mean,
                      arithmetic_t<X> const* inverse_std, arithmetic_t<X> const* weight, arithmetic_t<X> const* bias, X* y) {
  column_walks::over_columns<packet_of<X>>(device, 1, rows, channels,
                                           batch_norms::apply_body<X, A>{channels, x, mean, inverse_std, weight, bias, y},
                                           "applying a batch normalisation", x, y);
}

/// Gradients of batch normalisation. With batch statistics, mean and inverse_std depend on x (training); without, they are
/// constants (evaluation). dx [rows, channels], dweight and dbias [channels] may be null; each group is added to on request.
/// bias is read for an activation alone.
template <batch_norms::activation A = batch_norms::activation::none, precision P, class X>
void batch_norm_backward(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, X const* dy,
                         arithmetic_t<X> const* mean, arithmetic_t<X> const* inverse_std, arithmetic_t<X> const* weight,
                         std::type_identity_t<X>* dx, arithmetic_t<X>* dweight, arithmetic_t<X>* dbias, bool accumulate_dx,
                         bool accumulate_parameters, bool use_batch_statistics, arithmetic_t<X> const* bias = nullptr) {
  using number = arithmetic_t<X>;
  constexpr int n = packet_of<X>;
  bool const tilted = use_batch_statistics && dx != nullptr;
  detail::device_scratch<number> const coefficients(device, 2 * channels);
  number* const offset = tilted ? coefficients.data() : nullptr;
  number* const tilt = tilted ? offset + channels : nullptr;
  if (tilted || dweight != nullptr || dbias != nullptr)
    column_sums::over_columns<n>(
        device, 1, rows, channels, batch_norms::gradient_terms<X, A>{channels, x, dy, mean, inverse_std, weight, bias},
        batch_norms::gradient_finish<number>{inverse_std, weight, dweight, dbias, offset, tilt, rows, accumulate_parameters},
        "summing the gradients of a batch normalisation", x, dy);
  if (dx == nullptr) return;
  column_walks::over_columns<n>(
      device, 1, rows, channels,
      batch_norms::input_gradient_body<X, A>{channels, x, dy, mean, inverse_std, weight, bias, offset, tilt, dx, accumulate_dx},
      "computing the gradient of a batch normalisation", x, dy, dx);
}

/// relu of batch_norm_apply's y in the same pass.
template <precision P, class X, class... Rest>
void batch_norm_apply_relu(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, Rest... rest) {
  batch_norm_apply<batch_norms::activation::relu>(device, rows, channels, x, rest...);
}

/// batch_norm_backward from the gradient of that relu.
template <precision P, class X, class... Rest>
void batch_norm_backward_relu(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, Rest... rest) {
  batch_norm_backward<batch_norms::activation::relu>(device, rows, channels, x, rest...);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
