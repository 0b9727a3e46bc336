// Matrix products of variables and parameters, with an epilogue: an expression on the accumulator.
#pragma once

#include <dvla/autodiff/operand.hpp>
#include <dvla/kernels/cpu/gemm.hpp>

namespace dvla::inline DVLA_ABI {
namespace op {
struct matmul {};
}  // namespace op

namespace detail {

/// An operand of a product: its source, and whether it is read transposed.
template <class Source, bool Transposed>
struct factor {
  static constexpr bool flipped = Transposed;
  using S = typename Source::shape_type;
  Source source;

  static constexpr std::size_t rows_axis = S::rank - (Transposed ? 1 : 2), columns_axis = S::rank - (Transposed ? 2 : 1);
  static constexpr std::size_t static_rows = S::statics[rows_axis], static_columns = S::statics[columns_axis];
  [[nodiscard]] std::size_t rows() const { return source.shape()[rows_axis]; }
  [[nodiscard]] std::size_t columns() const { return source.shape()[columns_axis]; }
  [[nodiscard]] std::size_t ld() const { return source.shape()[S::rank - 1]; }
  [[nodiscard]] std::size_t batch() const {
    std::size_t product = 1;
    for (std::size_t i = 0; i + 2 < S::rank; ++i) product *= source.shape()[i];
    return product;
  }
};

template <class X>
[[nodiscard]] auto as_factor(X const& x) {
  auto source = input(x);
  return factor<decltype(source), false>{source};
}
template <class Source>
[[nodiscard]] auto as_factor(transposed<Source> const& x) {
  return factor<Source, true>{x.source};
}

template <class X>
using factor_element = typename decltype(as_factor(std::declval<X const&>()).source)::value_type;

/// Both float or both double: a product does not convert.
template <class A, class B>
concept same_elements = std::is_same_v<factor_element<A>, factor_element<B>>;

/// The sizes of a product: rows of a batch member, and how members are laid out.
struct product_sizes {
  std::size_t m, n, k, batch;
  bool share_b;  // one b for the whole batch
};

/// c = op(a) op(b) over the batch.
template <class T, class Device, class A, class B>
void multiply(Device const& device, product_sizes s, A const& a, B const& b, T* c, kernels::gemm_epilogue<T> epilogue = {}) {
  kernels::gemm_problem<T> p{s.m,          s.n, s.k, a.source.data_pointer(), a.ld(), A::flipped, b.source.data_pointer(), b.ld(),
                             B::flipped, c,   s.n};
  p.batch = s.batch;
  p.batch_stride_a = s.m * s.k;
  p.batch_stride_b = s.share_b ? 0 : s.k * s.n;
  p.batch_stride_c = s.m * s.n;
  p.epilogue = epilogue;
  gemm(device, p);
}

/// Gradients of c = op(a) op(b): for each operand the product that has it as a result, in its own orientation.
template <class T, class Device, class A, class B, class Da, class Db>
void multiply_backward(Device const& device, product_sizes s, A const& a, Da const& grad_a, B const& b, Db const& grad_b, T const* dc) {
  if (auto const da = grad_a.add_gradient()) {
    // op(a) gradient is dc op(b)^T; stored transposed it is op(b) dc^T.
    product_sizes const p{A::flipped ? s.k : s.m, A::flipped ? s.m : s.k, s.n, s.batch, false};
    kernels::gemm_problem<T> g{p.m, p.n, p.k, dc, s.n, false, b.source.data_pointer(), b.ld(), !B::flipped, da.data, a.ld()};
    if (A::flipped) {
      g.a = b.source.data_pointer(), g.lda = b.ld(), g.trans_a = B::flipped;
      g.b = dc, g.ldb = s.n, g.trans_b = true;
    }
    g.beta = da.accumulate ? T(1) : T(0);
    g.batch = s.batch;
    g.batch_stride_a = A::flipped ? (s.share_b ? 0 : s.k * s.n) : s.m * s.n;
    g.batch_stride_b = A::flipped ? s.m * s.n : (s.share_b ? 0 : s.k * s.n);
    g.batch_stride_c = s.m * s.k;
    gemm(device, g);
  }
  if (auto const db = grad_b.add_gradient()) {
    // op(b) gradient is op(a)^T dc; stored transposed it is dc^T op(a). A shared b has batch 1: its rows are all rows of a.
    kernels::gemm_problem<T> g{s.k, s.n, s.m, a.source.data_pointer(), a.ld(), !A::flipped, dc, s.n, false, db.data, b.ld()};
    if (B::flipped) {
      g.m = s.n, g.n = s.k;
      g.a = dc, g.lda = s.n, g.trans_a = true;
      g.b = a.source.data_pointer(), g.ldb = a.ld(), g.trans_b = A::flipped;
    }
    g.beta = db.accumulate ? T(1) : T(0);
    g.batch = s.batch;
    g.batch_stride_a = B::flipped ? s.m * s.n : s.m * s.k;
    g.batch_stride_b = B::flipped ? s.m * s.k : s.m * s.n;
    g.batch_stride_c = s.k * s.n;
    gemm(device, g);
  }
}

/// Whether the static shapes of two factors can be multiplied.
template <class FA, class FB>
inline constexpr bool product_fits = may_equal(FA::static_columns, FB::static_rows) && (FB::S::rank == 2 || FA::S::rank == FB::S::rank);

/// The sizes and the shape of a product whose operands have been checked against each other.
template <class FA, class FB>
struct product_plan {
  using SA = typename FA::S;
  using SB = typename FB::S;
  using result = join_shapes<keep_front<SA, SA::rank - 2>, shape<FA::static_rows, FB::static_columns>>;
  product_sizes sizes;
  result extents;

