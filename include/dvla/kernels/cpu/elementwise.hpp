// The CPU's loops over bound expressions: one fused pass forward, one fused pass backward, one fused row sum.
#pragma once

#include <array>

#include <dvla/kernels/cpu/lanes.hpp>
#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// The chunks of an element-wise loop: a function of the extents alone. A chunk is a range of rows, or of the columns of
/// the only row; each holds about 16 K elements, enough to outweigh the hand-over to a thread.
struct loop_chunks {
  static constexpr std::size_t elements = 16384;
  std::size_t rows, columns, grain, count;
  bool by_row;

  template <std::size_t R>
  explicit loop_chunks(std::array<std::size_t, R> const& extents, std::size_t most = static_cast<std::size_t>(-1))
      : rows(1), columns(R == 0 ? 1 : extents[R == 0 ? 0 : R - 1]) {
    for (std::size_t i = 0; i + 1 < R; ++i) rows *= extents[i];
    by_row = rows > 1;
    std::size_t const total = by_row ? rows : columns, each = by_row ? std::max<std::size_t>(columns, 1) : 1;
    grain = std::max<std::size_t>((elements + each - 1) / each, 1);
    if (most != static_cast<std::size_t>(-1)) grain = std::max(grain, (total + most - 1) / most);
    if (!by_row) grain = (grain + 63) / 64 * 64;
    count = total == 0 ? 0 : (total + grain - 1) / grain;
  }

  [[nodiscard]] std::size_t total() const { return by_row ? rows : columns; }
};

namespace detail {

/// Calls body(row, first column, end column) for the rows of a chunk, after moving the cursors to each row.
template <std::size_t R, class Seek, class Body>
DVLA_INLINE void for_rows(std::array<std::size_t, R> const& extents, loop_chunks const& chunks, std::size_t begin, std::size_t end,
                          Seek&& seek, Body&& body) {
  std::array<std::size_t, R> at{};
  if (!chunks.by_row) {
    seek(at);
    body(std::size_t{0}, begin, end);
    return;
  }
  std::size_t rest = begin;
  for (std::size_t i = R - 1; i-- > 0;) {
    at[i] = rest % extents[i];
    rest /= extents[i];
  }
  for (std::size_t row = begin; row < end; ++row) {
    seek(at);
    body(row, std::size_t{0}, chunks.columns);
    for (std::size_t i = R - 1; i-- > 0;) {
      if (++at[i] < extents[i]) break;
      at[i] = 0;
    }
  }
}

/// Calls body(lanes, j) for j in [begin, end), batch by batch, the last one partial.
template <class T, class Body>
DVLA_INLINE void for_lanes(std::size_t begin, std::size_t end, Body&& body) {
  std::size_t j = begin;
  for (; j + lanes<T> <= end; j += lanes<T>) body(full_lanes<T>{}, j);
  if (j < end) body(tail_lanes<T>{end - j}, j);
}

}  // namespace detail

/// out = expression over a loop of the given extents. Target is a bound::elements that says where the output lies.
template <class T, std::size_t R, class Expression, class Target>
void evaluate(cpu const& device, std::array<std::size_t, R> const& extents, Expression const& expression, Target const& target) {
  loop_chunks const chunks(extents);
  if (chunks.rows == 0 || chunks.columns == 0) return;
  parallel_for(device.pool, chunks.total(), chunks.grain, [&](std::size_t begin, std::size_t end) {
    auto e = expression;
    auto out = target;
    detail::for_rows(
        extents, chunks, begin, end,
        [&](auto const& at) {
          e.seek(at);
          out.seek(at);
        },
        [&](std::size_t, std::size_t from, std::size_t to) {
          detail::for_lanes<T>(from, to, [&](auto const& lane, std::size_t j) __attribute__((always_inline)) {
            out.write(lane, j, e.forward(lane, j).value);
          });
        });
  });
}

/// The adjoint of the expression's value goes down to its tracked leaves. For broadcast leaves `partials(chunk, e)` points
/// their sinks to that chunk's own partial sums; the caller adds those up in order afterwards.
template <class T, std::size_t R, class Expression, class Adjoint, class Partials>
void evaluate_backward(cpu const& device, std::array<std::size_t, R> const& extents, loop_chunks const& chunks,
                       Expression const& expression, Adjoint const& adjoint, Partials const& partials) {
  if (chunks.rows == 0 || chunks.columns == 0) return;
  parallel_for(device.pool, chunks.total(), chunks.grain, [&](std::size_t begin, std::size_t end) {
    auto e = expression;
    auto dy = adjoint;
    partials(begin / chunks.grain, e);
    detail::for_rows(
        extents, chunks, begin, end,
        [&](auto const& at) {
          e.seek(at);
          dy.seek(at);
        },
        [&](std::size_t, std::size_t from, std::size_t to) {
          detail::for_lanes<T>(from, to, [&](auto const& lane, std::size_t j) __attribute__((always_inline)) {
            e.backward(lane, j, e.forward(lane, j), dy.load(lane, j));
          });
        });
  });
}

/// out[row] = factor * sum of the expression along the last axis; rows are summed lane by lane, then across lanes.
template <class T, std::size_t R, class Expression>
void row_sum(cpu const& device, std::array<std::size_t, R> const& extents, Expression const& expression, T factor, T* out) {
  loop_chunks chunks(extents);
  if (chunks.rows == 0) return;
  if (!chunks.by_row) chunks.grain = std::max<std::size_t>(chunks.columns, 1);  // a row is never split
  parallel_for(device.pool, std::max<std::size_t>(chunks.total(), 1), chunks.grain, [&](std::size_t begin, std::size_t end) {
    auto e = expression;
    if (!chunks.by_row) end = chunks.columns;
    detail::for_rows(extents, chunks, begin, end, [&](auto const& at) { e.seek(at); },
                     [&](std::size_t row, std::size_t from, std::size_t to) {
                       batch<T> total(T(0));
                       T rest = 0;
                       std::size_t j = from;
                       for (; j + lanes<T> <= to; j += lanes<T>) total = total + e.forward(full_lanes<T>{}, j).value;
                       if (j < to) {
                         tail_lanes<T> const lane{to - j};
                         rest = lane.sum(e.forward(lane, j).value);
                       }
                       out[row] = factor * (simd::reduce_add(total) + rest);
                     });
  });
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
