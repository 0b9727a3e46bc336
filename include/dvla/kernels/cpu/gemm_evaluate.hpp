// A product completed by an expression on its elements, block by block while they are in cache.
#pragma once

#include <dvla/expr/bound.hpp>
#include <dvla/kernels/cpu/elementwise.hpp>
#include <dvla/kernels/cpu/gemm.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace detail {

/// A bound epilogue and where its values go, as gemm calls it back for each finished block.
template <class T, class Bound>
struct block_finisher {
  Bound expression;
  bound::target<T, bound::inner::unit, 2> out;

  static void apply(void const* self, std::size_t row, std::size_t column, std::size_t rows, std::size_t columns, T*, std::size_t) {
    auto finisher = *static_cast<block_finisher const*>(self);  // cursors of this block's own
    for (std::size_t r = row; r < row + rows; ++r) {
      std::array<std::size_t, 2> const at{r, 0};
      finisher.expression.seek(at);
      finisher.out.seek(at);
      for_lanes<T>(column, column + columns, [&](auto const& lane, std::size_t j) __attribute__((always_inline)) {
        finisher.out.write(lane, j, finisher.expression.forward(lane, j).value);
      });
    }
  }
};

}  // namespace detail

/// How an epilogue reads the sums of a product: where they lie, at p.c.
template <class T>
[[nodiscard]] bound::elements<T, bound::inner::unit, 2> bind_accumulator(cpu const&, gemm_problem<T> const& p) {
  return {p.c, {static_cast<std::ptrdiff_t>(p.ldc), 1}};
}

/// The product, then out = the expression over its rows and columns. The product is kept at p.c, unless that is out's memory.
template <class T, class Bound>
void gemm_evaluate(cpu const& device, gemm_problem<T> p, Bound const& expression, bound::target<T, bound::inner::unit, 2> const& out) {
  detail::block_finisher<T, Bound> const finisher{expression, out};
  p.epilogue = {&finisher, finisher.apply};
  gemm(device, p);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
