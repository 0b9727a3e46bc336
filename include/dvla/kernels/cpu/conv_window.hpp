// Windows of images copied so that every tap of a block of outputs is a plain offset.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/kernels/conv_geometry.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

namespace detail {

/// One channels-last image of which a slice of channels is read.
template <class T>
struct image_slice {
  T const* data;  // the slice's first channel of the first pixel
  std::size_t height, width, pixel_stride, channels;
};

/// Copies rows [top, top + rows) x columns [left, left + columns) of the slice densely to `out`; zeros outside the image.
template <class T>
void copy_window(image_slice<T> const& image, std::ptrdiff_t top, std::ptrdiff_t left, std::size_t rows, std::size_t columns,
                 T* out) {
  auto const clip = [](std::ptrdiff_t at, std::size_t end) {
    return std::clamp<std::ptrdiff_t>(at, 0, static_cast<std::ptrdiff_t>(end));
  };
  std::size_t const before = static_cast<std::size_t>(clip(-left, columns));  // window columns left of the image
  std::size_t const after =                                                   // the first window column right of it
      std::max(before, static_cast<std::size_t>(clip(static_cast<std::ptrdiff_t>(image.width) - left, columns)));
  std::size_t const c = image.channels;
  for (std::size_t i = 0; i < rows; ++i, out += columns * c) {
    std::ptrdiff_t const y = top + static_cast<std::ptrdiff_t>(i);
    if (y < 0 || y >= static_cast<std::ptrdiff_t>(image.height) || before == after) {
      std::fill_n(out, columns * c, T(0));
      continue;
    }
    std::size_t const first = static_cast<std::size_t>(left + static_cast<std::ptrdiff_t>(before));
    T const* from = image.data + (static_cast<std::size_t>(y) * image.width + first) * image.pixel_stride;
    std::fill_n(out, before * c, T(0));
    if (image.pixel_stride == c) {
      std::copy_n(from, (after - before) * c, out + before * c);
    } else {
      for (std::size_t j = before; j < after; ++j, from += image.pixel_stride) std::copy_n(from, c, out + j * c);
    }
    std::fill_n(out + after * c, (columns - after) * c, T(0));
  }
}

}  // namespace detail
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
