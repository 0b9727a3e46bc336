// A product completed by an expression on its elements, and the product that ends before a GELU.
//
// On an H100 cuBLASLt's product followed by a pass over memory is faster than the library's own kernel with the expression in it,
// but for two cases: a sum with a tensor or a row vector, which cuBLASLt adds by itself, and the derivative of a GELU, which saves a
// pass of three tensors (bench/results/cuda_kernels.md).
#pragma once

#include <dvla/kernels/cuda/elementwise.cuh>
#include <dvla/kernels/cuda/gemm.cuh>
#include <dvla/kernels/cuda/gemm_with.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace gemm_cuda {

/// The sum of a product and something in rows of their own or in one for all: what cuBLASLt can add itself.
template <class Bound, class T>
inline constexpr bool is_sum = false;
template <class T>
inline constexpr bool
    is_sum<bound::operation<op::add, bound::elements<T, bound::inner::unit, 2>, bound::elements<T, bound::inner::unit, 2>>, T> =
        true;

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
  gemm(device, p);
  evaluate<arithmetic_t<T>>(device, std::array{p.m, p.n}, expression, out);
}

/// dz = product * gelu'(z), element by element: the gradient before a GELU from the product that gives the one after it. p.c is
/// not used; z and dz have its shape, rows p.ldc apart. On tensor cores only: elsewhere cuBLASLt's product is far faster.
template <precision P, class T>
requires(std::is_same_v<T, bfloat16> ||
         (std::is_same_v<T, float> && P != precision::f32)) void gemm_gelu_gradient(basic_cuda<P> const& device,
                                                                                    gemm_problem<T> const& p, T const* z, T* dz) {
  gemm_with(device, p, store_gelu_gradient<T>{dz, z, p.ldc});
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
