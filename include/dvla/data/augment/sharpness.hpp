// Sharpness on 8-bit pixels, to the byte that of PIL's ImageEnhance.Sharpness: a blend with the smoothed image.
#pragma once

#include <cstdint>
#include <utility>

#include <dvla/data/augment/colour.hpp>
#include <dvla/data/image.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// A channel of a pixel off its smoothed value: the mean of 3 x 3 pixels, the middle one counted five times (PIL's
/// ImageFilter.SMOOTH), which leaves the edges as they are.
DVLA_HD inline std::uint8_t sharpened(pixel_view source, int y, int x, int c, float factor) {
  int const own = source.at(y, x)[c];
  if (y == 0 || x == 0 || y + 1 >= source.height || x + 1 >= source.width) return static_cast<std::uint8_t>(own);
  int sum = 4 * own;
  for (int dy = -1; dy <= 1; ++dy)
    for (int dx = -1; dx <= 1; ++dx) sum += source.at(y + dy, x + dx)[c];
  return blend((2 * sum + 13) / 26, own, factor);
}

}  // namespace detail

/// Moves all values away from the smoothed image (0: smoothed, 1: unchanged, 2: sharpened).
inline void adjust_sharpness(image& picture, float factor) {
  image out(picture.height, picture.width);
  auto const source = pixels_of(picture);
  std::uint8_t* to = out.pixels.data();
  for (int y = 0; y < source.height; ++y)
    for (int x = 0; x < source.width; ++x)
      for (int c = 0; c < 3; ++c) *to++ = detail::sharpened(source, y, x, c, factor);
  picture = std::move(out);
}

}  // namespace dvla::inline DVLA_ABI
