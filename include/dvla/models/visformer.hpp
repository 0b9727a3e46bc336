// Visformer (Chen et al., ICCV 2021, arXiv 2104.12533): a convolutional stage and two of attention, BatchNorm throughout.
// Images and maps are channels-last, so a map (B, H, W, C) and its tokens (B, H * W, C) are the same memory.
#pragma once

#include <dvla/autodiff/attention.hpp>
#include <dvla/autodiff/convert.hpp>
#include <dvla/autodiff/reduction.hpp>
#include <dvla/nn/drop_path.hpp>
#include <dvla/nn/layers.hpp>

namespace dvla::inline DVLA_ABI {

/// The constants of a Visformer. Sides after the stem and each patch embedding are rounded down.
struct visformer_config {
  std::size_t image = 224;
  std::size_t stem_channels = 16, stem_kernel = 7, stem_stride = 2;
  std::array<std::size_t, 3> patch{4, 2, 2};
  std::size_t dim = 192;  // of stage 2; half of it in stage 1, twice in stage 3
  std::array<std::size_t, 3> depth{7, 4, 4};
  std::size_t heads = 3, groups = 8, mlp_ratio = 4;

  [[nodiscard]] constexpr std::size_t side(std::size_t stage) const {
    std::size_t s = (image + stem_kernel / 2 * 2 - stem_kernel) / stem_stride + 1;
    for (std::size_t i = 0; i <= stage; ++i) s /= patch[i];
    return s;
  }
  [[nodiscard]] constexpr std::size_t tokens(std::size_t stage) const { return side(stage) * side(stage); }
  [[nodiscard]] constexpr std::size_t channels(std::size_t stage) const { return stage == 0 ? dim / 2 : stage == 1 ? dim : 2 * dim; }
  /// The width of the pooled feature.
  [[nodiscard]] constexpr std::size_t features() const { return channels(2); }
  [[nodiscard]] constexpr std::size_t blocks() const { return depth[0] + depth[1] + depth[2]; }
};

/// Visformer-Tiny as published; 9,961,008 parameters with a head of 64 classes.
inline constexpr visformer_config visformer_tiny_224{};
/// The same at 84 x 84: maps of 10, 5 and 2.
inline constexpr visformer_config visformer_tiny_84{.image = 84};
/// For 32 x 32 images: a 3x3 stem without stride, maps of 16, 8 and 4, a third of the width, fewer blocks.
inline constexpr visformer_config visformer_small_32{
    .image = 32, .stem_channels = 16, .stem_kernel = 3, .stem_stride = 1, .patch = {2, 2, 2}, .dim = 64, .depth = {4, 2, 2}, .heads = 2, .groups = 4};

namespace models {

/// Named "bn" inside, as in published checkpoints.
template <std::size_t Channels, class T>
struct wrapped_norm {
  nn::batch_norm<Channels, T> bn;
  static constexpr auto members = fields("bn", &wrapped_norm::bn);
  auto operator()(auto const& x) const { return bn(x); }
  /// For the map behind it to apply.
  auto before_map(auto const& x) const { return bn.before_map(x); }
};

/// Patches to tokens: a convolution whose stride is its kernel, BatchNorm, a learned position map (kept by the model).
template <std::size_t In, std::size_t Out, std::size_t Patch, class T>
struct patch_embedding {
  nn::conv2d_bias<In, Out, Patch, convolution_options{.stride = Patch}, T> proj;
  wrapped_norm<Out, T> norm;
  static constexpr auto members = fields("proj", &patch_embedding::proj, "norm", &patch_embedding::norm);
  auto operator()(auto const& x) const { return norm(proj(x)); }
  /// As tokens (B, N, Out), with the map (N, Out) added.
  template <class P>
  auto operator()(auto const& x, P const& positions) const {
    using S = typename P::shape_type;
    auto const map = proj(x);
    auto const tokens = reshape(map, shape<dyn, S::statics[0], S::statics[1]>(map.shape()[0]));
    return norm.bn.followed_by([&](auto const& y) { return y + positions; }, tokens);
  }
};

/// The convolutional block of stage 1: x + drop_path(conv3(gelu(conv2(gelu(conv1(norm(x))))))) over maps (B, H, W, C).
template <std::size_t Channels, std::size_t Groups, class T>
struct convolution_mlp {
  static constexpr std::size_t hidden = 2 * Channels;
  nn::pointwise<Channels, hidden, T> conv1;
  nn::conv2d<hidden, hidden, 3, convolution_options{.padding = 1, .groups = Groups}, T> conv2;
  nn::pointwise<hidden, Channels, T> conv3;
  static constexpr auto members =
      fields("conv1", &convolution_mlp::conv1, "conv2", &convolution_mlp::conv2, "conv3", &convolution_mlp::conv3);
  auto operator()(auto const& x) const { return conv3(hidden_map(x)); }
  /// The last map is completed by an epilogue.
  auto operator()(auto const& x, auto const& epilogue) const { return conv3(hidden_map(x), epilogue); }

