// What every text encoder offers: texts in, vectors out.
#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// A frozen encoder of texts (UTF-8). `encode` gives texts.size() x width() numbers, a row of unit length for each text in order,
/// the same row for the same text whatever stands beside it; it throws for a text it cannot encode. `identity` tells everything that
/// the vectors depend on (kind, weights, tokenizer, pooling) in one line: equal identities mean equal vectors, so it serves as a key
/// of caches and as provenance.
template <class E>
concept text_encoder = requires(E const& encoder, std::span<std::string const> texts) {
  { encoder.width() } -> std::convertible_to<std::size_t>;
  { encoder.identity() } -> std::convertible_to<std::string>;
  { encoder.encode(texts) } -> std::same_as<std::vector<float>>;
};

}  // namespace dvla::inline DVLA_ABI
