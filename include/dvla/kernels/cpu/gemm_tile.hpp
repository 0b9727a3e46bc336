// The register tile under every product of the CPU kernels: a few rows times up to three vectors of columns, summed over k
// in registers. gemm and the convolutions differ only in where a tile finds its rows.
#pragma once

#include <cstddef>

#include <dvla/core/config.hpp>
#include <dvla/core/simd.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels::detail {

/// Rows of the full tile: with three vectors a row it fills 24 of 32 registers, or 12 of 16.
template <class T>
inline constexpr std::size_t tile_rows = sizeof(batch<T>) == 64 ? 8 : 4;

/// Columns of the full tile, and of every panel of B but the last.
template <class T>
inline constexpr std::size_t tile_columns = 3 * lanes<T>;

/// Half a 512-bit register: processors that run those in two passes take 24 columns as fast as 24/32 of two full ones.
/// Elsewhere the whole register.
template <class T>
using half_batch = xsimd::make_sized_batch_t<T, sizeof(batch<T>) == 64 ? lanes<T> / 2 : lanes<T>>;

/// c[i][j] = alpha sum_k a[i][k] b[k][j] + beta c[i][j] + bias[j]. The sum runs over `images` of `segments` of `length` each
/// (a matrix product is one segment, a convolution a segment for every row of taps): within a segment a and b advance by
/// their step; after one, by their jump from where it began; after an image, b by b_image from where that began.
/// All in elements.
template <class T>
struct tile_job {
  std::size_t images = 1, segments = 1, length = 0;
  std::size_t a_step = 1, a_jump = 0, b_step = 0, b_jump = 0, b_image = 0;
  std::size_t columns = 0;  // stored; b must be readable up to panel_width(columns)
  T alpha = 1, beta = 0;
  T const* bias = nullptr;  // readable like b
  T const* b = nullptr;
  T const* a[tile_rows<T>];
  T* c[tile_rows<T>];
};

/// Columns computed for a last panel of `columns`: the next width that a tile exists for.
template <class T>
constexpr std::size_t panel_width(std::size_t columns) {
  constexpr std::size_t n = lanes<T>, half = half_batch<T>::size;
  if (columns <= n) return n;
  if (3 * half < 2 * n && columns <= 3 * half) return 3 * half;
  return columns <= 2 * n ? 2 * n : 3 * n;
}

/// Brings a tile's sums, rows of `width`, to c; which is not read where beta is 0. One function for all tiles, for the cases
/// that are too rare to have the compiler write them out for each.
template <class T>
void store_tile(tile_job<T> const& job, T const* sums, std::size_t rows, std::size_t width) {
  constexpr std::size_t n = lanes<T>;
  for (std::size_t i = 0; i < rows; ++i, sums += width) {
    T* const c = job.c[i];
    std::size_t j = 0;
    for (; j + n <= job.columns; j += n) {
      batch<T> value = simd::load(sums + j) * batch<T>(job.alpha);
      if (job.bias != nullptr) value += simd::load(job.bias + j);
      if (job.beta != T(0)) value = xsimd::fma(batch<T>(job.beta), simd::load(c + j), value);
      simd::store(c + j, value);
    }
    for (; j < job.columns; ++j) {
      T const value = job.alpha * sums[j] + (job.bias != nullptr ? job.bias[j] : T(0));
      c[j] = job.beta != T(0) ? value + job.beta * c[j] : value;
    }
  }
}

template <class V, std::size_t Rows, std::size_t Vectors, class T>
void multiply_tile(tile_job<T> const& job) {
  using reg = typename V::register_type;  // batches in an array would be kept in memory by g++ 12
  reg sum[Rows][Vectors];
  T const* a[Rows];
  DVLA_UNROLL(8)
  for (std::size_t i = 0; i < Rows; ++i) {
    a[i] = job.a[i];
    for (std::size_t j = 0; j < job.columns; j += 64 / sizeof(T)) __builtin_prefetch(job.c[i] + j, 1);
    DVLA_UNROLL(3)
    for (std::size_t j = 0; j < Vectors; ++j) sum[i][j] = V(T(0));
  }
  T const* image = job.b;
  std::size_t const a_step = job.a_step, b_step = job.b_step, length = job.length;
  for (std::size_t n = 0; n < job.images; ++n, image += job.b_image) {
    T const* segment = image;
    for (std::size_t s = 0; s < job.segments; ++s, segment += job.b_jump) {
      T const* b = segment;
      for (std::size_t k = 0, at = 0; k < length; ++k, at += a_step, b += b_step) {
        reg row[Vectors];
        DVLA_UNROLL(3)
        for (std::size_t j = 0; j < Vectors; ++j) row[j] = V::load_unaligned(b + j * V::size);
        DVLA_UNROLL(8)
        for (std::size_t i = 0; i < Rows; ++i) {
          reg const x = V(a[i][at]);
          DVLA_UNROLL(3)
          for (std::size_t j = 0; j < Vectors; ++j) sum[i][j] = x * row[j] + sum[i][j];  // fused: xsimd 8's fma is not, in AVX-512
        }
      }
      DVLA_UNROLL(8)
      for (std::size_t i = 0; i < Rows; ++i) a[i] += job.a_jump;
    }
  }
  if (job.columns == Vectors * V::size && job.bias == nullptr && job.alpha == T(1) && job.beta == T(0)) {
    DVLA_UNROLL(8)
    for (std::size_t i = 0; i < Rows; ++i) {
      DVLA_UNROLL(3)
      for (std::size_t j = 0; j < Vectors; ++j) V(sum[i][j]).store_unaligned(job.c[i] + j * V::size);
    }
    return;
  }
  alignas(64) T sums[Rows * Vectors * V::size];
  DVLA_UNROLL(8)
  for (std::size_t i = 0; i < Rows; ++i) {
    DVLA_UNROLL(3)
    for (std::size_t j = 0; j < Vectors; ++j) V(sum[i][j]).store_aligned(sums + (i * Vectors + j) * V::size);
  }
  store_tile(job, sums, Rows, Vectors * V::size);
}

template <std::size_t Rows, class T>
void multiply_rows(tile_job<T> const& job) {
  std::size_t const width = panel_width<T>(job.columns);
  if (width == 3 * lanes<T>) {
    multiply_tile<batch<T>, Rows, 3>(job);
  } else if (width == 2 * lanes<T>) {
    multiply_tile<batch<T>, Rows, 2>(job);
  } else if (width == lanes<T>) {
    multiply_tile<batch<T>, Rows, 1>(job);
  } else {
    if constexpr (half_batch<T>::size < lanes<T>) multiply_tile<half_batch<T>, Rows, 3>(job);
  }
}

/// Computes `rows` rows of c, whose addresses place(i, a, c) gives for i in [0, rows), in tiles of 8 (4), 4 (2) and 1 rows.
template <class T, class Place>
void multiply_panel(tile_job<T>& job, std::size_t rows, Place const& place) {
  constexpr std::size_t full = tile_rows<T>, half = full / 2;
  for (std::size_t i = 0; i < rows;) {
    std::size_t const left = rows - i, size = left >= full ? full : left >= half ? half : 1;
    for (std::size_t r = 0; r < size; ++r) place(i + r, job.a[r], job.c[r]);
    if (size == full) {
      multiply_rows<full>(job);
    } else if (size == half) {
      multiply_rows<half>(job);
    } else {
      multiply_rows<1>(job);
    }
    i += size;
  }
}

}  // namespace kernels::detail
}  // namespace dvla::inline DVLA_ABI
