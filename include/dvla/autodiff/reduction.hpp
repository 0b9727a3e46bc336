// Reductions of variables and expressions: over the last axis by default, where the expression is fused into the loop.
#pragma once

#include <dvla/autodiff/operand.hpp>
#include <dvla/kernels/cpu/axis.hpp>
#include <dvla/kernels/cpu/reduce.hpp>
#include <dvla/kernels/cpu/softmax.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

/// Sum of an expression along the last axis times a factor, in one pass over its leaves; the axis stays with extent 1.
template <class E>
[[nodiscard]] auto fused_row_sum(E const& e, bool average) {
  using T = typename E::value_type;
  using S = typename E::shape_type;
  static_assert(S::rank > 0, "a reduction needs an axis");
  using result = replace_extent<S, S::rank - 1, 1>;
  auto* const context = find_context(e);
  using Context = std::remove_pointer_t<decltype(context)>;
  auto const extents = e.extents();
  auto reduced = extents.extents();
  std::size_t const columns = std::exchange(reduced[S::rank - 1], 1);
  T const factor = average ? T(1) / static_cast<T>(columns) : T(1);
  auto y = make_variable<T>(*context, make_shape<result>(reduced));
  row_sum(context->device(), extents.extents(), forward_binder<T, S::rank>::bind(e), factor, y.data_pointer());
  if constexpr (Context::records && tracks<E>) {
    bool wanted = false;
    visit_leaves(e, [&](auto const& source) {
      if constexpr (tracked_source<std::remove_cvref_t<decltype(source)>>) wanted = wanted || source.wants_gradient();
    });
    if (wanted && context->recording()) {
      auto const scaled = e * static_cast<double>(factor);
      context->record(y.cell(), [context, extents, shape = y.shape(), kept = keep<false>(scaled)](T const* dy) {
        backward_loop<T, false>(*context, extents, kept, view<T const, result>(dy, shape));
      });
    }
  }
  return y;
}

/// The outer, reduced and inner extents around an axis.
struct axis_sizes {
  std::size_t outer = 1, count = 1, inner = 1;
  template <class S>
  axis_sizes(S const& s, std::size_t axis) : count(s[axis]) {
    for (std::size_t i = 0; i < axis; ++i) outer *= s[i];
    for (std::size_t i = axis + 1; i < S::rank; ++i) inner *= s[i];
  }
};

template <std::size_t Axis, class X>
[[nodiscard]] auto axis_total(X const& source, bool average) {
  using T = arithmetic_t<typename X::value_type>;
  using S = typename X::shape_type;
  using result = join_shapes<keep_front<S, Axis>, dvla::drop_front<S, Axis + 1>>;
  std::array<std::size_t, S::rank - 1> extents{};
  for (std::size_t i = 0; i < S::rank; ++i)
    if (i != Axis) extents[i - (i > Axis)] = source.shape()[i];
  axis_sizes const sizes(source.shape(), Axis);
  T const factor = average ? T(1) / static_cast<T>(sizes.count) : T(1);
  auto& context = source.context();
  auto y = make_variable<T>(context, make_shape<result>(extents));
  axis_sum(context.device(), sizes.outer, sizes.count, sizes.inner, source.data_pointer(), factor, y.data_pointer());
  if (recorded(context, source)) {
    if constexpr (std::remove_reference_t<decltype(context)>::records)
      context.record(y.cell(), [&context, sizes, factor, to = source.gradient_only()](T const* dy) {
        if (auto const dx = to.add_gradient())
          axis_broadcast(context.device(), sizes.outer, sizes.count, sizes.inner, dy, factor, dx.data, dx.accumulate);
      });
  }
  return y;
}

}  // namespace detail

/// Sum over the last axis, which stays with extent 1 so that the result broadcasts against x: (..., N) -> (..., 1).
template <detail::tensor_like X>
[[nodiscard]] auto sum(X const& x) {
  return detail::fused_row_sum(as_expression(x), false);
}

/// Mean over the last axis, which stays with extent 1.
template <detail::tensor_like X>
[[nodiscard]] auto mean(X const& x) {
  return detail::fused_row_sum(as_expression(x), true);
}

