// Sums down the columns of a matrix, accurate and in a fixed order: registers add few rows in the element type, chunks
// add in double, and the chunks are joined in sequence.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/core/parallel.hpp>
#include <dvla/core/simd.hpp>
#include <dvla/kernels/cpu/row_loop.hpp>
#include <dvla/kernels/cpu/workspace.hpp>
#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace norm_sums {

// Rows whose sum is kept in the element type before it goes to a double.
inline constexpr std::size_t block_rows = 64;

/// Rows of a task: about 2^16 elements.
inline std::size_t chunk_rows(std::size_t channels) {
  return std::max(block_rows, (std::size_t{1} << 16) / std::max<std::size_t>(channels, 1) / block_rows * block_rows);
}

template <class T>
struct sum_pair {
  batch<T> first, second;
};

/// totals[0, columns) += sums of f's first, totals[columns, 2 columns) += sums of its second value, over the rows [begin, end);
/// f(row, column, lanes in use) gives both. `block` is scratch for 2 columns.
template <class T, class F>
void add_rows(std::size_t begin, std::size_t end, std::size_t columns, T* block, double* totals, F const& f) {
  for (std::size_t top = begin; top < end; top += block_rows) {
    std::size_t const bottom = std::min(end, top + block_rows);
    std::fill_n(block, 2 * columns, T(0));
    for (std::size_t r = top; r < bottom; r += 4) {
      std::size_t const stop = std::min(bottom, r + 4);
      over_lanes<T>(0, columns, [&](std::size_t c, auto used) {
        batch<T> first = read(block + c, used), second = read(block + columns + c, used);
        for (std::size_t i = r; i < stop; ++i) {
          sum_pair<T> const value = f(i, c, used);
          first += value.first;
          second += value.second;
        }
        write(block + c, first, used);
        write(block + columns + c, second, used);
      });
    }
    for (std::size_t c = 0; c < 2 * columns; ++c) totals[c] += double(block[c]);
  }
}

/// The sums over all rows of the two values of f, into sums [2, columns]. T is deduced from f.
template <class F>
void column_sums(cpu const& device, std::size_t rows, std::size_t columns, double* sums, F const& f) {
  using T = typename decltype(f(0, 0, all_lanes{}).first)::value_type;
  std::size_t const grain = chunk_rows(columns), chunks = (rows + grain - 1) / grain;
  detail::scratch<double> const partial(chunks * 2 * columns);
  std::fill_n(partial.data(), chunks * 2 * columns, 0.0);
  parallel_for(device.pool, rows, grain, [&](std::size_t begin, std::size_t end) {
    detail::scratch<T> const block(2 * columns);
    add_rows(begin, end, columns, block.data(), partial.data() + begin / grain * 2 * columns, f);
  });
  std::fill_n(sums, 2 * columns, 0.0);
  for (std::size_t i = 0; i < chunks; ++i)
    for (std::size_t c = 0; c < 2 * columns; ++c) sums[c] += partial.data()[i * 2 * columns + c];
}

/// Means of x [rows, columns] less `pivot`, and sums of squared deviations from the means. The deviations added up are those
/// from the mean of the first rows, so that a large common mean costs no digits.
template <class T>
void chunk_moments(std::size_t rows, std::size_t columns, T const* x, T const* pivot, double* means, double* squares) {
  detail::scratch<T> const memory(3 * columns);
  T* const shift = memory.data();
  std::size_t const first = std::min(rows, block_rows);
  for (std::size_t c = 0; c < columns; ++c) means[c] = 0;
  for (std::size_t r = 0; r < first; ++r)
    for (std::size_t c = 0; c < columns; ++c) means[c] += double(x[r * columns + c]);
  for (std::size_t c = 0; c < columns; ++c) {
    shift[c] = T(means[c] / double(first));
    means[c] = squares[c] = 0;
  }
  detail::scratch<double> const totals(2 * columns);
  std::fill_n(totals.data(), 2 * columns, 0.0);
  add_rows(0, rows, columns, shift + columns, totals.data(), [&](std::size_t r, std::size_t c, auto used) {
    batch<T> const d = read(x + r * columns + c, used) - read(shift + c, used);
    return sum_pair<T>{d, d * d};
  });
  for (std::size_t c = 0; c < columns; ++c) {
    double const sum = totals.data()[c];
    means[c] = (double(shift[c]) - double(pivot[c])) + sum / double(rows);
    squares[c] = std::max(0.0, totals.data()[columns + c] - sum * sum / double(rows));
  }
}

}  // namespace norm_sums
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
