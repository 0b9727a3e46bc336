// The sizes of a max-pooling.
#pragma once

#include <cstddef>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// Extents of a pooling: images of height x width x channels, windows of size x size.
struct pool_geometry {
  std::size_t batch, height, width, channels, size;

  [[nodiscard]] constexpr std::size_t out_height() const { return height / size; }
  [[nodiscard]] constexpr std::size_t out_width() const { return width / size; }
};

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