 private:
  auto hidden_map(auto const& x) const { return conv2.activated(conv1(x, gelu(accumulator))); }
};

template <std::size_t Channels, std::size_t Groups, class T>
struct convolution_block {
  wrapped_norm<Channels, T> norm2;
  convolution_mlp<Channels, Groups, T> mlp;
  static constexpr auto members = fields("norm2", &convolution_block::norm2, "mlp", &convolution_block::mlp);
  double drop_path = 0;
  auto operator()(auto const& x) const {
    return nn::residual(x, drop_path, [&](auto const& epilogue) { return mlp(norm2.before_map(x), epilogue); });
  }
};

/// Self-attention over tokens (B, N, C); channels of the projection are ordered (q | k | v, head, head_dim).
template <std::size_t Channels, std::size_t Heads, class T>
struct self_attention_layer {
  static_assert(Channels % Heads == 0, "self-attention: the channels must be divisible by the heads");
  static constexpr std::size_t head_dim = Channels / Heads;
  nn::pointwise<Channels, 3 * Channels, T> qkv;
  nn::pointwise<Channels, Channels, T> proj;
  static constexpr auto members = fields("qkv", &self_attention_layer::qkv, "proj", &self_attention_layer::proj);

  auto operator()(auto const& x) const { return proj(attend(x)); }
  /// The output projection is completed by an epilogue.
  auto operator()(auto const& x, auto const& epilogue) const { return proj(attend(x), epilogue); }

 private:
  /// What the heads give, side by side.
  auto attend(auto const& x) const {
    using S = typename std::remove_cvref_t<decltype(x)>::shape_type;
    auto const packed = reshape(qkv(x), shape<dyn, S::statics[1], 3, Heads, head_dim>(x.shape()[0], x.shape()[1], 3, Heads, head_dim));
    auto const attended = self_attention(packed, 1 / std::sqrt(static_cast<double>(head_dim)));
    return reshape(attended, shape<dyn, S::statics[1], Channels>(x.shape()[0], x.shape()[1], Channels));
  }
};

template <std::size_t Channels, std::size_t Ratio, class T>
struct token_mlp {
  nn::pointwise<Channels, Ratio * Channels, T> conv1;
  nn::pointwise<Ratio * Channels, Channels, T> conv3;
  static constexpr auto members = fields("conv1", &token_mlp::conv1, "conv3", &token_mlp::conv3);
  auto operator()(auto const& x) const { return conv3(conv1(x, gelu(accumulator))); }
  /// The last map is completed by an epilogue.
  auto operator()(auto const& x, auto const& epilogue) const { return conv3(conv1(x, gelu(accumulator)), epilogue); }
};

/// The transformer block of stages 2 and 3 over tokens (B, N, C), any N.
template <std::size_t Channels, std::size_t Heads, std::size_t Ratio, class T>
struct transformer_block {
  wrapped_norm<Channels, T> norm1;
  self_attention_layer<Channels, Heads, T> attn;
  wrapped_norm<Channels, T> norm2;
  token_mlp<Channels, Ratio, T> mlp;
  static constexpr auto members = fields("norm1", &transformer_block::norm1, "attn", &transformer_block::attn, "norm2",
                                         &transformer_block::norm2, "mlp", &transformer_block::mlp);
  double drop_path = 0;
  auto operator()(auto const& x) const {
    auto const attended = nn::residual(x, drop_path, [&](auto const& epilogue) { return attn(norm1.before_map(x), epilogue); });
    return nn::residual(attended, drop_path, [&](auto const& epilogue) { return mlp(norm2.before_map(attended), epilogue); });
  }
};

/// Convolution, BatchNorm, ReLU.
template <std::size_t Out, std::size_t Kernel, std::size_t Stride, class T>
struct visformer_stem {
  nn::conv2d<3, Out, Kernel, convolution_options{.stride = Stride, .padding = Kernel / 2}, T> convolution;
  wrapped_norm<Out, T> norm;
  static constexpr auto members = fields("0", &visformer_stem::convolution, "1", &visformer_stem::norm);
  auto operator()(auto const& x) const { return norm.bn.rectified(convolution(x)); }
};

}  // namespace models

/// The backbone and its classification head. Parameter names are those of published checkpoints.
template <visformer_config Config, class T = float>
struct visformer {
  static constexpr visformer_config config = Config;
  static constexpr std::size_t c1 = Config.channels(0), c2 = Config.channels(1), c3 = Config.channels(2);
  static constexpr std::size_t feature_width = c3;
  using scalar = T;
  using block2 = models::transformer_block<c2, Config.heads, Config.mlp_ratio, T>;
  using block3 = models::transformer_block<c3, Config.heads, Config.mlp_ratio, T>;

