// The sizes of a convolution.
#pragma once

#include <cstddef>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// A two-dimensional convolution over channels-last images: x[batch][height][width][in_channels] with
/// weight[out_channels][kernel_h][kernel_w][in_channels / groups] gives y[batch][out_height][out_width][out_channels].
/// groups divides both numbers of channels; the padded image is at least as large as the kernel.
struct conv_geometry {
  std::size_t batch, height, width, in_channels, out_channels, kernel_h, kernel_w, stride, padding, groups;

  [[nodiscard]] constexpr std::size_t out_height() const { return (height + 2 * padding - kernel_h) / stride + 1; }
  [[nodiscard]] constexpr std::size_t out_width() const { return (width + 2 * padding - kernel_w) / stride + 1; }
  [[nodiscard]] constexpr std::size_t group_in() const { return in_channels / groups; }
  [[nodiscard]] constexpr std::size_t group_out() const { return out_channels / groups; }
  /// Elements of the weight that belong to one output channel.
  [[nodiscard]] constexpr std::size_t taps() const { return kernel_h * kernel_w * group_in(); }
};

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
