// Linear layers, convolutions and norms, with the initialisation of the published model.
#pragma once

#include <cmath>

#include <dvla/autodiff/convolution.hpp>
#include <dvla/autodiff/folded_norm.hpp>
#include <dvla/autodiff/matmul_epilogue.hpp>
#include <dvla/autodiff/normalization.hpp>
#include <dvla/expr/functions.hpp>
#include <dvla/nn/module.hpp>

namespace dvla::inline DVLA_ABI {
namespace nn {

/// y = x W^T + b; x (..., In) -> y (..., Out), an expression. Uniform +-1/sqrt(In).
template <std::size_t In, std::size_t Out, class T = float>
struct linear {
  parameter<shape<Out, In>, T> weight;
  parameter<shape<Out>, T> bias;
  static constexpr auto members = fields("weight", &linear::weight, "bias", &linear::bias);

  linear() = default;
  /// For a number of outputs known at run time only (Out = dyn).
  explicit linear(std::size_t outputs)
    requires(Out == dyn && In != dyn)
      : weight(shape<Out, In>(outputs)), bias(shape<Out>(outputs)) {}
  /// For inputs and outputs known at run time only.
  linear(std::size_t inputs, std::size_t outputs)
    requires(Out == dyn && In == dyn)
      : weight(shape<Out, In>(outputs, inputs)), bias(shape<Out>(outputs)) {}

  void initialise(initialiser& init) {
    double const bound = 1 / std::sqrt(static_cast<double>(weight.shape()[1]));
    init.uniform(weight, bound);
    init.uniform(bias, bound);
  }
  auto operator()(auto const& x) const { return linear_map(x, weight) + bias; }
};

/// y = x W^T without bias. Uniform +-1/sqrt(inputs).
template <std::size_t In, std::size_t Out, class T = float>
struct projection {
  parameter<shape<Out, In>, T> weight;
  static constexpr auto members = fields("weight", &projection::weight);

  projection() = default;
  /// For a number of inputs or outputs known at run time only (the one that is dyn).
  explicit projection(std::size_t extent)
    requires(In == dyn || Out == dyn)
      : weight(shape<Out, In>(extent)) {}

  void initialise(initialiser& init) { init.uniform(weight, 1 / std::sqrt(static_cast<double>(weight.shape()[1]))); }
  auto operator()(auto const& x) const { return linear_map(x, weight); }
};

/// A BatchNorm of x that has not been applied yet: a map that follows takes it in. It lives as long as the layer and x do.
template <class X, class Norm>
struct normalised {
  using shape_type = typename X::shape_type;
  X const& x;
  Norm const& norm;

  [[nodiscard]] shape_type const& shape() const { return x.shape(); }

  /// epilogue(weight (Out, In) times the normalised x).
  template <class W, class E>
  [[nodiscard]] auto mapped(W const& weight, E const& epilogue) const {
    using Context = std::remove_reference_t<decltype(x.context())>;
    if constexpr (folds_norms<Context>) {
      if (!x.context().training())
        return folded_map(x, weight, norm.weight, norm.bias, norm.statistics(), Norm::eps, epilogue);
    }
    if constexpr (std::is_same_v<E, accumulator_leaf>) return linear_map(norm(x), weight);
    else return matmul(norm(x), transpose(weight), epilogue);
  }
};

/// A 1x1 convolution without bias: a linear map of every token. Kaiming normal, fan-out, gain sqrt 2.
template <std::size_t In, std::size_t Out, class T = float>
struct pointwise {
  parameter<shape<Out, In>, T, archive_pointwise> weight;
  static constexpr auto members = fields("weight", &pointwise::weight);

