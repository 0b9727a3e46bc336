// Matrix products of variables and parameters, with an epilogue: an expression on the accumulator.
#pragma once

#include <dvla/autodiff/operand.hpp>
#include <dvla/autodiff/weight_gradient.hpp>
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

/// Both computed in float or both in double: a product does not convert.
template <class A, class B>
concept same_elements = std::is_same_v<arithmetic_t<factor_element<A>>, arithmetic_t<factor_element<B>>>;

/// The sizes of a product: rows of a batch member, and how members are laid out.
struct product_sizes {
  std::size_t m, n, k, batch;
  bool share_b;  // one b for the whole batch
};

/// c = op(a) op(b) over the batch, as the device's kernels take it.
template <class T, class A, class B>
[[nodiscard]] kernels::gemm_problem<T> product_problem(product_sizes s, A const& a, B const& b, T* c) {
  kernels::gemm_problem<T> p{s.m, s.n, s.k, read_as<T>(a.source), a.ld(), A::flipped, read_as<T>(b.source), b.ld(), B::flipped, c, s.n};
  p.batch = s.batch;
  p.batch_stride_a = s.m * s.k;
  p.batch_stride_b = s.share_b ? 0 : s.k * s.n;
  p.batch_stride_c = s.m * s.n;
  return p;
}

/// The gradient of a in c = op(a) op(b): dc op(b)^T; where a is stored transposed, op(b) dc^T.
template <class T, class Device, class A, class B, class Target>
void left_backward(Device const& device, product_sizes s, A const& a, Target const& da, B const& b, T const* dc) {
  using result = std::remove_pointer_t<decltype(da.data)>;
  auto const* const other = read_as<T>(b.source);
  kernels::gemm_problem<T, result> g{s.m, s.k, s.n, dc, s.n, false, other, b.ld(), !B::flipped, da.data, a.ld()};
  g.batch_stride_a = s.m * s.n;
  g.batch_stride_b = s.share_b ? 0 : s.k * s.n;
  if (A::flipped) {
    std::swap(g.m, g.n);
    g.a = other, g.lda = b.ld(), g.trans_a = B::flipped;
    g.b = dc, g.ldb = s.n, g.trans_b = true;
    std::swap(g.batch_stride_a, g.batch_stride_b);
  }
  g.beta = da.accumulate ? 1 : 0;
  g.batch = s.batch;
  g.batch_stride_c = s.m * s.k;
  gemm(device, g);
}

/// The gradient of b: op(a)^T dc; where b is stored transposed, dc^T op(a). A shared b has batch 1: its rows are all rows of a.
template <class T, class Device, class A, class B, class Target>
void right_backward(Device const& device, product_sizes s, A const& a, B const& b, Target const& db, T const* dc) {
  using result = std::remove_pointer_t<decltype(db.data)>;
  auto const* const other = read_as<T>(a.source);
  kernels::gemm_problem<T, result> g{s.k, s.n, s.m, other, a.ld(), !A::flipped, dc, s.n, false, db.data, b.ld()};
  g.batch_stride_a = s.m * s.k;
  g.batch_stride_b = s.m * s.n;
  if (B::flipped) {
    std::swap(g.m, g.n);
    g.a = dc, g.lda = s.n, g.trans_a = true;
    g.b = other, g.ldb = a.ld(), g.trans_b = A::flipped;
    std::swap(g.batch_stride_a, g.batch_stride_b);
  }
  g.beta = db.accumulate ? 1 : 0;
  g.batch = s.batch;
  g.batch_stride_c = s.k * s.n;
  gemm(device, g);
}

/// Where a is the GELU of a variable z and neither has a gradient yet: the gradient of z in one pass, on a device that has one.
template <class T, class Device, class A, class B>
[[nodiscard]] bool left_backward_through_gelu(Device const& device, product_sizes s, A const& a, B const& b, T const* dc) {
  if constexpr (is_variable<decltype(A::source)> && !A::flipped) {
    kernels::gemm_problem<T> g{s.m, s.k, s.n, dc, s.n, false, read_as<T>(b.source), b.ld(), !B::flipped, nullptr, s.k};
    if constexpr (requires(T const* z, T* dz) { gemm_gelu_gradient(device, g, z, dz); }) {
      auto* const z = a.source.cell()->gelu_of;
      if (z == nullptr || s.batch != 1 || a.source.cell()->has_gradient || z->has_gradient) return false;
      auto const dz = add_gradient(*z);
      if (!dz) return false;
      gemm_gelu_gradient(device, g, static_cast<T const*>(z->value), dz.data);
      return true;
    }
  }
  return false;
}

/// Gradients of c = op(a) op(b): for each operand the product that has it as a result, in its own orientation. `kept` is what
/// holds c's gradient.
template <class Context, class T, class A, class B, class... Kept>
void multiply_backward(Context& context, product_sizes s, A const& a, B const& b, cell<T>& c, Kept const&... kept) {
  auto const& device = context.device();
  T const* const dc = c.gradient;
  add_weight_gradient(
      context, b.source, c, [&](auto const& on, auto const& db) { right_backward(on, s, a, b, db, dc); }, a.source, kept...);
  if (!a.source.wants_gradient() || !left_backward_through_gelu(device, s, a, b, dc))
    if (auto const da = a.source.add_gradient()) left_backward(device, s, a, da, b, dc);
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
  product_sizes sizes{};
  result extents{};

  product_plan(FA const& a, FB const& b) {
    static_assert(SA::rank >= 2 && SB::rank >= 2, "matmul: both operands need at least two axes");
    constexpr bool shared = SB::rank == 2;
    static_assert(!(FA::flipped && shared && SA::rank > 2), "matmul: a transposed batch needs a batch on the right as well");
    expect(a.columns() == b.rows(), "matmul: the inner extents of ", a.source.shape(), " and ", b.source.shape(),
           " are ", a.columns(), " and ", b.rows(), "; they must be equal");
    if constexpr (!shared) expect(a.batch() == b.batch(), "matmul: the leading extents of ", a.source.shape(), " and ",
                                  b.source.shape(), " differ");
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
      context.record(y.cell(), [&context, sizes, a, b](cell<typename Y::value_type>& c) {
        multiply_backward(context, sizes, a, b, c, cell_reference<typename Y::value_type, false>(&c));
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
  using FA = std::remove_const_t<decltype(a)>;
  using FB = std::remove_const_t<decltype(b)>;
  using T = detail::common_element<decltype(FA::source), decltype(FB::source)>;
  detail::require_fit<detail::product_fits<FA, FB>, op::matmul, typename FA::S, typename FB::S>();
  detail::product_plan const plan(a, b);
  auto& context = detail::context_among(a.source, b.source);
  auto y = make_variable<T>(context, plan.extents);
  gemm(context.device(), detail::product_problem(plan.sizes, a, b, y.data_pointer()));
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
