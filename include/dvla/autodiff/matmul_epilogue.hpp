// Products whose result is completed block by block while it is in cache: matmul(x, w, gelu(accumulator + bias)). The epilogue
// is an expression on the accumulator; forward it costs no pass over memory of its own.
#pragma once

#include <dvla/autodiff/matmul.hpp>

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

/// Bound leaves for a product seen as one matrix of rows and columns: a leaf is a row vector, a value a row, or covers it.
template <class T, class Product>
struct matrix_binder {
  static auto bind(number const& n) { return bound::constant<T>{static_cast<T>(n.value)}; }

  template <class Source>
  static auto bind(leaf<Source> const& l) {
    using S = typename Source::shape_type;
    static_assert(S::rank <= 1 || covers<keep_front<S, S::rank - 1>, keep_front<Product, Product::rank - 1>>(),
                  "an epilogue takes row vectors and tensors with the leading extents of the product; apply the rest afterwards");
    static_assert(std::is_same_v<typename Source::layout_type, contiguous>, "an epilogue reads contiguous tensors");
    constexpr auto walk = walk_of<S, contiguous>();
    std::ptrdiff_t row = 0;
    if constexpr (S::rank > 1) row = static_cast<std::ptrdiff_t>(l.source.shape()[S::rank - 1]);
    return bound::elements<typename Source::value_type, walk, 2>{l.source.data_pointer(), {row, walk == bound::inner::unit ? 1 : 0}};
  }

  template <class Op, class... C>
  static auto bind(node<Op, C...> const& n) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return bound::operation<Op, decltype(bind(get<I>(n.children)))...>{{bind(get<I>(n.children))...}};
    }(std::index_sequence_for<C...>{});
  }
};

/// A bound epilogue and where its values go, as gemm calls it back for each finished block.
template <class T, class Bound>
struct block_finisher {
  Bound expression;
  bound::target<T, bound::inner::unit, 2> out;

  static void apply(void const* self, std::size_t row, std::size_t column, std::size_t rows, std::size_t columns, T*, std::size_t) {
    auto finisher = *static_cast<block_finisher const*>(self);  // cursors of this block's own
    for (std::size_t r = row; r < row + rows; ++r) {
      std::array<std::size_t, 2> const at{r, 0};
      finisher.expression.seek(at);
      finisher.out.seek(at);
      kernels::detail::for_lanes<T>(column, column + columns, [&](auto const& lane, std::size_t j) __attribute__((always_inline)) {
        finisher.out.write(lane, j, finisher.expression.forward(lane, j).value);
      });
    }
  }
};

template <class E>
[[nodiscard]] bool wants_gradient(E const& expression) {
  bool wanted = false;
  visit_leaves(expression, [&](auto const& source) {
    if constexpr (tracked_source<std::remove_cvref_t<decltype(source)>>) wanted = wanted || source.wants_gradient();
  });
  return wanted;
}

}  // namespace detail

/// The epilogue of matmul(a, b) evaluated on the product: the same value as evaluate() of the expression on matmul(a, b), with
/// the same gradients. b is a matrix; other leaves of the epilogue are row vectors (N), values a row (..., 1) or tensors of the
/// product's shape (..., N).
template <class A, class B, class E>
  requires detail::same_elements<A, B> && (std::remove_cvref_t<E>::is_expression)
[[nodiscard]] auto matmul(A const& left, B const& right, E const& epilogue) {
  auto const a = detail::as_factor(left);
  auto const b = detail::as_factor(right);
  using T = typename std::remove_cvref_t<decltype(a.source)>::value_type;
    using FA = std::remove_const_t<decltype(a)>;
  using FB = std::remove_const_t<decltype(b)>;
  static_assert(FB::S::rank == 2, "matmul: a product with an epilogue takes a matrix on the right");
  detail::require_fit<detail::product_fits<FA, FB>, op::matmul, typename FA::S, typename FB::S>();
  detail::product_plan const plan(a, b);
  auto& context = detail::context_among(a.source, b.source);
  using Context = std::remove_reference_t<decltype(context)>;
  auto const product = make_variable<T>(context, plan.extents);
  auto const expression = detail::substitute(epilogue, product);
  using S = typename std::remove_cvref_t<decltype(product)>::shape_type;
  using SE = typename std::remove_cvref_t<decltype(expression)>::shape_type;
  detail::require_fit<std::is_same_v<SE, S>, op::matmul, S, SE>();
  (void)expression.extents();  // run-time extents are checked before any work

  bool keep = false;
  if constexpr (Context::records)
    keep = context.recording() && (a.source.wants_gradient() || b.source.wants_gradient() || detail::wants_gradient(epilogue));
  auto const y = keep ? make_variable<T>(context, plan.extents) : product;  // in place unless the backward pass reads the product
  auto const bound_expression = detail::matrix_binder<T, S>::bind(expression);
  detail::block_finisher<T, std::remove_const_t<decltype(bound_expression)>> const finisher{
      bound_expression, {y.data_pointer(), {static_cast<std::ptrdiff_t>(b.columns()), 1}}};
  detail::multiply(context.device(), plan.sizes, a, b, product.data_pointer(), kernels::gemm_epilogue<T>{&finisher, finisher.apply});
  if constexpr (Context::records) {
    if (keep) {
      detail::record_product(context, plan.sizes, a, b, product);
      context.record(y.cell(), [&context, extents = plan.extents, kept = detail::keep<false>(expression)](T const* dy) {
        detail::backward_loop<T, false>(context, extents, kept, view<T const, S>(dy, extents));
      });
    }
  }
  return y;
}

}  // namespace dvla::inline DVLA_ABI
