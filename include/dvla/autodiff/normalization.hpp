// BatchNorm (Ioffe and Szegedy, arXiv 1502.03167) and LayerNorm (Ba et al., arXiv 1607.06450) over the last axis.
#pragma once

#include <dvla/autodiff/operand.hpp>
#include <dvla/kernels/cpu/layer_norm.hpp>
#include <dvla/kernels/cpu/memory.hpp>
#include <dvla/kernels/cpu/norm.hpp>
#include <dvla/kernels/cpu/statistics.hpp>

namespace dvla::inline DVLA_ABI {
namespace op {
struct batch_norm {};
struct layer_norm {};
}  // namespace op

/// The running statistics of a BatchNorm, and how fast they move.
template <class T>
struct running_statistics {
  T* mean;
  T* variance;
  double momentum = 0.1;
};

namespace detail {

/// The bias as the backward pass needs it: its value for an activation.
template <bool Value, class B>
[[nodiscard]] auto kept_bias(B const& b) {
  if constexpr (Value) return b;
  else return b.gradient_only();
}

/// Whether two gradients of `count` elements are both to be added to; one that is fresh beside one that is not starts at 0.
template <class T, class Device>
[[nodiscard]] bool accumulate_both(Device const& device, std::size_t count, gradient_target<T> const& a, gradient_target<T> const& b) {
  if (!a || !b) return a.accumulate || b.accumulate;
  if (a.accumulate != b.accumulate) fill(device, count, (a.accumulate ? b : a).data, T(0));
  return a.accumulate || b.accumulate;
}

/// The rows of a batch of `samples`, of which the first `apart` are normalised apart.
[[nodiscard]] inline batch_rows rows_of_batch(std::size_t samples, std::size_t rows, std::size_t apart) {
  expect(apart == 0 || apart < samples, "batch_norm: ", apart, " samples are to be normalised apart from the rest, but the batch has ",
         samples, "; give a larger batch");
  return {rows, apart == 0 ? 0 : rows / samples * apart};
}

/// A device that computes relu of a batch normalisation in one pass, forward and backward.
template <class Device, class T>
concept normalises_with_relu = requires(Device const& device, T const* x, arithmetic_t<T> const* c, T* y) {
  batch_norm_apply_relu(device, std::size_t{}, std::size_t{}, x, c, c, c, c, y);
};

/// batch_norm, or relu of it on a device that has both in one.
template <bool Relu, class X, class W, class B>
  requires one_element_type<X, W, B>
[[nodiscard]] auto batch_norm(X const& input_x, W const& weight, B const& bias, running_statistics<arithmetic_t<element_of<X>>> running,
                              double eps) {
  auto const x = input(input_x);
  auto const w = input(weight);
  auto const b = input(bias);
  using S = typename std::remove_cvref_t<decltype(x)>::shape_type;
  using SW = typename std::remove_cvref_t<decltype(w)>::shape_type;
  using T = typename std::remove_cvref_t<decltype(x)>::value_type;
  using A = arithmetic_t<T>;
  using SB = typename std::remove_cvref_t<decltype(b)>::shape_type;
  static_assert(SW::rank == 1 && SB::rank == 1, "batch_norm: weight and bias have one element a channel");
  require_fit<may_equal(S::statics[S::rank - 1], SW::statics[0]), op::batch_norm, S, SW>();
  require_fit<may_equal(SW::statics[0], SB::statics[0]), op::batch_norm, SW, SB>();
  expect_extent("batch_norm", x.shape(), S::rank - 1, w.shape(), 0);
  expect_extent("batch_norm", x.shape(), S::rank - 1, b.shape(), 0);
  std::size_t const channels = w.size();
  auto& context = x.context();
  bool const batch_statistics = context.training();
  batch_rows const rows = rows_of_batch(x.shape()[0], channels == 0 ? 0 : x.size() / channels, batch_statistics ? context.apart() : 0);
  for (std::size_t part = 0; part < rows.parts(); ++part)
    expect(!batch_statistics || rows.of(part) > 1, "batch_norm: training needs more than one value a channel, but the input is ",
           x.shape(), "; use a larger batch or evaluation mode");
  auto y = make_variable<T>(context, x.shape());
  auto statistics = make_variable<A>(context, shape<2, dyn, dyn>(rows.parts(), channels));  // means, 1 / std
  A* const mean = statistics.data_pointer();
  A* const inverse_std = mean + rows.parts() * channels;
  auto const* const from = static_cast<T const*>(x.data_pointer());
  auto const* const scale = static_cast<A const*>(w.data_pointer());
  auto const* const offset = static_cast<A const*>(b.data_pointer());
  if (batch_statistics) {
    auto const forward = [&](auto... arguments) {
      if constexpr (Relu) batch_norm_forward_relu(context.device(), rows, channels, from, arguments...);
      else batch_norm_forward(context.device(), rows, channels, from, arguments...);
    };
    forward(static_cast<A>(eps), running.momentum, mean, inverse_std, running.mean, running.variance, scale, offset, y.data_pointer());
  } else {
    batch_norm_recall(context.device(), channels, static_cast<A const*>(running.mean), static_cast<A const*>(running.variance),
                      static_cast<A>(eps), mean, inverse_std);
    auto const apply = [&](auto... of_channels) {
      if constexpr (Relu) batch_norm_apply_relu(context.device(), rows.all, channels, from, of_channels..., y.data_pointer());
      else batch_norm_apply(context.device(), rows.all, channels, from, of_channels..., y.data_pointer());
    };
    apply(static_cast<A const*>(mean), static_cast<A const*>(inverse_std), scale, offset);
  }
  if (recorded(context, x, w, b)) {
    if constexpr (std::remove_reference_t<decltype(context)>::records)
      context.record(y.cell(), [&context, rows, channels, x, w, b = kept_bias<Relu>(b), statistics, batch_statistics](T const* dy) {
        auto const dx = x.add_gradient();
        auto const dw = w.add_gradient(), db = b.add_gradient();
        A const* const center = statistics.data_pointer();
        auto const backward = [&](auto const&... bias) {
          auto const* const from = static_cast<T const*>(x.data_pointer());
          auto const* const scale = static_cast<A const*>(w.data_pointer());
          A const* const inverse = center + rows.parts() * channels;
          bool const add = accumulate_both(context.device(), channels, dw, db);
          if constexpr (Relu)
            batch_norm_backward_relu(context.device(), rows, channels, from, dy, center, inverse, scale, dx.data, dw.data, db.data,
                                     dx.accumulate, add, batch_statistics, bias...);
          else
            batch_norm_backward(context.device(), rows, channels, from, dy, center, inverse, scale, dx.data, dw.data, db.data,
                                dx.accumulate, add, batch_statistics);
        };
        if constexpr (Relu) backward(static_cast<A const*>(b.data_pointer()));
        else backward();
      });
  }
  return y;
}

}  // namespace detail

/// (x - mean) / sqrt(variance + eps) * weight + bias, channel by channel over the last axis of x (..., C). In training the
/// statistics are the batch's (biased variance), and the running ones move towards them (unbiased variance); otherwise the
/// running statistics are constants. Where the context normalises the first samples apart (context::normalise_apart), they and the
/// rest have statistics each, and the running ones move towards the first ones' and then towards the others'.
template <class X, class W, class B>
  requires detail::one_element_type<X, W, B>
[[nodiscard]] auto batch_norm(X const& x, W const& weight, B const& bias, running_statistics<arithmetic_t<detail::element_of<X>>> running,
                              double eps) {
  return detail::batch_norm<false>(x, weight, bias, running, eps);
}

/// (x - mean) / sqrt(variance + eps) * weight + bias, each row of the last axis by itself.
template <class X, class W, class B>
  requires detail::one_element_type<X, W, B>
[[nodiscard]] auto layer_norm(X const& input_x, W const& weight, B const& bias, double eps = 1e-5) {
  auto const x = detail::input(input_x);
  auto const w = detail::input(weight);
  auto const b = detail::input(bias);
  using S = typename std::remove_cvref_t<decltype(x)>::shape_type;
  using SW = typename std::remove_cvref_t<decltype(w)>::shape_type;
  using T = typename std::remove_cvref_t<decltype(x)>::value_type;
  using A = arithmetic_t<T>;
  using SB = typename std::remove_cvref_t<decltype(b)>::shape_type;
  static_assert(SW::rank == 1 && SB::rank == 1, "layer_norm: weight and bias have one element a column");
  detail::require_fit<detail::may_equal(S::statics[S::rank - 1], SW::statics[0]), op::layer_norm, S, SW>();
  detail::require_fit<detail::may_equal(SW::statics[0], SB::statics[0]), op::layer_norm, SW, SB>();
  detail::expect_extent("layer_norm", x.shape(), S::rank - 1, w.shape(), 0);
  detail::expect_extent("layer_norm", x.shape(), S::rank - 1, b.shape(), 0);
  std::size_t const columns = w.size(), rows = columns == 0 ? 0 : x.size() / columns;
  auto& context = x.context();
  auto y = make_variable<T>(context, x.shape());
  auto statistics = make_variable<A>(context, shape<2, dyn>(rows));
  A* const mean = statistics.data_pointer();
  layer_norm_forward(context.device(), rows, columns, static_cast<A>(eps), static_cast<T const*>(x.data_pointer()),
                     static_cast<A const*>(w.data_pointer()), static_cast<A const*>(b.data_pointer()), y.data_pointer(), mean, mean + rows);
  if (recorded(context, x, w, b)) {
    if constexpr (std::remove_reference_t<decltype(context)>::records)
      context.record(y.cell(), [&context, rows, columns, x, w, b = b.gradient_only(), statistics](T const* dy) {
        auto const dx = x.add_gradient();
        auto const dw = w.add_gradient(), db = b.add_gradient();
        A const* const center = statistics.data_pointer();
        layer_norm_backward(context.device(), rows, columns, static_cast<T const*>(x.data_pointer()), dy, center, center + rows,
                            static_cast<A const*>(w.data_pointer()), dx.data, dw.data, db.data, dx.accumulate,
                            detail::accumulate_both(context.device(), columns, dw, db));
      });
  }
  return y;
}

}  // namespace dvla::inline DVLA_ABI
