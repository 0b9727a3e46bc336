// Tables of values that follow from how often each value of a channel occurs, to the byte those of PIL's ImageOps.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <dvla/data/image.hpp>

namespace dvla::inline DVLA_ABI {

/// For each channel, what its values 0 to 255 become.
using channel_tables = std::array<std::array<std::uint8_t, 256>, 3>;

namespace detail {

/// The value of a channel that runs from low to high, low < high, once it runs from 0 to 255 (ImageOps.autocontrast). Pillow
/// rounds both products before it subtracts them, which decides whether 255 is reached: each is the sum of two exact ones,
/// which a fused multiply-add cannot change.
DVLA_HD inline std::uint8_t stretched(int value, int low, int high) {
  double const scale = 255.0 / (high - low);
  double const coarse = static_cast<double>(static_cast<float>(scale)), fine = scale - coarse;
  double const from_low = (value * coarse + value * fine) - (low * coarse + low * fine);
  return static_cast<std::uint8_t>(from_low <= 0 ? 0 : from_low >= 255 ? 255 : static_cast<int>(from_low));
}

/// From how often each value of a channel occurs, a table that makes all values about equally frequent (ImageOps.equalize).
DVLA_HD inline void equalise(std::uint32_t const* counts, std::uint8_t* table) {
  int last = 255;
  while (last > 0 && counts[last] == 0) --last;
  std::uint32_t below_last = 0;
  for (int value = 0; value < last; ++value) below_last += counts[value];
  std::uint32_t const step = below_last / 255;
  std::uint32_t so_far = step / 2;
  for (int value = 0; value < 256; ++value) {
    std::uint32_t const level = step == 0 ? static_cast<std::uint32_t>(value) : so_far / step;
    table[value] = static_cast<std::uint8_t>(level < 255 ? level : 255);
    so_far += counts[value];
  }
}

inline std::array<std::array<std::uint32_t, 256>, 3> histograms(image const& picture) {
  std::array<std::array<std::uint32_t, 256>, 3> counts{};
  for (std::size_t i = 0; i < picture.pixels.size(); i += 3)
    for (std::size_t c = 0; c < 3; ++c) ++counts[c][picture.pixels[i + c]];
  return counts;
}

}  // namespace detail

/// Replaces every value by its entry.
inline void replace_values(image& picture, channel_tables const& tables) {
  for (std::size_t i = 0; i < picture.pixels.size(); i += 3)
    for (std::size_t c = 0; c < 3; ++c) picture.pixels[i + c] = tables[c][picture.pixels[i + c]];
}

/// Stretches each channel to the whole range; a channel of one value stays as it is.
inline void stretch_contrast(image& picture) {
  auto const counts = detail::histograms(picture);
  channel_tables tables;
  for (std::size_t c = 0; c < 3; ++c) {
    int low = 0, high = 255;
    while (low < 255 && counts[c][static_cast<std::size_t>(low)] == 0) ++low;
    while (high > 0 && counts[c][static_cast<std::size_t>(high)] == 0) --high;
    for (int value = 0; value < 256; ++value) {
      auto& entry = tables[c][static_cast<std::size_t>(value)];
      entry = high > low ? detail::stretched(value, low, high) : static_cast<std::uint8_t>(value);
    }
  }
  replace_values(picture, tables);
}

/// Spreads the values of each channel so that all are about equally frequent.
inline void equalise_histogram(image& picture) {
  auto const counts = detail::histograms(picture);
  channel_tables tables;
  for (std::size_t c = 0; c < 3; ++c) detail::equalise(counts[c].data(), tables[c].data());
  replace_values(picture, tables);
}

}  // namespace dvla::inline DVLA_ABI
