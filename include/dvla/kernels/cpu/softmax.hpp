// Softmax and log sum exp over the rows of a matrix [rows, classes], and the cross-entropy built on them.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include <dvla/core/parallel.hpp>
#include <dvla/core/simd.hpp>
#include <dvla/kernels/cpu/exp.hpp>
#include <dvla/kernels/cpu/row_loop.hpp>
#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace softmax_rows {

/// Rows of a task: about 2^14 elements.
inline std::size_t chunk_rows(std::size_t classes) { return 1 + (std::size_t{1} << 14) / (classes + 1); }

// Pad lanes hold -infinity: neutral for the maximum, 0 after exp.
template <class T>
inline constexpr T lowest = -std::numeric_limits<T>::infinity();

template <class T>
DVLA_INLINE batch<T> read_padded(T const* from, all_lanes) {
  return simd::load(from);
}
template <class T>
DVLA_INLINE batch<T> read_padded(T const* from, std::size_t n) {
  return simd::load_partial(from, n, lowest<T>);
}

/// The largest element of a row and the sum of exp(element - largest); `exponentials`, unless null, receives the summands.
template <class T>
DVLA_INLINE std::pair<T, T> exponentiate(std::size_t classes, T const* x, T* exponentials) {
  batch<T> largest(lowest<T>);
  over_lanes<T>(0, classes, [&](std::size_t c, auto used) { largest = xsimd::max(largest, read_padded(x + c, used)); });
  T const top = simd::reduce_max(largest);
  batch<T> sum(T(0));
  over_lanes<T>(0, classes, [&](std::size_t c, auto used) {
    batch<T> const e = exp_bounded(read_padded(x + c, used) - batch<T>(top));
    sum += e;
    if (exponentials != nullptr) write(exponentials + c, e, used);
  });
  return {top, simd::reduce_add(sum)};
}

template <class T>
DVLA_INLINE void multiply_row(std::size_t classes, T* x, T factor) {
  over_lanes<T>(0, classes, [&](std::size_t c, auto used) { write(x + c, read(x + c, used) * batch<T>(factor), used); });
}

/// Runs body(row) for every row, in chunks.
template <class Body>
void over_rows(cpu const& device, std::size_t rows, std::size_t classes, Body const& body) {
  parallel_for(device.pool, rows, chunk_rows(classes), [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) body(r);
  });
}

}  // namespace softmax_rows

/// y = exp(x) / sum exp(x) of each row. y may be x.
template <class T>
void softmax_forward(cpu const& device, std::size_t rows, std::size_t classes, T const* x, T* y) {
  softmax_rows::over_rows(device, rows, classes, [&](std::size_t r) {
    T const sum = softmax_rows::exponentiate(classes, x + r * classes, y + r * classes).second;
    softmax_rows::multiply_row(classes, y + r * classes, T(1) / sum);
  });
}

/// dx = y (dy - sum of y dy over the row), for the softmax y; dx is overwritten or added to. dx may be dy when overwritten.
template <class T>
void softmax_backward(cpu const& device, std::size_t rows, std::size_t classes, T const* y, T const* dy, T* dx, bool accumulate) {
  softmax_rows::over_rows(device, rows, classes, [&](std::size_t r) {
    std::size_t const row = r * classes;
    batch<T> sum(T(0));
    over_lanes<T>(0, classes,
                  [&](std::size_t c, auto used) { sum = xsimd::fma(read(y + row + c, used), read(dy + row + c, used), sum); });
    batch<T> const mean(simd::reduce_add(sum));
    over_lanes<T>(0, classes, [&](std::size_t c, auto used) {
      batch<T> const g = read(y + row + c, used) * (read(dy + row + c, used) - mean);
      write(dx + row + c, accumulate ? read(dx + row + c, used) + g : g, used);
    });
  });
}

/// lse[row] = log sum exp(x) of the row.
template <class T>
void log_sum_exp(cpu const& device, std::size_t rows, std::size_t classes, T const* x, T* lse) {
  softmax_rows::over_rows(device, rows, classes, [&](std::size_t r) {
    auto const [top, sum] = softmax_rows::exponentiate(classes, x + r * classes, static_cast<T*>(nullptr));
    lse[r] = top + std::log(sum);
  });
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