  product_plan(FA const& a, FB const& b) {
    static_assert(SA::rank >= 2 && SB::rank >= 2, "matmul: both operands need at least two axes");
    constexpr bool shared = SB::rank == 2;
    static_assert(!(FA::flipped && shared && SA::rank > 2), "matmul: a transposed batch needs a batch on the right as well");
    expect(a.columns() == b.rows(), "matmul: the inner extents of ", to_string(a.source.shape()), " and ", to_string(b.source.shape()),
           " are ", a.columns(), " and ", b.rows(), "; they must be equal");
    if constexpr (!shared) expect(a.batch() == b.batch(), "matmul: the leading extents of ", to_string(a.source.shape()), " and ",
                                  to_string(b.source.shape()), " differ");
    // Rows of all batch members are one long matrix when b is shared.
    sizes = shared ? product_sizes{a.batch() * a.rows(), b.columns(), a.columns(), 1, true}
                   : product_sizes{a.rows(), b.columns(), a.columns(), a.batch(), false};
    auto all = result::statics;
    for (std::size_t i = 0; i + 2 < SA::rank; ++i) all[i] = a.source.shape()[i];
    all[SA::rank - 2] = a.rows();
    all[SA::rank - 1] = b.columns();
    extents = make_shape<result>(all);
  }
};

/// Records the backward pass of a product.
template <class Context, class A, class B, class Y>
void record_product(Context& context, product_sizes sizes, A const& a, B const& b, Y const& y) {
  if constexpr (Context::records) {
    if (recorded(context, a.source, b.source))
      context.record(y.cell(), [&context, sizes, a, b](typename Y::value_type const* dy) {
        multiply_backward(context.device(), sizes, a, a.source, b, b.source, dy);
      });
  }
}

}  // namespace detail

/// The matrix product over the last two axes. b is a matrix, shared by all leading extents of a, or has a's leading extents.
/// Either may be transpose(x). a (..., M, K) and b (K, N) or (..., K, N) give (..., M, N). Inner extents must agree: at compile
/// time where both are known, else a dvla::error.
template <class A, class B>
  requires detail::same_elements<A, B>
[[nodiscard]] auto matmul(A const& left, B const& right) {
  auto const a = detail::as_factor(left);
  auto const b = detail::as_factor(right);
  using T = typename std::remove_cvref_t<decltype(a.source)>::value_type;
  using FA = std::remove_const_t<decltype(a)>;
  using FB = std::remove_const_t<decltype(b)>;
  detail::require_fit<detail::product_fits<FA, FB>, op::matmul, typename FA::S, typename FB::S>();
  detail::product_plan const plan(a, b);
  auto& context = detail::context_among(a.source, b.source);
  auto y = make_variable<T>(context, plan.extents);
  detail::multiply(context.device(), plan.sizes, a, b, y.data_pointer());
  detail::record_product(context, plan.sizes, a, b, y);
  return y;
}

/// x (..., In) times the transpose of weight (Out, In): the linear map of a layer, y (..., Out). x may have one axis.
template <class X, class W>
[[nodiscard]] auto linear_map(X const& x, W const& weight) {
  auto const source = detail::input(x);
  using S = typename std::remove_cvref_t<decltype(source)>::shape_type;
  if constexpr (S::rank == 1) {
    auto const y = matmul(reshape(source, detail::make_shape<join_shapes<shape<1>, S>>({1, source.shape()[0]})), transpose(weight));
    return reshape(y, detail::make_shape<drop_front<typename decltype(y)::shape_type>>({y.shape()[1]}));
  } else {
    return matmul(source, transpose(weight));
  }
}

}  // namespace dvla::inline DVLA_ABI
