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

template <class X>
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
    packet<number, N> mean, slope, bias;
    __device__ raw_packet<X, N> load(std::size_t row) const { return load_raw<N>(from + row * step); }
    __device__ void store(std::size_t row, raw_packet<X, N> const& loaded) const {
      store_packet(to + row * step, (loaded.template as<number>() - mean) * slope + bias);
    }
  };
  template <int N>
  __device__ kept<N> columns(std::size_t, std::size_t c) const {
    return {x + c,
            y + c,
            channels,
            load_anywhere<number, N>(mean + c),
            load_anywhere<number, N>(inverse_std + c) * load_anywhere<number, N>(weight + c),
            load_anywhere<number, N>(bias + c)};
  }
};

/// The sums of dy and of dy (x - mean).
template <class X>
struct gradient_terms {
  using number = arithmetic_t<X>;
  static constexpr int values = 2;
  std::size_t channels;
  X const* x;
  X const* dy;
  number const* mean;

  template <int N>
  struct kept {
    X const* x;
    X const* dy;
    std::size_t step;
    packet<number, N> mean;
    struct operands {
      raw_packet<X, N> x, dy;
    };
    __device__ operands load(std::size_t row) const { return {load_raw<N>(x + row * step), load_raw<N>(dy + row * step)}; }
    __device__ void add(operands const& at, packet<number, N> (&sums)[2]) const {
      auto const g = at.dy.template as<number>();
      sums[0] = sums[0] + g;
      sums[1] = sums[1] + g * (at.x.template as<number>() - mean);
    }
  };
  template <int N>
  __device__ kept<N> columns(std::size_t, std::size_t c) const {
    return {x + c, dy + c, channels, load_anywhere<number, N>(mean + c)};
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

/// dx = slope dy - offset - (x - mean) tilt; without offset and tilt, slope dy.
template <class X>
struct input_gradient_body {
  using number = arithmetic_t<X>;
  static constexpr int rows_together = 2;
  std::size_t channels;
  X const* x;
  X const* dy;
  number const* mean;
  number const* inverse_std;
  number const* weight;
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
    packet<number, N> mean, slope, offset, tilt;

    __device__ operands<N> load(std::size_t row) const {
      operands<N> out;
      out.dy = load_raw<N>(dy + row * step);
      if (tilted) out.x = load_raw<N>(x + row * step);
      if (accumulate) out.dx = load_raw<N>(dx + row * step);
      return out;
    }
    __device__ void store(std::size_t row, operands<N> const& at) const {
      packet<number, N> g = at.dy.template as<number>() * slope;
      if (tilted) g = (g - offset) - (at.x.template as<number>() - mean) * tilt;
      if (accumulate) g = at.dx.template as<number>() + g;
      store_packet(dx + row * step, g);
    }
  };
  template <int N>
  __device__ kept<N> columns(std::size_t, std::size_t c) const {
    kept<N> out{x + c, dy + c, dx + c, channels, tilt != nullptr, accumulate, {}, {}, {}, {}};
    out.slope = load_anywhere<number, N>(inverse_std + c) * load_anywhere<number, N>(weight + c);
    if (out.tilted) {
      out.mean = load_anywhere<number, N>(mean + c);
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

/// y = (x - mean) * inverse_std * weight + bias, the last four [channels]. y may be x.
template <precision P, class X>
void batch_norm_apply(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, arithmetic_t<X> const* mean,
                      arithmetic_t<X> const* inverse_std, arithmetic_t<X> const* weight, arithmetic_t<X> const* bias, X* y) {
  column_walks::over_columns<packet_of<X>>(device, 1, rows, channels,
                                           batch_norms::apply_body<X>{channels, x, mean, inverse_std, weight, bias, y},
                                           "applying a batch normalisation", x, y);
}

/// Gradients of batch normalisation. With batch statistics, mean and inverse_std depend on x (training); without, they are
/// constants (evaluation). dx [rows, channels], dweight and dbias [channels] may be null; each group is added to on request.
template <precision P, class X>
void batch_norm_backward(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, X const* dy,
                         arithmetic_t<X> const* mean, arithmetic_t<X> const* inverse_std, arithmetic_t<X> const* weight,
                         std::type_identity_t<X>* dx, arithmetic_t<X>* dweight, arithmetic_t<X>* dbias, bool accumulate_dx,
                         bool accumulate_parameters, bool use_batch_statistics) {
  using number = arithmetic_t<X>;
  constexpr int n = packet_of<X>;
  bool const tilted = use_batch_statistics && dx != nullptr;
  detail::device_scratch<number> const coefficients(device, 2 * channels);
  number* const offset = tilted ? coefficients.data() : nullptr;
  number* const tilt = tilted ? offset + channels : nullptr;
  if (tilted || dweight != nullptr || dbias != nullptr)
    column_sums::over_columns<n>(
        device, 1, rows, channels, batch_norms::gradient_terms<X>{channels, x, dy, mean},
        batch_norms::gradient_finish<number>{inverse_std, weight, dweight, dbias, offset, tilt, rows, accumulate_parameters},
        "summing the gradients of a batch normalisation", x, dy);
  if (dx == nullptr) return;
  column_walks::over_columns<n>(
      device, 1, rows, channels,
      batch_norms::input_gradient_body<X>{channels, x, dy, mean, inverse_std, weight, offset, tilt, dx, accumulate_dx},
      "computing the gradient of a batch normalisation", x, dy, dx);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
