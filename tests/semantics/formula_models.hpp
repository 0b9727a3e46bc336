// Text models whose weights are a formula of their names (fixtures/make_text_vectors.py).
#pragma once

#include <cmath>
#include <string_view>
#include <vector>

#include <dvla/models/bert_text.hpp>
#include <dvla/models/clip_text.hpp>

#include "golden_parity/named_sequence.hpp"

/// A tower of odd sizes for the vocabulary of the first 2,000 merges.
inline dvla::text_transformer_config small_clip_config() {
  return {.vocabulary = 2514,
          .positions = 77,
          .width = 60,
          .layers = 3,
          .heads = 5,
          .hidden = 150,
          .projection = 37,
          .activation = dvla::text_activation::quick_gelu};
}

/// A BERT of odd sizes for a vocabulary of that many tokens.
inline dvla::text_transformer_config small_bert_config(std::size_t vocabulary) {
  return {.vocabulary = vocabulary, .positions = 40, .width = 36, .layers = 2, .heads = 3, .hidden = 50, .eps = 1e-12};
}

/// Sets every parameter by its name.
template <class T>
void fill_by_formula(dvla::parameters<T>& weights) {
  for (auto const& e : weights.entries()) {
    std::string_view const name = e.name;
    double offset = 0, scale = 0.1;
    if (name.ends_with("token_embedding.weight") || name.ends_with("word_embeddings.weight")) scale = 0.5;
    else if (e.layout.rank == 1 && name.ends_with("weight")) offset = 1, scale = 0.2;
    else if (e.layout.rank == 2 && !name.ends_with("_embedding.weight") && !name.ends_with("_embeddings.weight"))
      scale = std::sqrt(3.0 / static_cast<double>(e.layout.extents[1]));
    parity::named_sequence const sequence(e.name);
    std::vector<T> data(e.count);
    for (std::size_t i = 0; i < e.count; ++i) data[i] = static_cast<T>(static_cast<float>(offset + scale * sequence.s(i)));
    weights.write(e, data);
  }
}
