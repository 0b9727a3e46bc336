// Affine maps of an image with bicubic interpolation, to the byte those of Pillow's Image.transform(AFFINE, BICUBIC).
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <dvla/core/config.hpp>
#include <dvla/data/image.hpp>

namespace dvla::inline DVLA_ABI {

/// Where the centre of an output pixel, at (x, y), lies in the source: (xx x + xy y + x0, yx x + yy y + y0).
struct affine_map {
  double xx = 1, xy = 0, x0 = 0;
  double yx = 0, yy = 1, y0 = 0;
};

/// Rounded to 2^-12. The coordinates of a map whose numbers are on this grid have so few digits that they are computed exactly:
/// an image comes out with the same bytes from every compiler and device, with or without fused multiply-adds.
[[nodiscard]] inline double on_affine_grid(double x) { return std::nearbyint(x * 4096) / 4096; }

/// The image turned about its centre, counter-clockwise for a positive angle: the map of PIL's Image.rotate with cosine and sine
/// rounded to the grid.
[[nodiscard]] inline affine_map rotation(double degrees, std::size_t height, std::size_t width) {
  double const angle = degrees * (3.141592653589793238463 / 180);
  double const c = on_affine_grid(std::cos(angle)), s = on_affine_grid(std::sin(angle));
  double const x = static_cast<double>(width) / 2, y = static_cast<double>(height) / 2;
  return {c, -s, x - (c * x - s * y), s, c, y - (s * x + c * y)};
}

namespace detail {

/// The cubic (Catmull-Rom) from b at t = 0 to c at t = 1, in the order of Pillow's operations.
template <class T>
DVLA_HD double cubic_between(T a, T b, T c, T d, double t) {
  auto const linear = static_cast<double>(-a + c), square = static_cast<double>(2 * (a - b) + c - d);
  auto const cube = static_cast<double>(-a + b - c + d);
  return static_cast<double>(b) + t * (linear + t * (square + t * cube));
}

DVLA_HD inline int clamped(int i, int size) { return i < 0 ? 0 : i < size ? i : size - 1; }

/// The colour of the source at (x, y), its pixels' centres being at halves and its edge pixels continued outwards.
DVLA_HD inline void sample_bicubic(pixel_view source, double x, double y, std::uint8_t* rgb) {
  x -= 0.5;
  y -= 0.5;
  double const left = std::floor(x), top = std::floor(y);
  int at[4];
  std::uint8_t const* row[4];
  DVLA_UNROLL(4)
  for (int i = 0; i < 4; ++i) {
    at[i] = clamped(static_cast<int>(left) - 1 + i, source.width) * 3;
    row[i] = source.at(clamped(static_cast<int>(top) - 1 + i, source.height), 0);
  }
  DVLA_UNROLL(1)
  for (int c = 0; c < 3; ++c) {
    double through[4];
    DVLA_UNROLL(4)
    for (int i = 0; i < 4; ++i)
      through[i] = cubic_between<int>(row[i][at[0] + c], row[i][at[1] + c], row[i][at[2] + c], row[i][at[3] + c], x - left);
    double const value = cubic_between(through[0], through[1], through[2], through[3], y - top);
    rgb[c] = static_cast<std::uint8_t>(value <= 0 ? 0 : value >= 255 ? 255 : static_cast<int>(value));
  }
}

/// The pixel (x, y) of the source under the map; the fill colour where it comes from outside of the source.
DVLA_HD inline void mapped_pixel(pixel_view source, affine_map const& map, int y, int x, std::uint8_t const* fill,
                                 std::uint8_t* rgb) {
  double const column = x + 0.5, row = y + 0.5;
  double const from_x = map.xx * column + map.xy * row + map.x0, from_y = map.yx * column + map.yy * row + map.y0;
  if (from_x >= 0 && from_x < source.width && from_y >= 0 && from_y < source.height) {
    sample_bicubic(source, from_x, from_y, rgb);
  } else {
    for (int c = 0; c < 3; ++c) rgb[c] = fill[c];
  }
}

}  // namespace detail

/// Maps the image onto one of its own size; what comes from outside of it has the fill colour.
inline void transform(image& picture, affine_map const& map, std::array<std::uint8_t, 3> const& fill) {
  image out(picture.height, picture.width);
  auto const source = pixels_of(picture);
  for (int y = 0; y < source.height; ++y)
    for (int x = 0; x < source.width; ++x)
      detail::mapped_pixel(source, map, y, x, fill.data(), out.row(static_cast<std::size_t>(y)) + x * 3);
  picture = std::move(out);
}

}  // namespace dvla::inline DVLA_ABI
