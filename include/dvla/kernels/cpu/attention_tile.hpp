// What attention's forward and backward passes share: packed operands, and a product of small matrices whose tile of
// the result stays in registers. The shapes are those of one head, where no blocking for caches is needed.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include <dvla/core/simd.hpp>
#include <dvla/kernels/attention_shape.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

namespace head_product {

// Accumulators of a tile: 6 x 4 registers of the 32 of AVX-512, 6 x 2 of the 16 before it.
inline constexpr std::size_t tile_rows = 6;
template <class T>
inline constexpr std::size_t tile_vectors = sizeof(batch<T>) >= 64 ? 4 : 2;

/// n elements padded to whole registers.
template <class T>
constexpr std::size_t padded(std::size_t n) {
  return (n + lanes<T> - 1) / lanes<T> * lanes<T>;
}

/// Calls body(begin, end) for the fewest parts of at most `largest` that cover [0, count), as equal as can be.
template <class Body>
DVLA_INLINE void split_evenly(std::size_t count, std::size_t largest, Body&& body) {
  std::size_t const parts = (count + largest - 1) / largest;
  for (std::size_t i = 0; i < parts; ++i) body(count * i / parts, count * (i + 1) / parts);
}

/// A right-hand operand is packed in panels of at most tile_vectors registers, each with its rows contiguous. The panel that
/// starts at column j starts at element j * depth.
template <class T, class Body>
DVLA_INLINE void over_panels(std::size_t columns, Body&& body) {
  split_evenly(padded<T>(columns) / lanes<T>, tile_vectors<T>,
               [&](std::size_t first, std::size_t last) { body(first * lanes<T>, (last - first) * lanes<T>); });
}

/// Packs the matrix [depth, columns] whose rows lie `stride` apart; pad columns are 0.
template <class T>
void pack(std::size_t depth, std::size_t columns, T const* from, std::size_t stride, T* to) {
  over_panels<T>(columns, [&](std::size_t first, std::size_t width) {
    std::size_t const used = std::min(width, columns - first);
    T* panel = to + first * depth;
    for (std::size_t k = 0; k < depth; ++k, panel += width) {
      T const* row = from + k * stride + first;
      std::size_t j = 0;
      for (; j + lanes<T> <= used; j += lanes<T>) simd::store(panel + j, simd::load(row + j));
      for (; j < used; ++j) panel[j] = row[j];
      for (; j < width; ++j) panel[j] = T(0);
    }
  });
}

/// A 4 x 4 block transposed and scaled in registers.
template <class T>
DVLA_INLINE void transpose_block(T const* from, std::size_t stride, T factor, T* to, std::size_t to_stride) {
  typedef T quad __attribute__((vector_size(4 * sizeof(T))));
  quad row[4], out[4];
  DVLA_UNROLL(4)
  for (std::size_t i = 0; i < 4; ++i) {
    __builtin_memcpy(&row[i], from + i * stride, sizeof(quad));
    row[i] *= factor;
  }
  quad const low01 = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5),
             high01 = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
  quad const low23 = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5),
             high23 = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
  out[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
  out[1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
  out[2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
  out[3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
  DVLA_UNROLL(4)
  for (std::size_t i = 0; i < 4; ++i) __builtin_memcpy(to + i * to_stride, &out[i], sizeof(quad));
}

/// Packs factor times the transpose of the matrix [columns, depth] whose rows lie `stride` apart; pad columns are 0.
template <class T>
void pack_transposed(std::size_t depth, std::size_t columns, T const* from, std::size_t stride, T factor, T* to) {
  over_panels<T>(columns, [&](std::size_t first, std::size_t width) {
    std::size_t const used = std::min(width, columns - first);
    T* const panel = to + first * depth;
    T const* const rows = from + first * stride;
    std::size_t const blocks = used / 4 * 4, deep = depth / 4 * 4;
    for (std::size_t k = 0; k < deep; k += 4)
      for (std::size_t j = 0; j < blocks; j += 4)
        transpose_block(rows + j * stride + k, stride, factor, panel + k * width + j, width);
    for (std::size_t k = 0; k < depth; ++k) {
      for (std::size_t j = k < deep ? blocks : 0; j < used; ++j) panel[k * width + j] = factor * rows[j * stride + k];
      for (std::size_t j = used; j < width; ++j) panel[k * width + j] = T(0);
    }
  });
}

/// c = a b, or c += a b. Element (i, k) of a is a[i * a_row + k * a_step], so a may be transposed; b is packed.
template <class T>
struct product {
  std::size_t depth;
  T const* a;
  std::size_t a_row, a_step;
  T const* b;
  T* c;
  std::size_t c_row;
  bool accumulate;
};

template <class T, std::size_t Rows, std::size_t Vectors>
void tile(product<T> const& p) {
  batch<T> c[Rows][Vectors];
  DVLA_UNROLL(8)
  for (std::size_t i = 0; i < Rows; ++i) {
    DVLA_UNROLL(4)
    for (std::size_t v = 0; v < Vectors; ++v) c[i][v] = batch<T>(T(0));
  }
  auto const [depth, a_begin, a_row, a_step, b_begin, c_begin, c_row, accumulate] = p;  // stores could alias p itself
  T const* a = a_begin;
  T const* b = b_begin;
  for (std::size_t k = depth; k != 0; --k, a += a_step, b += Vectors * lanes<T>) {
    batch<T> right[Vectors];
    DVLA_UNROLL(4)
    for (std::size_t v = 0; v < Vectors; ++v) right[v] = simd::load(b + v * lanes<T>);
    DVLA_UNROLL(8)
    for (std::size_t i = 0; i < Rows; ++i) {
      batch<T> const left(a[i * a_row]);
      DVLA_UNROLL(4)
      for (std::size_t v = 0; v < Vectors; ++v) c[i][v] = xsimd::fma(left, right[v], c[i][v]);
    }
  }
  if (accumulate) {
    DVLA_UNROLL(8)
    for (std::size_t i = 0; i < Rows; ++i) {
      DVLA_UNROLL(4)
      for (std::size_t v = 0; v < Vectors; ++v) c[i][v] += simd::load(c_begin + i * c_row + v * lanes<T>);
    }
  }
  DVLA_UNROLL(8)
  for (std::size_t i = 0; i < Rows; ++i) {
    DVLA_UNROLL(4)
    for (std::size_t v = 0; v < Vectors; ++v) simd::store(c_begin + i * c_row + v * lanes<T>, c[i][v]);
  }
}

template <class T, std::size_t... I>
constexpr auto make_tiles(std::index_sequence<I...>) {
  return std::array<void (*)(product<T> const&), sizeof...(I)>{&tile<T, I / tile_vectors<T> + 1, I % tile_vectors<T> + 1>...};
}

template <class T>
inline constexpr auto tiles = make_tiles<T>(std::make_index_sequence<tile_rows * tile_vectors<T>>{});

/// The product for any number of rows and columns; c holds whole registers of columns.
template <class T>
void multiply(std::size_t rows, std::size_t columns, product<T> const& whole) {
  over_panels<T>(columns, [&](std::size_t first, std::size_t width) {
    split_evenly(rows, tile_rows, [&](std::size_t top, std::size_t bottom) {
      product<T> part = whole;
      part.a += top * whole.a_row;
      part.b += first * whole.depth;
      part.c += top * whole.c_row + first;
      tiles<T>[(bottom - top - 1) * tile_vectors<T> + width / lanes<T> - 1](part);
    });
  });
}

/// to = factor * from, or to += factor * from, for one row of n elements.
template <class T>
DVLA_INLINE void put_row(std::size_t n, T const* from, T factor, T* to, bool accumulate) {
  std::size_t i = 0;
  for (; i + lanes<T> <= n; i += lanes<T>) {
    batch<T> const value = simd::load(from + i) * batch<T>(factor);
    simd::store(to + i, accumulate ? simd::load(to + i) + value : value);
  }
  for (; i < n; ++i) to[i] = accumulate ? to[i] + factor * from[i] : factor * from[i];
}

/// How many of the keys, from the first on, a query sees.
template <attention_mask Mask>
constexpr std::size_t visible_keys(std::size_t keys, std::size_t query) {
  return Mask == attention_mask::causal ? std::min(query + 1, keys) : keys;
}

/// How many heads one task takes: enough of them that waking a thread is worth it.
inline std::size_t heads_per_task(attention_shape const& shape) {
  return 1 + (std::size_t{1} << 19) / (1 + shape.queries * shape.keys * shape.head_dim);
}

}  // namespace head_product
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
