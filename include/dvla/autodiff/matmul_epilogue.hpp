// Products whose result is completed block by block while it is in cache: matmul(x, w, gelu(accumulator + bias)). The epilogue
// is an expression on the accumulator; forward it costs no pass over memory of its own.
#pragma once

#include <dvla/autodiff/matmul.hpp>
#include <dvla/kernels/cpu/gemm_evaluate.hpp>

namespace dvla::inline DVLA_ABI {

/// Stands for the product in an epilogue.
struct accumulator_leaf {
  static constexpr bool is_expression = true;
  using shape_type = dvla::shape<>;
  using value_type = void;
  [[nodiscard]] shape_type extents() const { return {}; }
};
inline constexpr accumulator_leaf accumulator{};

namespace detail {

template <>
inline constexpr bool tracks<accumulator_leaf> = true;

/// The epilogue with the product's variable in place of the accumulator.
template <class V>
[[nodiscard]] auto substitute(accumulator_leaf const&, V const& product) {
  return leaf<V>{product};
}
template <class V>
[[nodiscard]] auto substitute(number const& n, V const&) {
  return n;
}
template <class Source, class V>
[[nodiscard]] auto substitute(leaf<Source> const& l, V const&) {
  return l;
}
template <class Op, class... C, class V>
[[nodiscard]] auto substitute(node<Op, C...> const& n, V const& product) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return node<Op, decltype(substitute(get<I>(n.children), product))...>{{substitute(get<I>(n.children), product)...}};
  }(std::index_sequence_for<C...>{});
}

/// Whether a leaf has one value for each member of the product's first extents, the rest being 1: a value a sample.
template <class S, class Product>
[[nodiscard]] constexpr bool is_grouped() {
  if constexpr (S::rank != Product::rank || S::rank < 2) return false;
  std::size_t axis = 0;
  while (axis < S::rank && may_equal(S::statics[axis], Product::statics[axis]) && S::statics[axis] != 1) ++axis;
  for (std::size_t i = axis; i < S::rank; ++i)
    if (S::statics[i] != 1) return false;
  return axis + 1 < S::rank;
}

/// Bound leaves for a product seen as one matrix of rows and columns: a leaf is a row vector, a value a row, a value a sample, or
/// covers it. Accumulated is how the device reads the product's sums.
template <class T, class Product, class Accumulated>
struct matrix_binder {
  Accumulated accumulated;
  Product extents;

  auto bind(accumulator_leaf const&) const { return accumulated; }
  auto bind(number const& n) const { return bound::constant<T>{static_cast<T>(n.value)}; }

  template <class Source>
  auto bind(leaf<Source> const& l) const {
    using S = typename Source::shape_type;
    using element = typename Source::value_type;
    static_assert(std::is_same_v<typename Source::layout_type, contiguous>, "an epilogue reads contiguous tensors");
    if constexpr (is_grouped<S, Product>()) {
      return bound::grouped_rows<element>{l.source.data_pointer(), extents.size() / extents[Product::rank - 1] / l.source.shape().size()};
    } else {
      static_assert(S::rank <= 1 || covers<keep_front<S, S::rank - 1>, keep_front<Product, Product::rank - 1>>(),
                    "an epilogue takes row vectors, a value a row or a sample, and tensors of the product's shape; apply the rest "
                    "afterwards");
      constexpr auto walk = walk_of<S, contiguous>();
      std::ptrdiff_t row = 0;
      if constexpr (S::rank > 1) row = static_cast<std::ptrdiff_t>(l.source.shape()[S::rank - 1]);
      return bound::elements<element, walk, 2>{l.source.data_pointer(), {row, walk == bound::inner::unit ? 1 : 0}};
    }
  }

  template <class Op, class... C>
  auto bind(node<Op, C...> const& n) const {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return bound::operation<Op, decltype(bind(get<I>(n.children)))...>{{bind(get<I>(n.children))...}};
    }(std::index_sequence_for<C...>{});
  }
};

/// Whether the backward pass of an epilogue reads the product's values; Value: an ancestor's derivative reads this one.
template <bool Value, class E>
inline constexpr bool reads_sums = false;
template <bool Value>
inline constexpr bool reads_sums<Value, accumulator_leaf> = Value;

template <bool Value, class Op, class... C, std::size_t... I>
[[nodiscard]] constexpr bool node_reads_sums(std::index_sequence<I...> all) {
  return (reads_sums<Value || reads_child<Op, I, C...>(all), C> || ...);
}
template <bool Value, class Op, class... C>
inline constexpr bool reads_sums<Value, node<Op, C...>> = node_reads_sums<Value, Op, C...>(std::index_sequence_for<C...>{});

/// The epilogue of a residual branch, x + accumulator, x being a variable of the product's type: both have the gradient of the sum.
template <class E, class Y>
inline constexpr bool is_residual = false;
template <class Y>
inline constexpr bool is_residual<node<op::add, leaf<Y>, accumulator_leaf>, Y> = true;

