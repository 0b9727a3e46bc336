// Assignment of an expression to memory: `y = gelu(x * scale + shift)` for tensors and views of them.
#pragma once

#include <dvla/expr/bind.hpp>

namespace dvla::inline DVLA_ABI {
namespace op {
struct assign {};
}  // namespace op

/// Evaluates the expression into the view's elements in one pass. The expression's shape must be the view's (extents that
/// are 1 in the expression's type broadcast). Elements may be read and written in the same place; views that overlap in
/// another way may not.
template <class T, class S, class L, class D, class E>
  requires(std::remove_cvref_t<E>::is_expression)
void assign(view<T, S, L, D> const& to, E const& expression, D const& device = {}) {
  using from = typename std::remove_cvref_t<E>::shape_type;
  detail::require_fit<detail::broadcast_of<S, from>::fits && (from::rank <= S::rank), op::assign, S, from>();
  auto merged = to.extents.extents();
  detail::merge_extents(expression.extents(), merged);
  using value = arithmetic_t<T>;
  constexpr bool flat = detail::runs_flat<E, S>::value && std::is_same_v<L, contiguous>;
  if constexpr (flat || S::rank == 0) {
    bound::target<T, bound::inner::unit, 1> const target{to.data, {1}};
    evaluate<value>(device, std::array{to.size()}, detail::forward_binder<value, 1>::bind(expression), target);
  } else {
    constexpr auto walk = std::is_same_v<L, contiguous> ? bound::inner::unit : bound::inner::any;
    bound::target<T, walk, S::rank> const target{to.data, detail::loop_strides<S::rank>(to)};
    evaluate<value>(device, to.extents.extents(), detail::forward_binder<value, S::rank>::bind(expression), target);
  }
}

}  // namespace dvla::inline DVLA_ABI
