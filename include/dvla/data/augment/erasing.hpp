// RandomErasing (Zhong et al., AAAI 2020) in timm's per-pixel mode: a rectangle of the normalised image becomes noise.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/data/image.hpp>

namespace dvla::inline DVLA_ABI {

/// How often and how much is erased: share of the area, and aspect ratios (log-uniform).
struct random_erasing {
  double probability = 0.25;
  double smallest_area = 0.02, largest_area = 1.0 / 3;
  double lowest_aspect = 0.3, highest_aspect = 1 / 0.3;
};

/// The rectangle to erase (of height 0: none) and the seed of its noise.
struct erased_box {
  pixel_box box{};
  std::uint64_t noise_seed = 0;
};

/// Draws a rectangle strictly smaller than the image on both sides; after ten unsuccessful tries there is none.
[[nodiscard]] inline erased_box draw_erasing(random_erasing const& settings, std::size_t height, std::size_t width,
                                             random_stream& random) {
  expect(settings.probability >= 0 && settings.probability <= 1, "random erasing: a probability of ", settings.probability);
  expect(settings.smallest_area >= 0 && settings.smallest_area <= settings.largest_area && settings.largest_area <= 1,
         "random erasing: areas from ", settings.smallest_area, " to ", settings.largest_area, "; expected 0 <= low <= high <= 1");
  expect(settings.lowest_aspect > 0 && settings.lowest_aspect <= settings.highest_aspect, "random erasing: aspects from ",
         settings.lowest_aspect, " to ", settings.highest_aspect, "; expected 0 < low <= high");
  if (random.uniform() >= settings.probability) return {};
  double const pixels = static_cast<double>(height) * static_cast<double>(width);
  for (int attempt = 0; attempt < 10; ++attempt) {
    double const area = pixels * random.uniform(settings.smallest_area, settings.largest_area);
    double const aspect = std::exp(random.uniform(std::log(settings.lowest_aspect), std::log(settings.highest_aspect)));
    auto const h = static_cast<std::size_t>(std::nearbyint(std::sqrt(area * aspect)));
    auto const w = static_cast<std::size_t>(std::nearbyint(std::sqrt(area / aspect)));
    if (h == 0 || w == 0 || h >= height || w >= width) continue;
    std::size_t const top = random.below(static_cast<std::uint32_t>(height - h) + 1);
    std::size_t const left = random.below(static_cast<std::uint32_t>(width - w) + 1);
    std::uint64_t const high = random.next();
    return {{top, left, h, w}, (high << 32) | random.next()};
  }
  return {};
}

/// Fills the rectangle of a height x width x 3 float image with standard normal noise: value i of the rectangle, in HWC order,
/// is the i-th normal (words 4 i to 4 i + 3) of the stream (noise_seed, augment, 0, 0).
inline void apply(erased_box const& erased, std::size_t width, std::span<float> pixels) {
  random_stream noise(erased.noise_seed, draw::augment, 0, 0);
  for (std::size_t y = 0; y < erased.box.height; ++y) {
    auto const row = pixels.subspan(((erased.box.top + y) * width + erased.box.left) * 3, erased.box.width * 3);
    for (float& value : row) value = static_cast<float>(noise.normal());
  }
}

}  // namespace dvla::inline DVLA_ABI
