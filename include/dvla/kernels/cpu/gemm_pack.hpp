// Copies of blocks of A and B in the order in which the register tile reads them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include <dvla/kernels/cpu/gemm_tile.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels::detail {

/// out[j * ld_out + i] = in[i * ld_in + j] for a square of four floats (two doubles) a side.
template <class T>
DVLA_INLINE void transpose_square(T const* in, std::size_t ld_in, T* out, std::size_t ld_out) {
  using V = xsimd::make_sized_batch_t<T, 16 / sizeof(T)>;
  if constexpr (V::size == 2) {
    V const a = V::load_unaligned(in), b = V::load_unaligned(in + ld_in);
    xsimd::zip_lo(a, b).store_unaligned(out);
    xsimd::zip_hi(a, b).store_unaligned(out + ld_out);
  } else {
    V const a = V::load_unaligned(in), b = V::load_unaligned(in + ld_in);
    V const c = V::load_unaligned(in + 2 * ld_in), d = V::load_unaligned(in + 3 * ld_in);
    V const ac = xsimd::zip_lo(a, c), bd = xsimd::zip_lo(b, d);
    V const ac_high = xsimd::zip_hi(a, c), bd_high = xsimd::zip_hi(b, d);
    xsimd::zip_lo(ac, bd).store_unaligned(out);
    xsimd::zip_hi(ac, bd).store_unaligned(out + ld_out);
    xsimd::zip_lo(ac_high, bd_high).store_unaligned(out + 2 * ld_out);
    xsimd::zip_hi(ac_high, bd_high).store_unaligned(out + 3 * ld_out);
  }
}

/// out[j * ld_out + i] = in[i * ld_in + j] for i < rows, j < columns.
template <class T>
void transpose_block(T const* in, std::size_t ld_in, std::size_t rows, std::size_t columns, T* out, std::size_t ld_out) {
  constexpr std::size_t side = 16 / sizeof(T);
  std::size_t const whole_rows = rows - rows % side, whole_columns = columns - columns % side;
  for (std::size_t j = 0; j < whole_columns; j += side)
    for (std::size_t i = 0; i < whole_rows; i += side)
      transpose_square(in + i * ld_in + j, ld_in, out + j * ld_out + i, ld_out);
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) out[j * ld_out + i] = in[i * ld_in + j];
}

/// A panel of op(B), k x columns, as k rows of panel_width(columns); what is beyond the columns is 0.
template <class T>
void pack_b_panel(T const* b, std::size_t ldb, bool transposed, std::size_t k, std::size_t columns, T* out) {
  std::size_t const width = panel_width<T>(columns);
  if (transposed) {
    transpose_block(b, ldb, columns, k, out, width);
  } else if (columns == tile_columns<T>) {
    for (std::size_t i = 0; i < k; ++i) std::memcpy(out + i * width, b + i * ldb, tile_columns<T> * sizeof(T));
  } else {
    for (std::size_t i = 0; i < k; ++i) std::copy_n(b + i * ldb, columns, out + i * width);
  }
  if (columns < width)
    for (std::size_t i = 0; i < k; ++i) std::fill_n(out + i * width + columns, width - columns, T(0));
}

/// A block of a transposed A, stored as k rows of `rows`, as panels of tile_rows: out[panel][k][row of the panel], panels
/// beginning every `panel_k` k. Rows that the last panel lacks are left unset.
template <class T>
void pack_a_transposed(T const* a, std::size_t lda, std::size_t rows, std::size_t k, T* out, std::size_t panel_k) {
  constexpr std::size_t full = tile_rows<T>;
  for (std::size_t l = 0; l < k; ++l, a += lda, out += full) {
    std::size_t i = 0;
    for (; i + full <= rows; i += full) std::memcpy(out + i * panel_k, a + i, full * sizeof(T));
    for (T* const panel = out + i * panel_k; i < rows; ++i) panel[i % full] = a[i];
  }
}

}  // namespace kernels::detail
}  // namespace dvla::inline DVLA_ABI
