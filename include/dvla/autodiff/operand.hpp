// What an operation takes: variables, parameters, and expressions, which are evaluated first.
#pragma once

#include <tuple>

#include <dvla/autodiff/evaluate.hpp>
#include <dvla/autodiff/parameter.hpp>

namespace dvla::inline DVLA_ABI {

/// A parameter or variable with its last two axes swapped, for matmul: no copy is made.
template <class Source>
struct transposed {
  Source source;
};

namespace detail {

template <class T, class S, class C>
[[nodiscard]] variable<T, S, C> const& input(variable<T, S, C> const& x) {
  return x;
}
template <class S, class T, class A, role R>
[[nodiscard]] parameter_reference<T, S> input(parameter<S, T, A, R> const& p) {
  return p.reference();
}
template <class T, class S>
[[nodiscard]] parameter_reference<T, S> input(parameter_reference<T, S> const& p) {
  return p;
}
template <class E>
  requires(std::remove_cvref_t<E>::is_expression)
[[nodiscard]] auto input(E const& e) {
  return evaluate(e);
}

template <class X>
concept differentiable = requires(X const& x) { detail::input(x); };

template <class X>
using element_of = typename std::remove_cvref_t<decltype(detail::input(std::declval<X const&>()))>::value_type;

/// All computed in float or all in double: an operation does not convert.
template <class First, class... Rest>
concept one_element_type = (std::is_same_v<arithmetic_t<element_of<First>>, arithmetic_t<element_of<Rest>>> && ...);

/// What the elements of an operation's operands are read as: bfloat16 where a variable among them is stored so.
template <class... Source>
using common_element = std::conditional_t<(std::is_same_v<typename Source::value_type, bfloat16> || ...), bfloat16,
                                          typename std::tuple_element_t<0, std::tuple<Source...>>::value_type>;

/// The elements of a source as E; a parameter of float has a bfloat16 copy on devices that multiply so.
template <class E, class Source>
[[nodiscard]] E const* read_as(Source const& source) {
  if constexpr (std::is_same_v<E, typename Source::value_type>) {
    return source.data_pointer();
  } else {
    static_assert(!is_variable<Source>, "an operation mixes float and bfloat16 variables; bring one to the other's with convert<T>(x)");
    return source.rounded();
  }
}

/// The context of the first variable among the inputs of an operation.
template <class First, class... Rest>
[[nodiscard]] auto& context_among(First const& first, Rest const&... rest) {
  if constexpr (is_variable<First>) return first.context();
  else return context_among(rest...);
}

}  // namespace detail

/// The last two axes swapped, as an argument of matmul.
template <detail::differentiable X>
[[nodiscard]] auto transpose(X const& x) {
  auto source = detail::input(x);
  return transposed<decltype(source)>{source};
}

}  // namespace dvla::inline DVLA_ABI
