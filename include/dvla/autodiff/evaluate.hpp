// Evaluation of an expression over variables: one fused loop forward; on a tape one node with one fused loop backward.
//
// What the backward loop keeps is decided by type: a leaf whose value no derivative reads is kept as a gradient handle
// only, so a residual sum keeps nothing and a product with a constant keeps the constant alone.
#pragma once

#include <dvla/autodiff/variable.hpp>
#include <dvla/expr/assign.hpp>
#include <dvla/kernels/cpu/gradient_sums.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

/// The context type of an expression: that of its first variable, or void.
template <class E>
struct context_of {
  using type = void;
};
template <class T, class S, class C>
struct context_of<leaf<variable<T, S, C>>> {
  using type = C;
};
template <class Op, class... Children>
struct context_of<node<Op, Children...>> {
  template <class... C>
  struct first {
    using type = void;
  };
  template <class C, class... Rest>
  struct first<C, Rest...> {
    using type = std::conditional_t<std::is_void_v<C>, typename first<Rest...>::type, C>;
  };
  using type = typename first<typename context_of<Children>::type...>::type;
};

/// Whether all variables of an expression live in contexts of type C.
template <class E, class C>
inline constexpr bool lives_in = true;
template <class T, class S, class Own, class C>
inline constexpr bool lives_in<leaf<variable<T, S, Own>>, C> = std::is_same_v<Own, C>;
template <class Op, class... Children, class C>
inline constexpr bool lives_in<node<Op, Children...>, C> = (lives_in<Children, C> && ...);

/// Calls f(source) for each leaf, left to right.
template <class E, class F>
void visit_leaves(E const& e, F&& f) {
  if constexpr (requires { e.children; }) {
    for_each(e.children, [&](auto const& child) { visit_leaves(child, f); });
  } else if constexpr (requires { e.source; }) {
    f(e.source);
  }
}

template <class E>
[[nodiscard]] auto* find_context(E const& e) {
  using context = typename context_of<E>::type;
  if constexpr (std::is_void_v<context>) {
    return static_cast<void*>(nullptr);
  } else {
    static_assert(lives_in<E, context>, "an expression mixes variables of a tape with variables of an inference context");
    context* found = nullptr;
    visit_leaves(e, [&](auto const& source) {
      if constexpr (lives_in<leaf<std::remove_cvref_t<decltype(source)>>, context> && is_variable<std::remove_cvref_t<decltype(source)>>) {
        expect(found == nullptr || found == &source.context(), "an expression mixes variables of two contexts; compute it in one");
        found = &source.context();
      }
    });
    return found;
  }
}

/// Sources that can receive a gradient.
template <class Source>
concept tracked_source = requires(Source const& s) {
  s.add_gradient();
  s.gradient_only();
};

template <class E>
inline constexpr bool tracks = false;
template <class Source>
inline constexpr bool tracks<leaf<Source>> = tracked_source<Source>;
template <class Op, class... C>
inline constexpr bool tracks<node<Op, C...>> = (tracks<C> || ...);

/// A leaf in a recorded node: Value holds the source itself, otherwise its gradient handle is all there is.
template <class Source, bool Value>
struct kept_leaf {
  using kept = std::conditional_t<Value, Source, decltype(std::declval<Source const&>().gradient_only())>;
  using shape_type = typename Source::shape_type;
  using value_type = typename Source::value_type;
  kept source;
};

/// A recorded node.
template <class Op, class... Children>
struct kept_node {
  pack<Children...> children;
};

/// How many leaves of a kept expression can receive a gradient.
template <class Kept>
inline constexpr std::size_t tracked_leaves = 0;
template <class Source, bool Value>
inline constexpr std::size_t tracked_leaves<kept_leaf<Source, Value>> = 1;
template <class Op, class... C>
inline constexpr std::size_t tracked_leaves<kept_node<Op, C...>> = (tracked_leaves<C> + ...);

template <class Op, std::size_t J, class... C, std::size_t... I>
[[nodiscard]] constexpr bool reads_child(std::index_sequence<I...>) {
  return ((tracks<C> && Op::uses(I, J)) || ...);
}

/// The expression as the backward pass keeps it; Value says whether an ancestor's derivative reads this value.
template <bool Value>
[[nodiscard]] inline auto keep(number const& n) {
  return n;
}
template <bool Value, class Source>
[[nodiscard]] auto keep(leaf<Source> const& l) {
  if constexpr (!tracked_source<Source>) return l;
  else if constexpr (Value) return kept_leaf<Source, true>{l.source};
  else return kept_leaf<Source, false>{l.source.gradient_only()};
}
template <bool Value, class Op, class... C>
[[nodiscard]] auto keep(node<Op, C...> const& n) {
  return [&]<std::size_t... I>(std::index_sequence<I...> all) {
    return kept_node<Op, decltype(keep<Value || reads_child<Op, I, C...>(all)>(get<I>(n.children)))...>{
        {keep<Value || reads_child<Op, I, C...>(all)>(get<I>(n.children))...}};
  }(std::index_sequence_for<C...>{});
}

/// Whether a leaf of shape S gets one contribution an element in a loop of shape Loop.
template <class S, class Loop>
[[nodiscard]] constexpr bool covers() {
  if constexpr (S::rank != Loop::rank) return false;
  for (std::size_t i = 0; i < S::rank; ++i)
    if (S::statics[i] == 1 && Loop::statics[i] != 1) return false;
  return true;
}

/// Bound leaves for the backward pass, with their sinks.
template <class T, std::size_t R, class Loop, class Sums>
struct backward_binder {
  Sums& sums;

