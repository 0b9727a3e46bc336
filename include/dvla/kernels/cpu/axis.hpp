// Sums over an axis in the middle of a tensor and their adjoints, and row maxima.
#pragma once

#include <algorithm>

#include <dvla/kernels/cpu/elementwise.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// y[o, i] = factor * sum over a of x[o, a, i]; x is (outer, count, inner). Summed in the order of a.
template <class T>
void axis_sum(cpu const& device, std::size_t outer, std::size_t count, std::size_t inner, T const* x, T factor, T* y) {
  std::size_t const grain = std::max<std::size_t>(1, loop_chunks::elements / std::max<std::size_t>(1, count * inner));
  parallel_for(device.pool, outer, grain, [=](std::size_t begin, std::size_t end) {
    for (std::size_t o = begin; o < end; ++o)
      detail::for_lanes<T>(0, inner, [&](auto const& lane, std::size_t i) __attribute__((always_inline)) {
        batch<T> total(T(0));
        for (std::size_t a = 0; a < count; ++a) total = total + lane.load(x + (o * count + a) * inner + i);
        lane.store(y + o * inner + i, total * batch<T>(factor));
      });
  });
}

/// dx[o, a, i] = factor * dy[o, i] for every a, overwritten or added to.
template <class T>
void axis_broadcast(cpu const& device, std::size_t outer, std::size_t count, std::size_t inner, T const* dy, T factor, T* dx,
                    bool accumulate) {
  std::size_t const grain = std::max<std::size_t>(1, loop_chunks::elements / std::max<std::size_t>(1, inner));
  parallel_for(device.pool, outer * count, grain, [=](std::size_t begin, std::size_t end) {
    for (std::size_t row = begin; row < end; ++row)
      detail::for_lanes<T>(0, inner, [&](auto const& lane, std::size_t i) __attribute__((always_inline)) {
        auto g = lane.load(dy + row / count * inner + i) * batch<T>(factor);
        if (accumulate) g = g + lane.load(dx + row * inner + i);
        lane.store(dx + row * inner + i, g);
      });
  });
}

/// y[r] = largest of x[r, :]; a NaN in the row is the result.
template <class T>
void row_max(cpu const& device, std::size_t rows, std::size_t columns, T const* x, T* y) {
  parallel_for(device.pool, rows, std::max<std::size_t>(1, loop_chunks::elements / columns), [=](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      T best = x[r * columns];
      for (std::size_t c = 1; c < columns; ++c) {
        T const candidate = x[r * columns + c];
        if (candidate > best || candidate != candidate) best = candidate;
      }
      y[r] = best;
    }
  });
}

/// dx of row_max: dy shared evenly by the elements equal to the maximum.
template <class T>
void row_max_backward(cpu const& device, std::size_t rows, std::size_t columns, T const* x, T const* dy, T* dx, bool accumulate) {
  parallel_for(device.pool, rows, std::max<std::size_t>(1, loop_chunks::elements / columns), [=](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      T const* const row = x + r * columns;
      T const best = *std::max_element(row, row + columns);
      T const share = dy[r] / static_cast<T>(std::count(row, row + columns, best));
      for (std::size_t c = 0; c < columns; ++c)
        dx[r * columns + c] = (accumulate ? dx[r * columns + c] : T(0)) + (row[c] == best ? share : T(0));
    }
  });
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