  void initialise(initialiser& init) { init.normal(weight, std::sqrt(2.0 / Out)); }
  auto operator()(auto const& x) const { return linear_map(x, weight); }
  /// An expression on the map, such as gelu(accumulator), completed while it is computed.
  auto operator()(auto const& x, auto const& epilogue) const { return matmul(x, transpose(weight), epilogue); }
  /// The map of a normalisation that is still to be applied.
  template <class X, class Norm>
  auto operator()(normalised<X, Norm> const& x) const {
    return x.mapped(weight, accumulator);
  }
  template <class X, class Norm>
  auto operator()(normalised<X, Norm> const& x, auto const& epilogue) const {
    return x.mapped(weight, epilogue);
  }
};

/// A convolution of images (B, H, W, In) without bias. Kaiming normal, fan-out, gain sqrt 2.
template <std::size_t In, std::size_t Out, std::size_t Kernel, convolution_options Options = convolution_options{}, class T = float>
struct conv2d {
  parameter<shape<Out, Kernel, Kernel, In / Options.groups>, T, archive_convolution> weight;
  static constexpr auto members = fields("weight", &conv2d::weight);
  static_assert(In % Options.groups == 0 && Out % Options.groups == 0, "conv2d: channels must be divisible by the groups");

  void initialise(initialiser& init) { init.normal(weight, std::sqrt(2.0 / (Out * Kernel * Kernel))); }
  auto operator()(auto const& x) const { return convolution<Options>(x, weight); }
  /// gelu of the convolution.
  auto activated(auto const& x) const { return convolution_gelu<Options>(x, weight); }
};

/// A convolution with bias (initially 0).
template <std::size_t In, std::size_t Out, std::size_t Kernel, convolution_options Options = convolution_options{}, class T = float>
struct conv2d_bias {
  parameter<shape<Out, Kernel, Kernel, In / Options.groups>, T, archive_convolution> weight;
  parameter<shape<Out>, T> bias;
  static constexpr auto members = fields("weight", &conv2d_bias::weight, "bias", &conv2d_bias::bias);

  void initialise(initialiser& init) {
    init.normal(weight, std::sqrt(2.0 / (Out * Kernel * Kernel)));
    init.constant(bias, 0);
  }
  auto operator()(auto const& x) const { return convolution<Options>(x, weight, bias); }
};

/// BatchNorm over the last axis, eps 1e-5, momentum 0.1.
template <std::size_t Channels, class T = float>
struct batch_norm {
  parameter<shape<Channels>, T> weight, bias;
  statistic<shape<Channels>, T> running_mean, running_var;
  static constexpr auto members = fields("weight", &batch_norm::weight, "bias", &batch_norm::bias, "running_mean",
                                         &batch_norm::running_mean, "running_var", &batch_norm::running_var);
  static constexpr double eps = 1e-5, momentum = 0.1;

  void initialise(initialiser& init) {
    init.constant(weight, 1);
    init.constant(bias, 0);
    init.constant(running_mean, 0);
    init.constant(running_var, 1);
  }
  auto operator()(auto const& x) const {
    return dvla::batch_norm(x, weight, bias, statistics(), eps);
  }
  /// The normalisation of x for a pointwise map to apply, which may do so by its weights.
  template <class X>
  auto before_map(X const& x) const {
    return normalised<X, batch_norm>{x, *this};
  }
  /// f(y) of the normalised y, f being element-wise: one pass where nothing is recorded.
  auto followed_by(auto const& f, auto const& x) const { return dvla::batch_norm_followed_by(f, x, weight, bias, statistics(), eps); }

  /// relu of the normalised x.
  auto rectified(auto const& x) const { return batch_norm_relu(x, weight, bias, statistics(), eps); }

  [[nodiscard]] running_statistics<T> statistics() const { return {running_mean.data(), running_var.data(), momentum}; }
};

/// LayerNorm over the last axis.
template <std::size_t Columns, class T = float>
struct layer_norm {
  parameter<shape<Columns>, T> weight, bias;
  static constexpr auto members = fields("weight", &layer_norm::weight, "bias", &layer_norm::bias);
  double eps = 1e-5;

  layer_norm() = default;
  /// For a number of columns known at run time only.
  explicit layer_norm(std::size_t columns, double small = 1e-5)
    requires(Columns == dyn)
      : weight(shape<Columns>(columns)), bias(shape<Columns>(columns)), eps(small) {}

  void initialise(initialiser& init) {
    init.constant(weight, 1);
    init.constant(bias, 0);
  }
  auto operator()(auto const& x) const { return dvla::layer_norm(x, weight, bias, eps); }
};

}  // namespace nn
}  // namespace dvla::inline DVLA_ABI
