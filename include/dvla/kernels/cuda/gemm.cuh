// Matrix products C = alpha op(A) op(B) + beta C on the GPU, in all transpositions, batched: by cuBLASLt, and by the library's own
// kernels where that has none. A product that is completed by an epilogue is gemm_with's.
#pragma once

#include <dvla/kernels/cuda/gemm_blas.cuh>
#include <dvla/kernels/cuda/gemm_with.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// Computes the product, with the same bits in every run on a card. Float is strict, without tensor cores, unless the precision is
/// tf32; bfloat16 is summed in float. Empty m, n or batch do nothing; with k or alpha 0, C = beta C, and A and B are not read.
/// Throws dvla::error for an epilogue on the host: it could not run on the card.
template <precision P, class T, class R>
void gemm(basic_cuda<P> const& device, gemm_problem<T, R> const& p) {
  expect(p.epilogue.apply == nullptr, "gemm: an epilogue on the host cannot run on the card; use gemm_with instead");
  if (p.m == 0 || p.n == 0 || p.batch == 0) return;
  if (p.k == 0 || p.alpha == 0 || !gemm_cuda::multiply_by_blas(device, p))
    gemm_cuda::multiply<gemm_cuda::fallback_choice<P, T>>(device, p, gemm_cuda::result_of(p));
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
