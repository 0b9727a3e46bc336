// What the kernels of batch normalisation do with a column's sums and with each of its rows.
#pragma once

#include <cmath>
#include <cstddef>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/cuda/access.cuh>

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

  /// Of a column whose first element is `first`: its mean and its 1 / std, which are stored on request.
  __device__ void settle(std::size_t c, double first, double const (&moment)[2], bool store, number (&out)[2]) const {
    double const biased = moment[1] / static_cast<double>(rows);
    number const v = static_cast<number>(biased < 0 ? 0 : biased);  // a NaN stays one
    out[0] = static_cast<number>(first + moment[0]);
    out[1] = number(1) / std::sqrt(v + eps);
    if (!store) return;
    double const unbiased = static_cast<double>(rows) / static_cast<double>(rows - 1);
    mean[c] = out[0];
    inverse_std[c] = out[1];
    running_mean[c] =
        static_cast<number>((1 - momentum) * static_cast<double>(running_mean[c]) + momentum * static_cast<double>(out[0]));
    running_variance[c] = static_cast<number>((1 - momentum) * static_cast<double>(running_variance[c]) +
                                              momentum * unbiased * static_cast<double>(v));
  }
  __device__ void operator()(std::size_t, std::size_t c, double const (&moment)[2]) const {
    number ready[2];
    settle(c, static_cast<double>(x[c]), moment, true, ready);
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
__device__ passing<A, T, N> passing_of(packet<T, N> const& inverse_std, T const* weight, T const* bias, std::size_t c) {
  passing<A, T, N> out{inverse_std * load_anywhere<T, N>(weight + c), {}};
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
  __device__ kept<N> columns_with(std::size_t c, packet<number, N> const& of_mean, packet<number, N> const& of_inverse_std) const {
    return {x + c, y + c, channels, of_mean, passing_of<N, A>(of_inverse_std, weight, bias, c)};
  }
  template <int N>
  __device__ kept<N> columns(std::size_t, std::size_t c) const {
    return columns_with<N>(c, load_anywhere<number, N>(mean + c), load_anywhere<number, N>(inverse_std + c));
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
    if constexpr (A != activation::none) out.through = passing_of<N, A>(load_anywhere<number, N>(inverse_std + c), weight, bias, c);
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

  /// Offset and tilt of a column; the gradients are stored on request.
  __device__ void settle(std::size_t c, double const (&total)[2], bool store, T (&out)[2]) const {
    double const inverse = static_cast<double>(inverse_std[c]), projection = total[1] * inverse;
    if (store && dbias != nullptr) dbias[c] = static_cast<T>(total[0]) + (accumulate ? dbias[c] : T(0));
    if (store && dweight != nullptr) dweight[c] = static_cast<T>(projection) + (accumulate ? dweight[c] : T(0));
    double const slope = static_cast<double>(weight[c] * inverse_std[c]);
    out[0] = static_cast<T>(slope * total[0] / static_cast<double>(rows));
    out[1] = static_cast<T>(slope * projection * inverse / static_cast<double>(rows));
  }
  __device__ void operator()(std::size_t, std::size_t c, double const (&total)[2]) const {
    T coefficients[2];
    settle(c, total, true, coefficients);
    if (offset == nullptr) return;
    offset[c] = coefficients[0];
    tilt[c] = coefficients[1];
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
  __device__ kept<N> columns_with(std::size_t c, packet<number, N> const& of_offset, packet<number, N> const& of_tilt, bool tilted) const {
    kept<N> out{x + c, dy + c, dx + c, channels, tilted, accumulate,
                passing_of<N, A>(load_anywhere<number, N>(inverse_std + c), weight, bias, c), {}, of_offset, of_tilt};
    if (out.reads_x()) out.mean = load_anywhere<number, N>(mean + c);
    return out;
  }
  template <int N>
  __device__ kept<N> columns(std::size_t, std::size_t c) const {
    if (tilt == nullptr) return columns_with<N>(c, {}, {}, false);
    return columns_with<N>(c, load_anywhere<number, N>(offset + c), load_anywhere<number, N>(tilt + c), true);
  }
};

}  // namespace batch_norms
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
