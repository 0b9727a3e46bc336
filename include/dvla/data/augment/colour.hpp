// Colour jitter on 8-bit pixels, equal to torchvision's on Pillow images: each of brightness, contrast and saturation is a
// blend with a degenerate image (black, the mean grey, the grey image), in random order.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/data/image.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// degenerate + factor (original - degenerate) in single precision, cut off to 0..255. The product is rounded on its own: a
/// fused multiply-add would give other bytes than Pillow's code.
DVLA_HD inline std::uint8_t blend(int degenerate, int original, float factor) {
  auto const step = static_cast<float>(static_cast<double>(factor) * (original - degenerate));
  return static_cast<std::uint8_t>(static_cast<int>(std::clamp(static_cast<float>(degenerate) + step, 0.0f, 255.0f)));
}

/// ITU-R 601 luma in 16-bit fixed point, as Pillow's convert("L").
DVLA_HD constexpr int luma(std::uint8_t const* rgb) { return (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16; }

/// The mean of `count` lumas that add up to `sum`, rounded as Pillow rounds it.
DVLA_HD inline int mean_grey(std::uint64_t sum, std::size_t count) {
  return static_cast<int>(static_cast<double>(sum) / static_cast<double>(count) + 0.5);
}

inline void blend_with_constant(image& picture, int degenerate, float factor) {
  std::array<std::uint8_t, 256> changed;
  for (std::size_t value = 0; value < 256; ++value) changed[value] = blend(degenerate, static_cast<int>(value), factor);
  for (auto& p : picture.pixels) p = changed[p];
}

}  // namespace detail

/// Scales all values by the factor (0: black, 1: unchanged), as PIL's ImageEnhance.Brightness.
inline void adjust_brightness(image& picture, float factor) { detail::blend_with_constant(picture, 0, factor); }

/// Moves all values away from the image's mean luma (0: that grey, 1: unchanged), as PIL's ImageEnhance.Contrast.
inline void adjust_contrast(image& picture, float factor) {
  std::uint64_t sum = 0;
  std::size_t const count = picture.height * picture.width;
  for (std::size_t i = 0; i < count; ++i) sum += static_cast<std::uint64_t>(detail::luma(picture.pixels.data() + i * 3));
  if (count > 0) detail::blend_with_constant(picture, detail::mean_grey(sum, count), factor);
}

/// Moves every pixel away from its own luma (0: a grey image, 1: unchanged), as PIL's ImageEnhance.Color.
inline void adjust_saturation(image& picture, float factor) {
  // In chunks, with the luma spread over its pixel's bytes, so that the blend is one vector loop.
  std::array<std::uint8_t, 192> grey{};
  for (std::size_t begin = 0; begin < picture.pixels.size(); begin += grey.size()) {
    std::size_t const count = std::min(grey.size(), picture.pixels.size() - begin);
    std::uint8_t* const p = picture.pixels.data() + begin;
    for (std::size_t i = 0; i < count; i += 3) grey[i] = grey[i + 1] = grey[i + 2] = static_cast<std::uint8_t>(detail::luma(p + i));
    for (std::size_t i = 0; i < count; ++i) p[i] = detail::blend(grey[i], p[i], factor);
  }
}

/// Strengths: a factor is uniform in [max(0, 1 - strength), 1 + strength]; 0 leaves that property alone.
struct colour_jitter {
  double brightness = 0, contrast = 0, saturation = 0;
};

enum class colour_property : std::uint8_t { brightness, contrast, saturation };

/// Drawn factors and the order in which they are applied.
struct colour_change {
  float brightness = 1, contrast = 1, saturation = 1;
  std::array<colour_property, 3> order{colour_property::brightness, colour_property::contrast, colour_property::saturation};
};

/// Draws order and factors. Throws for a strength that is negative or not finite.
[[nodiscard]] inline colour_change draw_colour(colour_jitter const& strengths, random_stream& random) {
  auto const factor = [&](double strength, char const* name) {
    expect(strength >= 0 && strength <= 255, "colour jitter: a strength of ", strength, " for ", name,
           "; expected 0 to 255, usually below 1");
    return static_cast<float>(random.uniform(strength < 1 ? 1 - strength : 0, 1 + strength));
  };
  colour_change out;
  shuffle(out.order, random);
  out.brightness = factor(strengths.brightness, "brightness");
  out.contrast = factor(strengths.contrast, "contrast");
  out.saturation = factor(strengths.saturation, "saturation");
  return out;
}

/// Applies the change, in place.
inline void apply(colour_change const& change, image& picture) {
  for (auto const property : change.order) {
    if (property == colour_property::brightness && change.brightness != 1) adjust_brightness(picture, change.brightness);
    if (property == colour_property::contrast && change.contrast != 1) adjust_contrast(picture, change.contrast);
    if (property == colour_property::saturation && change.saturation != 1) adjust_saturation(picture, change.saturation);
  }
}

}  // namespace dvla::inline DVLA_ABI
