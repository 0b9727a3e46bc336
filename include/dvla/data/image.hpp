// The image of the data room: 8-bit RGB, rows of interleaved pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// An 8-bit RGB image; pixels has height * width * 3 bytes in HWC order.
struct image {
  static constexpr std::size_t channels = 3;

  std::size_t height = 0, width = 0;
  std::vector<std::uint8_t> pixels{};

  image() = default;
  /// A black image.
  image(std::size_t height_, std::size_t width_) : height(height_), width(width_), pixels(height_ * width_ * channels) {}

  [[nodiscard]] std::uint8_t* row(std::size_t y) { return pixels.data() + y * width * channels; }
  [[nodiscard]] std::uint8_t const* row(std::size_t y) const { return pixels.data() + y * width * channels; }

  friend bool operator==(image const&, image const&) = default;
};

/// The pixels of an image wherever they lie, for functions that run on the GPU as well.
struct pixel_view {
  std::uint8_t const* pixels;
  int height, width;

  [[nodiscard]] DVLA_HD std::uint8_t const* at(int y, int x) const { return pixels + (y * width + x) * 3; }
};

[[nodiscard]] inline pixel_view pixels_of(image const& source) {
  return {source.pixels.data(), static_cast<int>(source.height), static_cast<int>(source.width)};
}

/// A rectangle of whole pixels inside an image.
struct pixel_box {
  std::size_t top = 0, left = 0, height = 0, width = 0;

  friend bool operator==(pixel_box const&, pixel_box const&) = default;
};

/// The box that covers the whole image.
[[nodiscard]] inline pixel_box whole(image const& source) { return {0, 0, source.height, source.width}; }

}  // namespace dvla::inline DVLA_ABI
