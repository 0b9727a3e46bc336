// From bytes to the network's input: scaled to [0, 1], then centred and scaled by the statistics of a collection.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <dvla/core/error.hpp>
#include <dvla/data/image.hpp>

namespace dvla::inline DVLA_ABI {

/// Mean and standard deviation of red, green and blue, values in [0, 1].
struct channel_statistics {
  std::array<float, 3> mean, deviation;
};

inline constexpr channel_statistics imagenet_statistics{{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
inline constexpr channel_statistics cifar_statistics{{0.5071f, 0.4866f, 0.4409f}, {0.2009f, 0.1984f, 0.2023f}};

/// out[i] = (byte / 255 - mean) / deviation in HWC order, the bits of torchvision's ToTensor and Normalize. Throws unless out
/// has height * width * 3 elements.
inline void normalise(image const& source, channel_statistics const& statistics, std::span<float> out) {
  expect(out.size() == source.pixels.size(), "normalise: ", out.size(), " floats for an image of ", source.height, "x",
         source.width, "x3; give ", source.pixels.size());
  auto const [mean, deviation] = statistics;
  std::uint8_t const* const in = source.pixels.data();
  for (std::size_t i = 0; i < out.size(); i += 3)
    for (std::size_t c = 0; c < 3; ++c) out[i + c] = (static_cast<float>(in[i + c]) / 255.0f - mean[c]) / deviation[c];
}

}  // namespace dvla::inline DVLA_ABI