  auto bind(number const& n) { return forward_binder<T, R>::bind(n); }
  template <class Source>
  auto bind(leaf<Source> const& l) {
    return forward_binder<T, R>::bind(l);
  }

  template <class Source, bool Value>
  auto bind(kept_leaf<Source, Value> const& l) {
    using S = typename Source::shape_type;
    using element = typename Source::value_type;
    // A leaf that covers the loop gets one contribution an element, even where its last extent is 1.
    constexpr bool whole = S::rank > R || covers<S, Loop>();
    constexpr auto walk = whole ? bound::inner::unit : walk_of<S, contiguous>();
    constexpr auto gradient_walk = whole ? walk : Sums::template walk<walk>;
    using gradient = std::conditional_t<whole, element, T>;
    bound::tracked_elements<element, walk, gradient, gradient_walk, R, Value> out{};
    view<element const, S> const layout{nullptr, l.source.shape()};
    if constexpr (S::rank > R) out.values.strides = {1};
    else out.values.strides = loop_strides<R>(layout);
    if constexpr (Value) out.values.data = l.source.data_pointer();
    if constexpr (whole) {
      auto const target = l.source.add_gradient();
      out.gradient = {target.data, out.values.strides};
      out.into = !target ? bound::sink::none : target.accumulate ? bound::sink::add : bound::sink::write;
    } else if (l.source.wants_gradient()) {
      auto const collector = sums.open(out.values.strides, l.source.size(), l.source.add_gradient());
      out.gradient = {collector.data, collector.strides};
      out.into = collector.into;
    }
    return out;
  }

  template <class Op, class... C>
  auto bind(kept_node<Op, C...> const& n) {
    return bind_children<Op>(n.children, std::index_sequence_for<C...>{});
  }

 private:
  template <class Op, class... C, std::size_t... I>
  auto bind_children(pack<C...> const& children, std::index_sequence<I...>) {
    return bound::operation<Op, decltype(bind(get<I>(children)))...>{{bind(get<I>(children))...}};
  }
};

/// The backward pass of a kept expression over a loop of shape S; dy has the loop's shape, or inner extent 1.
template <class T, bool Flat, class S, class Dy, class DyShape, class Context, class Kept>
void backward_loop(Context& context, S const& extents, Kept const& kept, view<Dy, DyShape> const& dy) {
  constexpr std::size_t R = Flat ? 1 : S::rank;
  std::array<std::size_t, R> loop{};
  if constexpr (Flat) loop = {extents.size()};
  else loop = extents.extents();
  using device = typename Context::device_type;
  using sums_type = kernels::gradient_sums<Context, device, T, R, tracked_leaves<Kept>>;
  sums_type sums(context, loop);
  auto const bound_expression = backward_binder<T, R, S, sums_type>{sums}.bind(kept);
  sums.run(bound_expression, forward_binder<T, R>::bind(leaf<view<Dy, DyShape>>{dy}));
  sums.finish();
}

/// Notes that y is the GELU of a variable, so that a product can leave the gradient of what is before the GELU at once.
template <class Y, class E>
void mark_gelu(Y const&, E const&) {}
template <class T, class S, class C>
void mark_gelu(variable<T, S, C> const& y, node<op::gelu, leaf<variable<T, S, C>>> const& e) {
  y.cell()->gelu_of = get<0>(e.children).source.cell();
}

/// What an expression's value is stored as: bfloat16 if a variable in it is, else the type that it is computed in.
template <class E>
struct stored_element {
  using type = typename E::value_type;
};
template <class S, class C>
struct stored_element<leaf<variable<bfloat16, S, C>>> {
  using type = bfloat16;
};
template <class Op, class... C>
struct stored_element<node<Op, C...>> {
  static constexpr bool narrow = (std::is_same_v<typename stored_element<C>::type, bfloat16> || ...);
  using type = std::conditional_t<narrow, bfloat16, typename node<Op, C...>::value_type>;
};

}  // namespace detail

/// The expression's value as a new variable, computed in one pass; on a tape its backward pass is one pass too.
template <class E>
  requires(std::remove_cvref_t<E>::is_expression)
[[nodiscard]] auto evaluate(E const& expression) {
  using T = typename E::value_type;
  using element = typename detail::stored_element<E>::type;
  using S = typename E::shape_type;
  auto* const context = detail::find_context(expression);
  static_assert(!std::is_void_v<std::remove_pointer_t<decltype(context)>>,
                "evaluate needs a variable in the expression; assign an expression of plain tensors to a tensor instead");
  using Context = std::remove_pointer_t<decltype(context)>;
  auto const extents = expression.extents();
  auto y = make_variable<element>(*context, extents);
  assign(view<element, S, contiguous, typename Context::device_type>(y.data_pointer(), extents), expression, context->device());
  if constexpr (Context::records && detail::tracks<E>) {
    bool wanted = false;
    detail::visit_leaves(expression, [&](auto const& source) {
      if constexpr (detail::tracked_source<std::remove_cvref_t<decltype(source)>>) wanted = wanted || source.wants_gradient();
    });
    if (wanted && context->recording())
      context->record(y.cell(), [context, extents, kept = detail::keep<false>(expression)](element const* dy) {
        constexpr bool flat = detail::runs_flat<E, S>::value || S::rank == 0;
        detail::backward_loop<T, flat>(*context, extents, kept, view<element const, S>(dy, extents));
      });
    if (wanted && context->recording()) detail::mark_gelu(y, expression);
  }
  return y;
}

/// A variable is its own value.
template <class T, class S, class C>
[[nodiscard]] variable<T, S, C> const& evaluate(variable<T, S, C> const& x) {
  return x;
}

}  // namespace dvla::inline DVLA_ABI
