// A matrix product: operands, their layout, and what completes the result.
#pragma once

#include <cstddef>

#include <dvla/core/bfloat16.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// How a finished block of C is completed while it is still in cache. Called once for every element of C, after its whole
/// sum; blocks may come in any order and from several threads. In a batch, `row` is batch_index * m + row.
template <class T>
struct gemm_epilogue {
  void const* context = nullptr;
  void (*apply)(void const* context, std::size_t row, std::size_t column, std::size_t rows, std::size_t columns, T* block,
                std::size_t ld) = nullptr;
};

/// C = alpha op(A) op(B) + beta C, all row-major; op(A) is m x k, op(B) k x n. A transposed operand is stored the other way
/// round (A as k x m, B as n x k). With beta 0, C is not read. Strides count elements.
/// C may be wider than A and B: bfloat16 operands whose product is kept as float.
template <class T, class Result = T>
struct gemm_problem {
  std::size_t m, n, k;
  T const* a;
  std::size_t lda;
  bool trans_a;
  T const* b;
  std::size_t ldb;
  bool trans_b;
  Result* c;
  std::size_t ldc;
  arithmetic_t<T> alpha = 1, beta = 0;
  std::size_t batch = 1, batch_stride_a = 0, batch_stride_b = 0, batch_stride_c = 0;
  gemm_epilogue<T> epilogue{};
  Result const* addend = nullptr;  // what beta multiplies, laid out as C, on a device that reads it elsewhere; null: C itself
  Result const* bias = nullptr;  // n numbers added to every row, on a device that adds them while it multiplies

  [[nodiscard]] T const* a_at(std::size_t row, std::size_t l) const { return trans_a ? a + l * lda + row : a + row * lda + l; }
  [[nodiscard]] T const* b_at(std::size_t l, std::size_t column) const {
    return trans_b ? b + column * ldb + l : b + l * ldb + column;
  }
};

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
