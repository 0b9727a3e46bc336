// From an expression of views and variables to a bound one: strides for the loop's shape, broadcast axes with stride 0.
#pragma once

#include <dvla/expr/bound.hpp>
#include <dvla/expr/expression.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

/// Whether every leaf of E has the loop's own shape and no gaps, so that the loop may run over all elements as one row.
template <class E, class S>
struct runs_flat;
template <class S>
struct runs_flat<number, S> : std::true_type {};
template <class Source, class S>
struct runs_flat<leaf<Source>, S>
    : std::bool_constant<(std::is_same_v<typename Source::shape_type, S> && std::is_same_v<typename Source::layout_type, contiguous>) ||
                         Source::shape_type::rank == 0> {};
template <class Op, class... C, class S>
struct runs_flat<node<Op, C...>, S> : std::bool_constant<(runs_flat<C, S>::value && ...)> {};

/// How a leaf of shape S and layout L walks along the last axis of a loop.
template <class S, class L>
[[nodiscard]] constexpr bound::inner walk_of() {
  if constexpr (S::rank == 0) return bound::inner::constant;
  else if constexpr (S::statics[S::rank - 1] == 1) return bound::inner::constant;
  else if constexpr (std::is_same_v<L, contiguous>) return bound::inner::unit;
  else return bound::inner::any;
}

/// The strides of a source in a loop of rank R.
template <std::size_t R, class Source>
[[nodiscard]] std::array<std::ptrdiff_t, R> loop_strides(Source const& source) {
  using S = typename Source::shape_type;
  std::array<std::ptrdiff_t, R> strides{};
  for (std::size_t i = 0; i < S::rank; ++i)
    if (S::statics[i] != 1) strides[i + R - S::rank] = source.stride(i);
  return strides;
}

/// Bound leaves for reading: the forward pass.
template <class T, std::size_t R>
struct forward_binder {
  static auto bind(number const& n) { return bound::constant<T>{static_cast<T>(n.value)}; }

  template <class Source>
  static auto bind(leaf<Source> const& l) {
    using S = typename Source::shape_type;
    using element = typename Source::value_type;
    if constexpr (S::rank > R) {  // a flat loop: one row of all elements
      return bound::elements<element, bound::inner::unit, R>{l.source.data_pointer(), {1}};
    } else {
      constexpr auto walk = walk_of<S, typename Source::layout_type>();
      return bound::elements<element, walk, R>{l.source.data_pointer(), loop_strides<R>(l.source)};
    }
  }

  template <class Op, class... C>
  static auto bind(node<Op, C...> const& n) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return bound::operation<Op, decltype(bind(get<I>(n.children)))...>{{bind(get<I>(n.children))...}};
    }(std::index_sequence_for<C...>{});
  }
};

}  // namespace detail
}  // namespace dvla::inline DVLA_ABI
