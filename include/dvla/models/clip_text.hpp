// CLIP's text tower (Radford et al., arXiv 2103.00020): pre-norm blocks under a causal mask, the vector of the last token projected.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <dvla/models/text_transformer.hpp>

namespace dvla::inline DVLA_ABI {

/// The text tower of ViT-B/16 and ViT-B/32 as published: 63,428,096 parameters.
inline constexpr text_transformer_config clip_vit_b_text{.vocabulary = 49408,
                                                         .positions = 77,
                                                         .width = 512,
                                                         .layers = 12,
                                                         .heads = 8,
                                                         .hidden = 2048,
                                                         .projection = 512,
                                                         .activation = text_activation::quick_gelu};

namespace models {

/// y + mlp(norm(y)), y = x + attention(norm(x)); names are those of Hugging Face's files.
template <class T>
struct clip_block {
  nn::layer_norm<dyn, T> norm1;
  nn::linear<dyn, dyn, T> query, key, value, attended;
  nn::layer_norm<dyn, T> norm2;
  nn::linear<dyn, dyn, T> up, down;
  static constexpr auto members =
      fields("layer_norm1", &clip_block::norm1, "self_attn.q_proj", &clip_block::query, "self_attn.k_proj", &clip_block::key,
             "self_attn.v_proj", &clip_block::value, "self_attn.out_proj", &clip_block::attended, "layer_norm2", &clip_block::norm2,
             "mlp.fc1", &clip_block::up, "mlp.fc2", &clip_block::down);

  explicit clip_block(text_transformer_config const& c)
      : norm1(c.width, c.eps),
        query(c.width, c.width),
        key(c.width, c.width),
        value(c.width, c.width),
        attended(c.width, c.width),
        norm2(c.width, c.eps),
        up(c.width, c.hidden),
        down(c.hidden, c.width) {}

  auto operator()(auto const& x, text_transformer_config const& c) const {
    auto const y = evaluate(attended(attend_heads<attention_mask::causal>(norm1(x), query, key, value, c.heads)) + x);
    return evaluate(feed_forward(norm2(y), up, down, c.activation) + y);
  }
};

}  // namespace models

/// Ids in, a vector a text out. All sequences of a call have one length and end with the mark of the end: no token sees what is
/// behind it, so texts need not be padded to the model's 77 tokens.
template <class T = float>
struct clip_text {
  using scalar = T;
  parameter<shape<dyn, dyn>, T> tokens, positions;
  std::vector<models::clip_block<T>> layers;
  nn::layer_norm<dyn, T> norm;
  parameter<shape<dyn, dyn>, T> projection;
  static constexpr auto members =
      fields("text_model.embeddings.token_embedding.weight", &clip_text::tokens, "text_model.embeddings.position_embedding.weight",
             &clip_text::positions, "text_model.encoder.layers", &clip_text::layers, "text_model.final_layer_norm", &clip_text::norm,
             "text_projection.weight", &clip_text::projection);

  /// Throws for sizes that make no model.
  explicit clip_text(text_transformer_config const& c)
      : tokens(shape<dyn, dyn>(c.vocabulary, c.width)),
        positions(shape<dyn, dyn>(c.positions, c.width)),
        norm(c.width, c.eps),
        projection(shape<dyn, dyn>(c.projection, c.width)),
        config_(c) {
    models::check(c, "clip_text");
    expect(c.projection > 0, "clip_text: a projection to a width of 0; give the width of CLIP's joint space");
    for (std::size_t i = 0; i < c.layers; ++i) layers.emplace_back(c);
  }

  [[nodiscard]] text_transformer_config const& config() const { return config_; }

  void initialise(initialiser& init) {
    init.normal(tokens, 0.02);
    init.normal(positions, 0.01);
    init.normal(projection, 1 / std::sqrt(static_cast<double>(config_.width)));
  }

  /// ids (B * N), sequences one after the other: (B, N, width), before the last norm.
  template <class Context>
  auto operator()(Context& context, std::span<std::uint32_t const> ids, std::size_t length) const {
    std::size_t const count = models::sequence_count(ids.size(), length, config_.positions, "clip_text");
    auto const embedded = reshape(embedding(context, tokens, ids), shape<dyn, dyn, dyn>(count, length, config_.width));
    auto x = evaluate(embedded + models::first_positions(context, positions, length));
    for (auto const& layer : layers) x = layer(x, config_);
    return x;
  }

  /// The last token's vector of each sequence, normed and projected: (B, projection), not of unit length.
  template <class Context>
  auto pooled(Context& context, std::span<std::uint32_t const> ids, std::size_t length) const {
    auto const x = (*this)(context, ids, length);
    auto const last = reshape(slice<1, 1>(x, length - 1), shape<dyn, dyn>(x.shape()[0], config_.width));
    return linear_map(norm(last), projection);
  }

 private:
  text_transformer_config config_;
};

}  // namespace dvla::inline DVLA_ABI
