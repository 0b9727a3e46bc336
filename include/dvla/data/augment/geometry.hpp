// Augmentations that move pixels: flip, crop with a border, crop resized. Parameters are drawn first and applied separately,
// so that another device can apply the same draw.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/data/image.hpp>

namespace dvla::inline DVLA_ABI {

/// Mirrors the image left to right, in place.
inline void flip_horizontally(image& picture) {
  for (std::size_t y = 0; y < picture.height; ++y) {
    std::uint8_t* const row = picture.row(y);
    for (std::size_t left = 0, right = picture.width; left + 1 < right; ++left)
      std::swap_ranges(row + left * 3, row + left * 3 + 3, row + --right * 3);
  }
}

/// A window onto an image that may reach beyond its edges: top and left may be negative.
struct window_offset {
  std::ptrdiff_t top = 0, left = 0;
};

/// Draws the place of a height x width window in an image with `border` pixels added on every side (torchvision's
/// RandomCrop with padding). Throws if the window is larger than the image with its border.
[[nodiscard]] inline window_offset draw_random_crop(std::size_t image_height, std::size_t image_width, std::size_t height,
                                                    std::size_t width, std::size_t border, random_stream& random) {
  expect(height <= image_height + 2 * border && width <= image_width + 2 * border, "random crop: ", height, "x", width,
         " out of an image of ", image_height, "x", image_width, " with a border of ", border, "; enlarge the image or the border");
  auto const place = [&](std::size_t slack) {
    return static_cast<std::ptrdiff_t>(random.below(static_cast<std::uint32_t>(slack) + 1)) - static_cast<std::ptrdiff_t>(border);
  };
  auto const top = place(image_height + 2 * border - height);
  return {top, place(image_width + 2 * border - width)};
}

/// The height x width pixels at the offset; what lies beyond the image is black.
[[nodiscard]] inline image window_of(image const& source, window_offset offset, std::size_t height, std::size_t width) {
  image out(height, width);
  auto const rows = static_cast<std::ptrdiff_t>(source.height), columns = static_cast<std::ptrdiff_t>(source.width);
  auto const begin = std::clamp<std::ptrdiff_t>(offset.left, 0, columns);
  auto const end = std::clamp<std::ptrdiff_t>(offset.left + static_cast<std::ptrdiff_t>(width), begin, columns);
  if (begin == end) return out;
  for (std::size_t y = 0; y < height; ++y) {
    auto const from = offset.top + static_cast<std::ptrdiff_t>(y);
    if (from < 0 || from >= rows) continue;
    std::memcpy(out.row(y) + (begin - offset.left) * 3, source.row(static_cast<std::size_t>(from)) + begin * 3,
                static_cast<std::size_t>(end - begin) * 3);
  }
  return out;
}

/// The ranges of RandomResizedCrop: share of the image's area, and width / height.
struct random_resized_crop {
  double smallest_area = 0.08, largest_area = 1;
  double narrowest = 3.0 / 4, widest = 4.0 / 3;
};

/// Draws a box by torchvision's rule: ten tries of uniform area and log-uniform aspect, then the largest central box within
/// the aspect range. Throws for an empty image or ranges that are not 0 < low <= high (area: <= 1).
[[nodiscard]] inline pixel_box draw_box(random_resized_crop const& ranges, std::size_t image_height, std::size_t image_width,
                                        random_stream& random) {
  expect(ranges.smallest_area > 0 && ranges.smallest_area <= ranges.largest_area && ranges.largest_area <= 1,
         "random resized crop: areas from ", ranges.smallest_area, " to ", ranges.largest_area, "; expected 0 < low <= high <= 1");
  expect(ranges.narrowest > 0 && ranges.narrowest <= ranges.widest, "random resized crop: aspects from ", ranges.narrowest, " to ",
         ranges.widest, "; expected 0 < low <= high");
  expect(image_height > 0 && image_width > 0, "random resized crop: the image is empty");
  auto const rounded = [](double x) { return static_cast<std::size_t>(std::nearbyint(x)); };
  auto const height = static_cast<double>(image_height), width = static_cast<double>(image_width);
  for (int attempt = 0; attempt < 10; ++attempt) {
    double const area = height * width * random.uniform(ranges.smallest_area, ranges.largest_area);
    double const aspect = std::exp(random.uniform(std::log(ranges.narrowest), std::log(ranges.widest)));
    std::size_t const w = rounded(std::sqrt(area * aspect)), h = rounded(std::sqrt(area / aspect));
    if (w == 0 || w > image_width || h == 0 || h > image_height) continue;
    std::size_t const top = random.below(static_cast<std::uint32_t>(image_height - h) + 1);
    return {top, random.below(static_cast<std::uint32_t>(image_width - w) + 1), h, w};
  }
  std::size_t h = image_height, w = image_width;
  if (width / height < ranges.narrowest) h = std::clamp<std::size_t>(rounded(width / ranges.narrowest), 1, image_height);
  if (width / height > ranges.widest) w = std::clamp<std::size_t>(rounded(height * ranges.widest), 1, image_width);
  return {(image_height - h) / 2, (image_width - w) / 2, h, w};
}

}  // namespace dvla::inline DVLA_ABI
