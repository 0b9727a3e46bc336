// Conv-4, the embedding of the prototypical-network paper (Snell et al., arXiv 1703.05175): four blocks of 3x3 convolution,
// BatchNorm, ReLU and 2x2 max-pooling.
#pragma once

#include <dvla/autodiff/convert.hpp>
#include <dvla/autodiff/pooling.hpp>
#include <dvla/nn/layers.hpp>

namespace dvla::inline DVLA_ABI {

/// The constants of a Conv-4. Sides are halved four times, rounded down: 84 gives 5, 32 gives 2.
struct conv4_config {
  std::size_t image = 84, channels = 64;

  [[nodiscard]] constexpr std::size_t side() const { return image / 16; }
  /// The width of the flattened feature: 1600 at 84 x 84, 256 at 32 x 32.
  [[nodiscard]] constexpr std::size_t features() const { return side() * side() * channels; }
};

inline constexpr conv4_config conv4_84{};
inline constexpr conv4_config conv4_32{.image = 32};

namespace models {

/// Convolution with bias, BatchNorm, ReLU, max-pooling: (B, H, W, In) to (B, H / 2, W / 2, Out). Members are numbered as in a
/// sequence of layers.
template <std::size_t In, std::size_t Out, class T>
struct conv4_block {
  nn::conv2d_bias<In, Out, 3, convolution_options{.padding = 1}, T> convolution;
  nn::batch_norm<Out, T> norm;
  static constexpr auto members = fields("0", &conv4_block::convolution, "1", &conv4_block::norm);
  auto operator()(auto const& x) const { return max_pool2d<2>(relu(norm(convolution(x)))); }
};

}  // namespace models

/// The embedding and a classification head for pre-training.
template <conv4_config Config, class T = float>
struct conv4 {
  static_assert(Config.image >= 16, "conv4: images are halved four times; give a side of at least 16");
  static constexpr conv4_config config = Config;
  static constexpr std::size_t feature_width = Config.features();
  using scalar = T;

  models::conv4_block<3, Config.channels, T> block1;
  models::conv4_block<Config.channels, Config.channels, T> block2, block3, block4;
  nn::linear<feature_width, dyn, T> head;
  static constexpr auto members = fields("encoder.0", &conv4::block1, "encoder.1", &conv4::block2, "encoder.2", &conv4::block3,
                                         "encoder.3", &conv4::block4, "head", &conv4::head);

  /// A model whose head has this many classes.
  explicit conv4(std::size_t classes) : head(classes) {}

  /// Images (B, S, S, 3), normalised, to flattened features (B, F). The elements of a feature stand in the order (row, column,
  /// channel).
  auto features(auto const& images) const {
    auto const map = block4(block3(block2(block1(as_activations(images)))));
    return convert<T>(reshape(map, shape<dyn, feature_width>(images.shape()[0])));
  }

  /// Images to logits (B, classes).
  auto operator()(auto const& images) const { return evaluate(head(features(images))); }
};

}  // namespace dvla::inline DVLA_ABI
