// Lazy element-wise expressions: a small tree of values. Leaves are views, variables or parameters, held by value, so an
// expression cannot dangle; an expression over a temporary tensor does not compile.
//
// Shapes broadcast by type: aligned at the last axis, an extent that is missing or statically 1 meets any other. An extent
// known at run time never broadcasts; it must equal its partner, which is checked once, at evaluation.
#pragma once

#include <type_traits>

#include <dvla/core/tensor.hpp>
#include <dvla/expr/operations.hpp>
#include <dvla/expr/pack.hpp>

namespace dvla::inline DVLA_ABI {

/// A leaf that refers to elements in memory: Source is a view, a variable or a parameter.
template <class Source>
struct leaf {
  static constexpr bool is_expression = true;
  using shape_type = typename Source::shape_type;
  using value_type = arithmetic_t<typename Source::value_type>;
  Source source;

  [[nodiscard]] shape_type const& extents() const { return source.shape(); }
};

/// A number; it takes the element type of the expression around it.
struct number {
  static constexpr bool is_expression = true;
  using shape_type = dvla::shape<>;
  using value_type = void;
  double value;

  [[nodiscard]] shape_type extents() const { return {}; }
};

namespace detail {

template <std::size_t A, std::size_t B>
inline constexpr bool extents_broadcast = A == 1 || B == 1 || may_equal(A, B);

template <std::size_t A, std::size_t B>
inline constexpr std::size_t broadcast_extent = A == 1 ? B : B == 1 ? A : known(A, B);

/// The i-th extent of S when it is padded with ones in front to Rank axes.
template <class S, std::size_t Rank, std::size_t I>
[[nodiscard]] constexpr std::size_t padded_extent() {
  if constexpr (I + S::rank < Rank) return 1;
  else return S::statics[I + S::rank - Rank];
}

template <class A, class B>
struct broadcast_of {
  static constexpr std::size_t rank = A::rank > B::rank ? A::rank : B::rank;
  template <std::size_t... I>
  static constexpr bool check(std::index_sequence<I...>) {
    return (extents_broadcast<padded_extent<A, rank, I>(), padded_extent<B, rank, I>()> && ...);
  }
  template <std::size_t... I>
  static auto combine(std::index_sequence<I...>)
      -> shape<broadcast_extent<padded_extent<A, rank, I>(), padded_extent<B, rank, I>()>...>;
  static constexpr bool fits = check(std::make_index_sequence<rank>{});
  using type = decltype(combine(std::make_index_sequence<rank>{}));
};

/// Fills extents that are still unknown (0) from a child's and checks those that are known.
template <class S, std::size_t Rank>
void merge_extents(S const& child, std::array<std::size_t, Rank>& extents) {
  for (std::size_t i = 0; i < S::rank; ++i) {
    if (S::statics[i] == 1) continue;
    auto& extent = extents[i + Rank - S::rank];
    expect(extent == dyn || extent == child[i], "element-wise expression: a tensor of shape ", child, " meets an extent of ",
           extent, "; an extent broadcasts only where it is 1 in the type");
    extent = child[i];
  }
}

}  // namespace detail

/// The shape two operands broadcast to; a mismatch ends the compilation with both shapes in the message.
template <class Op, class A, class B>
struct broadcast_shape : detail::fit<detail::broadcast_of<A, B>::fits, Op, A, B> {
  using type = typename detail::broadcast_of<A, B>::type;
};

namespace detail {

template <class Op, class... Shapes>
struct common_shape;
template <class Op, class A>
struct common_shape<Op, A> {
  using type = A;
};
template <class Op, class A, class B, class... Rest>
struct common_shape<Op, A, B, Rest...> : common_shape<Op, typename broadcast_shape<Op, A, B>::type, Rest...> {};

template <class A, class B>
struct common_value {
  static_assert(std::is_same_v<A, B>, "an expression mixes float and double tensors; convert one of them");
  using type = A;
};
template <class A>
struct common_value<A, void> {
  using type = A;
};
template <class B>
struct common_value<void, B> {
  using type = B;
};
template <>
struct common_value<void, void> {
  using type = void;
};

template <class... T>
struct common_values;
template <class A>
struct common_values<A> {
  using type = A;
};
template <class A, class B, class... Rest>
struct common_values<A, B, Rest...> : common_values<typename common_value<A, B>::type, Rest...> {};

}  // namespace detail

/// An operation applied to sub-expressions.
template <class Op, class... Children>
struct node {
  static constexpr bool is_expression = true;
  using operation = Op;
  using shape_type = typename detail::common_shape<Op, typename Children::shape_type...>::type;
  using value_type = typename detail::common_values<typename Children::value_type...>::type;
  detail::pack<Children...> children;

