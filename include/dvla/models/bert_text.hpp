// BERT (Devlin et al., arXiv 1810.04805) as an encoder of texts: token, position and segment embeddings, post-norm blocks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <dvla/models/text_transformer.hpp>

namespace dvla::inline DVLA_ABI {

namespace models {

/// norm(y + mlp(y)), y = norm(x + attention(x)); names are those of Hugging Face's files.
template <class T>
struct bert_block {
  nn::linear<dyn, dyn, T> query, key, value, attended;
  nn::layer_norm<dyn, T> attention_norm;
  nn::linear<dyn, dyn, T> up, down;
  nn::layer_norm<dyn, T> output_norm;
  static constexpr auto members =
      fields("attention.self.query", &bert_block::query, "attention.self.key", &bert_block::key, "attention.self.value", &bert_block::value,
             "attention.output.dense", &bert_block::attended, "attention.output.LayerNorm", &bert_block::attention_norm,
             "intermediate.dense", &bert_block::up, "output.dense", &bert_block::down, "output.LayerNorm", &bert_block::output_norm);

  explicit bert_block(text_transformer_config const& c)
      : query(c.width, c.width),
        key(c.width, c.width),
        value(c.width, c.width),
        attended(c.width, c.width),
        attention_norm(c.width, c.eps),
        up(c.width, c.hidden),
        down(c.hidden, c.width),
        output_norm(c.width, c.eps) {}

  auto operator()(auto const& x, text_transformer_config const& c) const {
    auto const y = attention_norm(attended(attend_heads<attention_mask::none>(x, query, key, value, c.heads)) + x);
    return output_norm(feed_forward(y, up, down, c.activation) + y);
  }
};

}  // namespace models

/// Ids in, vectors of tokens out. All sequences of a call have one length: texts of other lengths go in calls of their own, so
/// nothing is padded or masked.
template <class T = float>
struct bert_text {
  using scalar = T;
  parameter<shape<dyn, dyn>, T> words, positions, segments;
  nn::layer_norm<dyn, T> norm;
  std::vector<models::bert_block<T>> layers;
  static constexpr auto members = fields("embeddings.word_embeddings.weight", &bert_text::words, "embeddings.position_embeddings.weight",
                                         &bert_text::positions, "embeddings.token_type_embeddings.weight", &bert_text::segments,
                                         "embeddings.LayerNorm", &bert_text::norm, "encoder.layer", &bert_text::layers);

  /// Throws for sizes that make no model; `projection` is not used.
  explicit bert_text(text_transformer_config const& c, std::size_t segment_kinds = 2)
      : words(shape<dyn, dyn>(c.vocabulary, c.width)),
        positions(shape<dyn, dyn>(c.positions, c.width)),
        segments(shape<dyn, dyn>(segment_kinds, c.width)),
        norm(c.width, c.eps),
        config_(c) {
    models::check(c, "bert_text");
    for (std::size_t i = 0; i < c.layers; ++i) layers.emplace_back(c);
  }

  [[nodiscard]] text_transformer_config const& config() const { return config_; }

  void initialise(initialiser& init) {
    for (auto* table : {&words, &positions, &segments}) init.normal(*table, 0.02);
  }

  /// ids (B * N), sequences one after the other, all of the first segment: (B, N, width).
  template <class Context>
  auto operator()(Context& context, std::span<std::uint32_t const> ids, std::size_t length) const {
    std::size_t const count = models::sequence_count(ids.size(), length, config_.positions, "bert_text");
    shape<dyn, dyn, dyn> const extents(count, length, config_.width);
    auto const places = models::first_positions(context, positions, length);
    std::uint32_t const first = 0;
    auto const segment = reshape(embedding(context, segments, std::span(&first, 1)), shape<dyn>(config_.width));
    auto x = norm(reshape(embedding(context, words, ids), extents) + places + segment);
    for (auto const& layer : layers) x = layer(x, config_);
    return x;
  }

  /// The mean of each sequence's vectors, all its tokens counted: (B, width).
  template <class Context>
  auto mean_pooled(Context& context, std::span<std::uint32_t const> ids, std::size_t length) const {
    return mean<1>((*this)(context, ids, length));
  }
  /// The vector of each sequence's first token: (B, width).
  template <class Context>
  auto first_pooled(Context& context, std::span<std::uint32_t const> ids, std::size_t length) const {
    auto const x = (*this)(context, ids, length);
    return reshape(slice<1, 1>(x, 0), shape<dyn, dyn>(x.shape()[0], config_.width));
  }

 private:
  text_transformer_config config_;
};

}  // namespace dvla::inline DVLA_ABI
