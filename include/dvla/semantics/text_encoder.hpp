// What every text encoder offers: texts in, vectors out.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/semantics/plain_text.hpp>

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

namespace detail {

/// Throws unless these are rows of finite numbers, one for each text. `who` begins the sentence.
inline void expect_rows(std::span<float const> rows, std::span<std::string const> texts, std::size_t width, std::string_view who) {
  expect(rows.size() == texts.size() * width, who, ": the encoder gave ", rows.size(), " numbers for ", texts.size(),
         " texts of width ", width);
  auto const bad = std::find_if_not(rows.begin(), rows.end(), [](float x) { return std::isfinite(x); });
  if (bad == rows.end()) return;
  auto const& text = texts[static_cast<std::size_t>(bad - rows.begin()) / width];
  fail(who, ": the encoder gave NaN or infinity for the text '", dvla::excerpt(text),
       "'; its weights are damaged, copy its files again");
}

}  // namespace detail
}  // namespace dvla::inline DVLA_ABI