  /// The run-time shape; throws where run-time extents disagree.
  [[nodiscard]] shape_type extents() const {
    auto all = shape_type::statics;
    if constexpr (shape_type::dynamic_rank > 0) {
      detail::for_each(children, [&](auto const& child) { detail::merge_extents(child.extents(), all); });
      for (auto& extent : all)
        if (extent == dyn) extent = 1;
    }
    return detail::make_shape<shape_type>(all);
  }
};

namespace detail {

template <class X>
struct source_of {
  static constexpr bool exists = false;
};

template <class T, class S, class L, class D>
struct source_of<view<T, S, L, D>> {
  static constexpr bool exists = true;
  static leaf<view<T const, S, L, D>> make(view<T, S, L, D> const& v) { return {v}; }
};

template <class T, class S, class D>
struct source_of<tensor<T, S, D>> {
  static constexpr bool exists = true;
  static leaf<view<T const, S, contiguous, D>> make(tensor<T, S, D> const& t) { return {t.view_of()}; }
  static leaf<view<T const, S, contiguous, D>> make(tensor<T, S, D> const&&) = delete;  // the expression would outlive the tensor
};

template <class X>
concept expression_like = requires { requires std::remove_cvref_t<X>::is_expression; };

template <class X>
concept tensor_like = expression_like<X> || source_of<std::remove_cvref_t<X>>::exists;

template <class X>
concept operand = tensor_like<X> || std::is_arithmetic_v<std::remove_cvref_t<X>>;

template <class... X>
concept operands = (operand<X> && ...) && (tensor_like<X> || ...);

}  // namespace detail

/// The expression that an operand stands for.
template <detail::operand X>
[[nodiscard]] auto as_expression(X&& x) {
  using plain = std::remove_cvref_t<X>;
  if constexpr (std::is_arithmetic_v<plain>) {
    return number{static_cast<double>(x)};
  } else if constexpr (detail::expression_like<plain>) {
    return plain(x);
  } else {
    return detail::source_of<plain>::make(static_cast<X&&>(x));
  }
}

/// The node that applies Op to operands.
template <class Op, class... X>
  requires detail::operands<X...>
[[nodiscard]] auto apply(X&&... x) {
  return node<Op, decltype(as_expression(static_cast<X&&>(x)))...>{{as_expression(static_cast<X&&>(x))...}};
}

template <class A, class B>
  requires detail::operands<A, B>
[[nodiscard]] auto operator+(A&& a, B&& b) {
  return apply<op::add>(static_cast<A&&>(a), static_cast<B&&>(b));
}
template <class A, class B>
  requires detail::operands<A, B>
[[nodiscard]] auto operator-(A&& a, B&& b) {
  return apply<op::subtract>(static_cast<A&&>(a), static_cast<B&&>(b));
}
template <class A, class B>
  requires detail::operands<A, B>
[[nodiscard]] auto operator*(A&& a, B&& b) {
  return apply<op::multiply>(static_cast<A&&>(a), static_cast<B&&>(b));
}
template <class A, class B>
  requires detail::operands<A, B>
[[nodiscard]] auto operator/(A&& a, B&& b) {
  return apply<op::divide>(static_cast<A&&>(a), static_cast<B&&>(b));
}
template <detail::tensor_like A>
[[nodiscard]] auto operator-(A&& a) {
  return apply<op::negate>(static_cast<A&&>(a));
}
template <class A, class B>
  requires detail::operands<A, B>
[[nodiscard]] auto operator<(A&& a, B&& b) {
  return apply<op::less>(static_cast<A&&>(a), static_cast<B&&>(b));
}
template <class A, class B>
  requires detail::operands<A, B>
[[nodiscard]] auto operator<=(A&& a, B&& b) {
  return apply<op::less_equal>(static_cast<A&&>(a), static_cast<B&&>(b));
}
template <class A, class B>
  requires detail::operands<A, B>
[[nodiscard]] auto operator>(A&& a, B&& b) {
  return apply<op::less>(static_cast<B&&>(b), static_cast<A&&>(a));
}
template <class A, class B>
  requires detail::operands<A, B>
[[nodiscard]] auto operator>=(A&& a, B&& b) {
  return apply<op::less_equal>(static_cast<B&&>(b), static_cast<A&&>(a));
}

}  // namespace dvla::inline DVLA_ABI
