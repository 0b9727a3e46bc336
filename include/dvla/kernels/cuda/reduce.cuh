// Sums over the rows of a matrix: the gradient of a bias.
#pragma once

#include <cstddef>

#include <dvla/kernels/cuda/axis.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// out[j] = (accumulate ? out[j] : 0) + sum_i x[i][j] for a dense row-major x.
template <precision P, class X>
void column_sum(basic_cuda<P> const& device, std::size_t rows, std::size_t columns, X const* x, arithmetic_t<X>* out,
                bool accumulate) {
  axis_sum_into(device, 1, rows, columns, x, arithmetic_t<X>(1), out, accumulate);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
