// Sums over the rows of a matrix: the gradient of a bias.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/core/parallel.hpp>
#include <dvla/core/simd.hpp>
#include <dvla/kernels/cpu/workspace.hpp>
#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

namespace detail {

/// sum[j] = sum_i x[i * ld + j]; the rows in order, two vectors of columns at a time in registers.
template <class T>
void sum_rows(std::size_t rows, std::size_t columns, T const* x, std::size_t ld, T* sum) {
  constexpr std::size_t n = lanes<T>;
  std::size_t j = 0;
  for (; j + 2 * n <= columns; j += 2 * n) {
    batch<T> low(T(0)), high(T(0));
    for (std::size_t i = 0; i < rows; ++i) {
      low += simd::load(x + i * ld + j);
      high += simd::load(x + i * ld + j + n);
    }
    simd::store(sum + j, low);
    simd::store(sum + j + n, high);
  }
  if (j == columns) return;
  std::fill(sum + j, sum + columns, T(0));
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t l = j; l < columns; ++l) sum[l] += x[i * ld + l];
}

/// out = (accumulate ? out : 0) + parts[0] + parts[1] + ... in that order, each `count` elements.
template <class T>
void add_parts(cpu const& device, T const* parts, std::size_t number, std::size_t count, T* out, bool accumulate) {
  parallel_for(device.pool, count, 4096, [&](std::size_t begin, std::size_t end) {
    if (!accumulate) std::copy(parts + begin, parts + end, out + begin);
    for (std::size_t part = accumulate ? 0 : 1; part < number; ++part)
      for (std::size_t i = begin; i < end; ++i) out[i] += parts[part * count + i];
  });
}

}  // namespace detail

/// out[j] = (accumulate ? out[j] : 0) + sum_i x[i][j] for a dense row-major x; bit-equal for any number of threads.
template <class T>
void column_sum(cpu const& device, std::size_t rows, std::size_t columns, T const* x, T* out, bool accumulate) {
  if (columns == 0) return;
  constexpr std::size_t stretch = 64;  // rows summed in a vector before they join the part's sum: keeps roundings few
  std::size_t const parts = std::clamp<std::size_t>(rows / 512, 1, 32), part_rows = (rows + parts - 1) / parts;
  detail::scratch<T> const sums(2 * parts * columns);
  T* const totals = sums.data();
  parallel_for(device.pool, parts, 1, [&](std::size_t part, std::size_t) {
    T* const total = totals + part * columns;
    T* const piece = totals + (parts + part) * columns;
    std::fill_n(total, columns, T(0));
    std::size_t const end = std::min(rows, (part + 1) * part_rows);
    for (std::size_t i = part * part_rows; i < end; i += stretch) {
      detail::sum_rows(std::min(stretch, end - i), columns, x + i * columns, columns, piece);
      for (std::size_t j = 0; j < columns; ++j) total[j] += piece[j];
    }
  });
  detail::add_parts(device, totals, parts, columns, out, accumulate);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
