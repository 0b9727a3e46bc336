// BatchNorm in inference, when its statistics are constants: an affine function of each channel, which costs no pass over memory
// of its own. Ahead of a linear map it becomes part of the weights; ahead of an element-wise function, of its loop.
#pragma once

#include <dvla/autodiff/evaluate.hpp>
#include <dvla/autodiff/matmul_epilogue.hpp>
#include <dvla/autodiff/normalization.hpp>
#include <dvla/expr/functions.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

/// The epilogue with (accumulator + constants) in place of the accumulator.
template <class V>
[[nodiscard]] auto with_constants(accumulator_leaf const&, V const& constants) {
  return accumulator + constants;
}
template <class V>
[[nodiscard]] auto with_constants(number const& n, V const&) {
  return n;
}
template <class Source, class V>
[[nodiscard]] auto with_constants(leaf<Source> const& l, V const&) {
  return l;
}
template <class Op, class... C, class V>
[[nodiscard]] auto with_constants(node<Op, C...> const& n, V const& constants) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return node<Op, decltype(with_constants(get<I>(n.children), constants))...>{{with_constants(get<I>(n.children), constants)...}};
  }(std::index_sequence_for<C...>{});
}

}  // namespace detail

/// Whether a context folds normalisations into weights: where nothing is recorded, on a device that has a kernel for it.
template <class Context>
inline constexpr bool folds_norms = !Context::records && requires(typename Context::device_type const& device, float* p) {
  fold_norm(device, std::size_t{}, std::size_t{}, p, p, p, p, p, double{}, p, p, p);
};

/// epilogue(W y) for y = (x - mean) / sqrt(variance + eps) * weight + bias with the running statistics and W (Out, In): one
/// product of x, with the folded weights made anew at each call.
template <class X, class W, class G, class B, class E>
[[nodiscard]] auto folded_map(X const& x, W const& map, G const& weight, B const& bias,
                              running_statistics<arithmetic_t<typename X::value_type>> running, double eps, E const& epilogue) {
  using T = typename X::value_type;
  using A = arithmetic_t<T>;
  using S = typename W::shape_type;
  auto& context = x.context();
  auto const w = detail::input(map);
  std::size_t const rows = w.shape()[0], columns = w.shape()[1];
  auto const folded = make_variable<T>(context, w.shape());
  auto const constants = make_variable<A>(context, detail::make_shape<keep_front<S, 1>>({rows}));
  auto const rounded = make_variable<T>(context, detail::make_shape<keep_front<S, 1>>({rows}));
  fold_norm(context.device(), rows, columns, static_cast<A const*>(w.data_pointer()), static_cast<A const*>(running.mean),
            static_cast<A const*>(running.variance), static_cast<A const*>(detail::input(weight).data_pointer()),
            static_cast<A const*>(detail::input(bias).data_pointer()), eps, folded.data_pointer(), constants.data_pointer(),
            rounded.data_pointer());
  if constexpr (std::is_same_v<E, accumulator_leaf>) return matmul(x, transpose(folded), accumulator + rounded);
  else return matmul(x, transpose(folded), detail::with_constants(epilogue, constants));
}

/// f(batch_norm(x, weight, bias, running, eps)) for an element-wise f from expression to expression: one pass where nothing is
/// recorded and the statistics are the running ones.
template <class F, class X, class W, class B>
[[nodiscard]] auto batch_norm_followed_by(F const& f, X const& x, W const& weight, B const& bias,
                                          running_statistics<arithmetic_t<detail::element_of<X>>> running, double eps) {
  using Context = std::remove_reference_t<decltype(x.context())>;
  using A = arithmetic_t<detail::element_of<X>>;
  auto& context = x.context();
  if constexpr (!Context::records) {
    if (!context.training()) {
      auto const mean = make_variable<A>(context, weight.shape());
      auto const inverse_std = make_variable<A>(context, weight.shape());
      batch_norm_recall(context.device(), weight.size(), static_cast<A const*>(running.mean), static_cast<A const*>(running.variance),
                        static_cast<A>(eps), mean.data_pointer(), inverse_std.data_pointer());
      return evaluate(f((x - mean) * (inverse_std * weight) + bias));
    }
  }
  return evaluate(f(batch_norm(x, weight, bias, running, eps)));
}

/// relu(batch_norm(x, weight, bias, running, eps)), without a pass over memory for the relu where the device can.
template <class X, class W, class B>
[[nodiscard]] auto batch_norm_relu(X const& x, W const& weight, B const& bias,
                                   running_statistics<arithmetic_t<detail::element_of<X>>> running, double eps) {
  using Context = std::remove_reference_t<decltype(x.context())>;
  if constexpr (detail::normalises_with_relu<typename Context::device_type, detail::element_of<X>>)
    return detail::batch_norm<true>(x, weight, bias, running, eps);
  else
    return batch_norm_followed_by([](auto const& y) { return relu(y); }, x, weight, bias, running, eps);
}

}  // namespace dvla::inline DVLA_ABI