/// Sum over one axis, which is dropped: sum<1> of (B, N, C) is (B, C).
template <std::size_t Axis, detail::differentiable X>
[[nodiscard]] auto sum(X const& x) {
  return detail::axis_total<Axis>(detail::input(x), false);
}

/// Mean over one axis, which is dropped: mean<1> of tokens (B, N, C) pools them to (B, C).
template <std::size_t Axis, detail::differentiable X>
[[nodiscard]] auto mean(X const& x) {
  return detail::axis_total<Axis>(detail::input(x), true);
}

/// Largest element along the last axis, which stays with extent 1. Elements that share the maximum share its gradient.
template <detail::differentiable X>
[[nodiscard]] auto max(X const& x) {
  auto const source = detail::input(x);
  using T = typename decltype(source)::value_type;
  using S = typename decltype(source)::shape_type;
  detail::axis_sizes const sizes(source.shape(), S::rank - 1);
  expect(sizes.count > 0, "max: the last axis of ", source.shape(), " has no elements");
  auto extents = source.shape().extents();
  extents[S::rank - 1] = 1;
  auto& context = source.context();
  auto y = make_variable<T>(context, detail::make_shape<replace_extent<S, S::rank - 1, 1>>(extents));
  row_max(context.device(), sizes.outer, sizes.count, source.data_pointer(), y.data_pointer());
  if (recorded(context, source)) {
    if constexpr (std::remove_reference_t<decltype(context)>::records)
      context.record(y.cell(), [&context, sizes, source](T const* dy) {
        auto const dx = source.add_gradient();
        row_max_backward(context.device(), sizes.outer, sizes.count, source.data_pointer(), dy, dx.data, dx.accumulate);
      });
  }
  return y;
}

/// exp(x) / sum exp(x) along the last axis.
template <detail::differentiable X>
[[nodiscard]] auto softmax(X const& x) {
  auto const source = detail::input(x);
  using T = typename decltype(source)::value_type;
  using S = typename decltype(source)::shape_type;
  detail::axis_sizes const sizes(source.shape(), S::rank - 1);
  auto& context = source.context();
  auto y = make_variable<T>(context, source.shape());
  softmax_forward(context.device(), sizes.outer, sizes.count, source.data_pointer(), y.data_pointer());
  if (recorded(context, source)) {
    if constexpr (std::remove_reference_t<decltype(context)>::records)
      context.record(y.cell(), [&context, sizes, y, to = source.gradient_only()](T const* dy) {
        if (auto const dx = to.add_gradient())
          softmax_backward(context.device(), sizes.outer, sizes.count, static_cast<T const*>(y.data_pointer()), dy, dx.data, dx.accumulate);
      });
  }
  return y;
}

/// log sum exp(x) along the last axis, which stays with extent 1.
template <detail::differentiable X>
[[nodiscard]] auto log_sum_exp(X const& x) {
  auto const source = detail::input(x);
  using T = typename decltype(source)::value_type;
  using S = typename decltype(source)::shape_type;
  detail::axis_sizes const sizes(source.shape(), S::rank - 1);
  auto extents = source.shape().extents();
  extents[S::rank - 1] = 1;
  auto& context = source.context();
  auto y = make_variable<T>(context, detail::make_shape<replace_extent<S, S::rank - 1, 1>>(extents));
  log_sum_exp(context.device(), sizes.outer, sizes.count, source.data_pointer(), y.data_pointer());
  if (recorded(context, source)) {
    if constexpr (std::remove_reference_t<decltype(context)>::records)
      context.record(y.cell(), [&context, source, y = stop_gradient(y)](T const* dy) {
        using result = typename decltype(y)::shape_type;
        auto const weights = exp(source - y);  // d lse / dx
        using device = typename std::remove_reference_t<decltype(context)>::device_type;
        view<T const, result, contiguous, device> const dy_view(dy, y.shape());
        if (auto const dx = source.add_gradient()) {
          view<T, S, contiguous, device> const to(dx.data, source.shape());
          if (dx.accumulate) assign(to, to + weights * dy_view, context.device());
          else assign(to, weights * dy_view, context.device());
        }
      });
  }
  return y;
}

}  // namespace dvla::inline DVLA_ABI