template <class E>
[[nodiscard]] bool wants_gradient(E const& expression) {
  bool wanted = false;
  visit_leaves(expression, [&](auto const& source) {
    if constexpr (tracked_source<std::remove_cvref_t<decltype(source)>>) wanted = wanted || source.wants_gradient();
  });
  return wanted;
}

/// Leaves the gradient of a sum to one of its terms: the memory itself where the term has none yet and nobody else holds the sum.
template <class Context, class T, class S>
void hand_on(Context& context, cell<T>& sum, variable<T, S, Context> const& term) {
  auto* const to = term.cell();
  if (!to->wants_gradient) return;
  if (to->gradient == nullptr && to->memory == sum.memory && sum.holders == 1) {
    to->gradient = std::exchange(sum.gradient, nullptr);
    to->side = std::exchange(sum.side, {});
    to->has_gradient = true;
    return;
  }
  auto const target = add_gradient(*to);
  convert(context.device(), term.size(), static_cast<T const*>(sum.gradient), target.data, target.accumulate);
}

/// Records the backward pass of a product and its epilogue.
template <class Context, class Plan, class A, class B, class Y, class E, class Expression>
void record_epilogue(Context& context, Plan const& plan, A const& a, B const& b, Y const& y, Y const& product, E const& epilogue,
                     Expression const& expression) {
  using T = typename Y::value_type;
  if constexpr (is_residual<E, Y>) {
    context.record(y.cell(), [&context, sizes = plan.sizes, a, b, x = get<0>(epilogue.children).source](cell<T>& sum) {
      multiply_backward(context, sizes, a, b, sum);
      hand_on(context, sum, x);
    });
  } else {
    record_product(context, plan.sizes, a, b, product);
    context.record(y.cell(), [&context, extents = plan.extents, kept = keep<false>(expression)](T const* dy) {
      using S = typename Y::shape_type;
      backward_loop<arithmetic_t<T>, false>(context, extents, kept, view<T const, S>(dy, extents));
    });
    if constexpr (std::is_same_v<E, node<op::gelu, accumulator_leaf>>) y.cell()->gelu_of = product.cell();
  }
}

}  // namespace detail

/// The epilogue of matmul(a, b) evaluated on the product: the same value as evaluate() of the expression on matmul(a, b), with
/// the same gradients. b is a matrix; other leaves of the epilogue are row vectors (N), values a row (..., 1) or a sample
/// (B, 1, ...), or tensors of the product's shape (..., N).
template <class A, class B, class E>
  requires detail::same_elements<A, B> && (std::remove_cvref_t<E>::is_expression)
[[nodiscard]] auto matmul(A const& left, B const& right, E const& epilogue) {
  auto const a = detail::as_factor(left);
  auto const b = detail::as_factor(right);
  using FA = std::remove_const_t<decltype(a)>;
  using FB = std::remove_const_t<decltype(b)>;
  using T = detail::common_element<decltype(FA::source), decltype(FB::source)>;
  static_assert(FB::S::rank == 2, "matmul: a product with an epilogue takes a matrix on the right");
  detail::require_fit<detail::product_fits<FA, FB>, op::matmul, typename FA::S, typename FB::S>();
  detail::product_plan<FA, FB> const plan(a, b);
  auto& context = detail::context_among(a.source, b.source);
  using Context = std::remove_reference_t<decltype(context)>;
  using S = typename decltype(plan)::result;
  bool keep = false;
  if constexpr (Context::records)
    keep = context.recording() && (a.source.wants_gradient() || b.source.wants_gradient() || detail::wants_gradient(epilogue));
  bool const keep_sums = keep && detail::reads_sums<false, E>;
  auto const y = make_variable<T>(context, plan.extents);
  variable<T, S, Context> const product(
      context, keep_sums ? context.template make_cell<T>(y.size()) : context.template make_gradient_cell<T>(y.size()), plan.extents);
  auto const expression = detail::substitute(epilogue, product);
  using SE = typename std::remove_cvref_t<decltype(expression)>::shape_type;
  detail::require_fit<std::is_same_v<SE, S>, op::matmul, S, SE>();
  (void)expression.extents();  // run-time extents are checked before any work

  auto const problem = detail::product_problem(plan.sizes, a, b, keep_sums ? product.data_pointer() : y.data_pointer());
  auto const accumulated = bind_accumulator(context.device(), problem);
  detail::matrix_binder<arithmetic_t<T>, S, decltype(bind_accumulator(context.device(), problem))> const binder{accumulated, plan.extents};
  gemm_evaluate(context.device(), problem, binder.bind(epilogue),
                bound::target<T, bound::inner::unit, 2>{y.data_pointer(), {static_cast<std::ptrdiff_t>(b.columns()), 1}});
  if constexpr (Context::records) {
    if (keep) detail::record_epilogue(context, plan, a, b, y, product, epilogue, expression);
  }
  return y;
}

}  // namespace dvla::inline DVLA_ABI