  parameter<shape<Config.tokens(0), c1>, T, archive_map<Config.side(0), Config.side(0)>> pos_embed1;
  parameter<shape<Config.tokens(1), c2>, T, archive_map<Config.side(1), Config.side(1)>> pos_embed2;
  parameter<shape<Config.tokens(2), c3>, T, archive_map<Config.side(2), Config.side(2)>> pos_embed3;
  models::visformer_stem<Config.stem_channels, Config.stem_kernel, Config.stem_stride, T> stem;
  models::patch_embedding<Config.stem_channels, c1, Config.patch[0], T> patch_embed1;
  std::array<models::convolution_block<c1, Config.groups, T>, Config.depth[0]> stage1;
  models::patch_embedding<c1, c2, Config.patch[1], T> patch_embed2;
  std::array<block2, Config.depth[1]> stage2;
  models::patch_embedding<c2, c3, Config.patch[2], T> patch_embed3;
  std::array<block3, Config.depth[2]> stage3;
  models::wrapped_norm<c3, T> norm;
  nn::linear<c3, dyn, T> head;
  static constexpr auto members =
      fields("pos_embed1", &visformer::pos_embed1, "pos_embed2", &visformer::pos_embed2, "pos_embed3", &visformer::pos_embed3, "stem",
             &visformer::stem, "patch_embed1", &visformer::patch_embed1, "stage1", &visformer::stage1, "patch_embed2",
             &visformer::patch_embed2, "stage2", &visformer::stage2, "patch_embed3", &visformer::patch_embed3, "stage3", &visformer::stage3,
             "norm", &visformer::norm, "head", &visformer::head);

  /// A model whose head has this many classes.
  explicit visformer(std::size_t classes) : head(classes) {}

  void initialise(initialiser& init) {
    init.normal(pos_embed1, 0.02);
    init.normal(pos_embed2, 0.02);
    init.normal(pos_embed3, 0.02);
  }
  /// The head as published, where a linear layer by itself would start uniform.
  void finish_initialisation(initialiser& init) {
    init.normal(head.weight, 0.02);
    init.constant(head.bias, 0);
  }

  /// Drop-path rates rise linearly over the blocks, from 0 to `last`.
  void drop_path(double last) {
    std::size_t index = 0;
    auto const set = [&](auto& stage) {
      for (auto& block : stage) block.drop_path = Config.blocks() < 2 ? 0 : last * static_cast<double>(index++) / (Config.blocks() - 1.0);
    };
    set(stage1), set(stage2), set(stage3);
  }

  /// Images (B, S, S, 3) to the tokens that leave stage 1, (B, N1, C1).
  auto first_stage(auto const& images) const {
    auto const x = patch_embed1(stem(as_activations(images)), pos_embed1);
    auto map = as_map<0>(x);
    for (auto const& block : stage1) map = block(map);
    return reshape(map, x.shape());
  }

  /// Tokens of stage 1 to those that enter stage 2, (B, N2, C2).
  auto embed2(auto const& x) const { return patch_embed2(as_map<0>(x), pos_embed2); }
  /// Tokens of stage 2 to those that enter stage 3, (B, N3, C3).
  auto embed3(auto const& x) const { return patch_embed3(as_map<1>(x), pos_embed3); }
  /// Tokens that leave stage 3 to the feature (B, C3): BatchNorm, mean over the tokens.
  auto pool(auto const& x) const { return mean<1>(norm(x)); }

  /// Images (B, S, S, 3), normalised, to features (B, C3).
  auto features(auto const& images) const {
    auto x = embed2(first_stage(images));
    for (auto const& block : stage2) x = block(x);
    auto y = embed3(x);
    for (auto const& block : stage3) y = block(y);
    return pool(y);
  }

  /// Images to logits (B, classes).
  auto operator()(auto const& images) const { return evaluate(head(features(images))); }

 private:
  template <std::size_t Stage, class X>
  auto as_map(X const& x) const {
    constexpr std::size_t side = Config.side(Stage);
    return reshape(x, shape<dyn, side, side, Config.channels(Stage)>(x.shape()[0]));
  }
};

}  // namespace dvla::inline DVLA_ABI
