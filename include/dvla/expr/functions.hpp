// The functions of expressions. Each takes tensors, views, variables, parameters, expressions or numbers and gives an
// expression; nothing is computed before the expression is assigned or evaluated.
#pragma once

#include <dvla/expr/expression.hpp>

namespace dvla::inline DVLA_ABI {

template <detail::tensor_like X>
[[nodiscard]] auto exp(X&& x) {
  return apply<op::exp>(static_cast<X&&>(x));
}
/// Natural logarithm.
template <detail::tensor_like X>
[[nodiscard]] auto log(X&& x) {
  return apply<op::log>(static_cast<X&&>(x));
}
template <detail::tensor_like X>
[[nodiscard]] auto sqrt(X&& x) {
  return apply<op::sqrt>(static_cast<X&&>(x));
}
/// 1 / sqrt(x).
template <detail::tensor_like X>
[[nodiscard]] auto rsqrt(X&& x) {
  return apply<op::rsqrt>(static_cast<X&&>(x));
}
template <detail::tensor_like X>
[[nodiscard]] auto square(X&& x) {
  return apply<op::square>(static_cast<X&&>(x));
}
/// |x|; its derivative at 0 is 0.
template <detail::tensor_like X>
[[nodiscard]] auto abs(X&& x) {
  return apply<op::absolute>(static_cast<X&&>(x));
}
template <detail::tensor_like X>
[[nodiscard]] auto tanh(X&& x) {
  return apply<op::tanh>(static_cast<X&&>(x));
}
/// 1 / (1 + exp(-x)).
template <detail::tensor_like X>
[[nodiscard]] auto sigmoid(X&& x) {
  return apply<op::sigmoid>(static_cast<X&&>(x));
}
template <detail::tensor_like X>
[[nodiscard]] auto erf(X&& x) {
  return apply<op::erf>(static_cast<X&&>(x));
}
/// The exact form, x (1 + erf(x / sqrt 2)) / 2.
template <detail::tensor_like X>
[[nodiscard]] auto gelu(X&& x) {
  return apply<op::gelu>(static_cast<X&&>(x));
}
/// x sigmoid(1.702 x): what CLIP has in place of gelu.
template <detail::tensor_like X>
[[nodiscard]] auto quick_gelu(X&& x) {
  return apply<op::quick_gelu>(static_cast<X&&>(x));
}
/// max(x, 0); its derivative at 0 is 0.
template <detail::tensor_like X>
[[nodiscard]] auto relu(X&& x) {
  return apply<op::relu>(static_cast<X&&>(x));
}
template <class A, class B>
  requires detail::operands<A, B>
[[nodiscard]] auto pow(A&& base, B&& exponent) {
  return apply<op::pow>(static_cast<A&&>(base), static_cast<B&&>(exponent));
}
/// The larger of two; where they are equal the derivative goes to the first.
template <class A, class B>
  requires detail::operands<A, B>
[[nodiscard]] auto maximum(A&& a, B&& b) {
  return apply<op::maximum>(static_cast<A&&>(a), static_cast<B&&>(b));
}
template <class A, class B>
  requires detail::operands<A, B>
[[nodiscard]] auto minimum(A&& a, B&& b) {
  return apply<op::minimum>(static_cast<A&&>(a), static_cast<B&&>(b));
}
/// x held within [low, high].
template <class X, class L, class H>
  requires detail::operands<X, L, H>
[[nodiscard]] auto clamp(X&& x, L&& low, H&& high) {
  return minimum(maximum(static_cast<X&&>(x), static_cast<L&&>(low)), static_cast<H&&>(high));
}
/// 1 where a equals b, 0 elsewhere.
template <class A, class B>
  requires detail::operands<A, B>
[[nodiscard]] auto equal(A&& a, B&& b) {
  return apply<op::equal>(static_cast<A&&>(a), static_cast<B&&>(b));
}
/// a where the condition is not 0, b elsewhere.
template <class C, class A, class B>
  requires detail::operands<C, A, B>
[[nodiscard]] auto select(C&& condition, A&& a, B&& b) {
  return apply<op::select>(static_cast<C&&>(condition), static_cast<A&&>(a), static_cast<B&&>(b));
}

}  // namespace dvla::inline DVLA_ABI
