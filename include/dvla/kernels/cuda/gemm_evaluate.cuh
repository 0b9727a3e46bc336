// A product completed by an expression on its elements, and the product that ends before a GELU.
//
// On an H100 cuBLASLt's product followed by a pass over memory is faster than the library's own kernels with the expression in them,
// but for two cases (bench/results/cuda_kernels.md): a sum with a tensor or a row vector, which cuBLASLt adds by itself; and a GELU
// or its derivative behind a product of so many rows that the other operand can stay where it is (gemm_stationary.cuh).
#pragma once

#include <dvla/kernels/cuda/elementwise.cuh>
#include <dvla/kernels/cuda/gemm.cuh>
#include <dvla/kernels/cuda/gemm_with.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace gemm_cuda {

/// Rows of their own, or one for all: what a product's sums are to an expression, and what may be added to them.
template <class T>
using row_elements = bound::elements<T, bound::inner::unit, 2>;

/// The sum of a product and something in rows: what cuBLASLt can add itself.
template <class Bound, class T>
inline constexpr bool is_sum = false;
template <class T>
inline constexpr bool is_sum<bound::operation<op::add, row_elements<T>, row_elements<T>>, T> = true;

/// x + product or product + row vector at once; false if that cannot be done.
template <precision P, class T, class Bound>
[[nodiscard]] bool add_by_blas(basic_cuda<P> const& device, gemm_problem<T> p, Bound const& expression, T* out) {
  if constexpr (is_sum<Bound, T>) {
    auto const& left = dvla::detail::get<0>(expression.children);
    auto const& right = dvla::detail::get<1>(expression.children);
    if (p.c != out || p.m == 0 || p.n == 0 || p.k == 0 || p.batch == 0) return false;
    if (left.data != p.c && right.data == p.c && left.strides[0] == static_cast<std::ptrdiff_t>(p.ldc)) {
      p.addend = left.data;
      p.beta = 1;
    } else if (left.data == p.c && right.data != p.c && right.strides[0] == 0) {
      p.bias = right.data;
    } else {
      return false;
    }
    return multiply_by_blas(device, p);
  }
  return false;
}

/// y = gelu(product + bias) at once, with the product at p.c where that is not y's memory; false if that cannot be done well.
template <bool Biased, precision P, class T>
[[nodiscard]] bool gelu_at_once(basic_cuda<P> const& device, gemm_problem<T> const& p, T* y, arithmetic_t<T> const* bias) {
  if (p.c == y) return try_stationary<true>(device, p, store_gelu<T, false, Biased>{y, p.ldc, nullptr, bias});
  return try_stationary<true>(device, p, store_gelu<T, true, Biased>{y, p.ldc, p.c, bias});
}

/// The expressions of that form.
template <precision P, class T>
[[nodiscard]] bool finish_gelu(basic_cuda<P> const& device, gemm_problem<T> const& p,
                               bound::operation<op::gelu, row_elements<T>> const& gelu, T* y) {
  return dvla::detail::get<0>(gelu.children).data == p.c && gelu_at_once<false>(device, p, y, nullptr);
}
template <precision P, class T>
[[nodiscard]] bool finish_gelu(
    basic_cuda<P> const& device, gemm_problem<T> const& p,
    bound::operation<op::gelu, bound::operation<op::add, row_elements<T>, row_elements<arithmetic_t<T>>>> const& gelu, T* y) {
  auto const& sum = dvla::detail::get<0>(gelu.children);
  auto const& row = dvla::detail::get<1>(sum.children);
  bool const fits = dvla::detail::get<0>(sum.children).data == p.c && row.strides[0] == 0;
  if constexpr (std::is_same_v<T, arithmetic_t<T>>)
    if (row.data == p.c) return false;
  return fits && gelu_at_once<true>(device, p, y, row.data);
}
template <precision P, class T, class Bound>
[[nodiscard]] bool finish_gelu(basic_cuda<P> const&, gemm_problem<T> const&, Bound const&, T*) {
  return false;
}

/// g gelu'(z).
struct through_gelu : op::uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V g, V z) {
    return op::gelu::derivative<0>(g, g, z);
  }
};

}  // namespace gemm_cuda

/// How an epilogue reads the sums of a product: where they lie, at p.c.
template <precision P, class T>
[[nodiscard]] bound::elements<T, bound::inner::unit, 2> bind_accumulator(basic_cuda<P> const&, gemm_problem<T> const& p) {
  return {p.c, {static_cast<std::ptrdiff_t>(p.ldc), 1}};
}

/// The product, then out = the expression over its rows and columns. The product is kept at p.c, unless that is out's memory.
template <precision P, class T, class Bound>
void gemm_evaluate(basic_cuda<P> const& device, gemm_problem<T> const& p, Bound const& expression,
                   bound::target<T, bound::inner::unit, 2> const& out) {
  if (gemm_cuda::add_by_blas(device, p, expression, out.data)) return;
  if (out.strides[0] == static_cast<std::ptrdiff_t>(p.ldc) && gemm_cuda::finish_gelu(device, p, expression, out.data)) return;
  gemm(device, p);
  evaluate<arithmetic_t<T>>(device, std::array{p.m, p.n}, expression, out);
}

/// dz = product * gelu'(z), element by element: the gradient before a GELU from the product that gives the one after it. p.c is
/// not used; z and dz have its shape, rows p.ldc apart.
template <precision P, class T>
void gemm_gelu_gradient(basic_cuda<P> const& device, gemm_problem<T> p, T const* z, T* dz) {
  using rows = gemm_cuda::row_elements<T>;
  if (gemm_cuda::try_stationary<false>(device, p, store_gelu_gradient<T>{dz, z, p.ldc})) return;
  p.c = dz;
  gemm(device, p);
  std::array<std::ptrdiff_t, 2> const strides{static_cast<std::ptrdiff_t>(p.ldc), 1};
  evaluate<arithmetic_t<T>>(device, std::array{p.m, p.n},
                            bound::operation<gemm_cuda::through_gelu, rows, rows>{{rows{dz, strides}, rows{z, strides}}},
                            bound::target<T, bound::inner::unit, 2>{dz, strides});
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
