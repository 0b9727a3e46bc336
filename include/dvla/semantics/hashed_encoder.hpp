// A text encoder without weights: words, word pairs and character n-grams hashed to random directions. It knows no
// meanings, but texts that share words or word stems come out similar, which is enough for demos, tests and baselines.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

/// Deterministic on every machine: hashes (FNV-1a 64, splitmix64) give the directions, and only IEEE arithmetic follows.
///
/// Features of a text, after ASCII lower-casing, with their weights: each word, 1 (function words 1/4); each pair of
/// neighbouring words, 1/2; the 3-, 4- and 5-grams of characters of each word between its marks < and >, 3/4 of the word's
/// weight as their joint length. A word is a run of ASCII letters and digits and of characters beyond ASCII. The weights
/// of a feature's occurrences add in squares, so frequent words count by the root of their frequency. Each feature is a
/// direction of +1 and -1; their weighted sum is scaled to unit length.
class hashed_encoder {
 public:
  static constexpr std::size_t dim = 512;

  [[nodiscard]] static std::size_t width() { return dim; }
  [[nodiscard]] static std::string identity() { return "hashed n-grams 1"; }

  /// Unit rows, one a text; see text_encoder. Throws for a text that holds no word.
  [[nodiscard]] std::vector<float> encode(std::span<std::string const> texts) const {
    std::vector<float> rows;
    rows.reserve(texts.size() * dim);
    for (auto const& text : texts) {
      auto const row = encode(std::string_view(text));
      rows.insert(rows.end(), row.begin(), row.end());
    }
    return rows;
  }

  /// The text (UTF-8) as a unit vector of `dim` numbers. Throws when the text holds no word.
  [[nodiscard]] std::vector<float> encode(std::string_view text) const {
    auto features = features_of(text);
    std::sort(features.begin(), features.end());
    std::vector<double> sum(dim);
    for (std::size_t i = 0; i < features.size();) {
      std::uint64_t const hash = features[i].first;
      double squares = 0;
      for (; i < features.size() && features[i].first == hash; ++i) squares += features[i].second;
      add_direction(sum, hash, std::sqrt(squares));
    }
    double squares = 0;
    for (double const x : sum) squares += x * x;
    double const scale = 1 / std::sqrt(squares);
    std::vector<float> unit(dim);
    for (std::size_t i = 0; i < dim; ++i) unit[i] = static_cast<float>(sum[i] * scale);
    return unit;
  }

 private:
  using weighted_hashes = std::vector<std::pair<std::uint64_t, double>>;  // hash and squared weight of each occurrence

  static weighted_hashes features_of(std::string_view text) {
    auto const words = words_of(text);
    expect(!words.empty(), "hashed_encoder: the text '", text, "' holds no word to encode; give at least one letter or digit");
    weighted_hashes features;
    for (std::size_t i = 0; i < words.size(); ++i) {
      double const weight = is_function_word(words[i]) ? 0.25 : 1.0;
      features.emplace_back(hash('w', words[i]), weight * weight);
      if (i > 0) features.emplace_back(hash('p', words[i - 1] + ' ' + words[i]), 0.25);
      add_character_grams(features, words[i], 0.75 * weight);
    }
    return features;
  }

  static std::vector<std::string> words_of(std::string_view text) {
    std::vector<std::string> words;
    bool inside = false;
    for (char const c : text) {
      bool const upper = c >= 'A' && c <= 'Z';
      bool const part = upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0x80;
      if (part && !inside) words.emplace_back();
      if (part) words.back() += upper ? static_cast<char>(c - 'A' + 'a') : c;
      inside = part;
    }
    return words;
  }

  static void add_character_grams(weighted_hashes& features, std::string const& word, double weight) {
    std::string const marked = '<' + word + '>';
    // Grams are cut where characters begin (a UTF-8 continuation byte is 10xxxxxx), so that none is split.
    std::vector<std::size_t> starts;
    for (std::size_t i = 0; i < marked.size(); ++i)
      if ((static_cast<unsigned char>(marked[i]) & 0xC0) != 0x80) starts.push_back(i);
    starts.push_back(marked.size());
    std::size_t const before = features.size(), characters = starts.size() - 1;
    for (std::size_t n = 3; n <= 5; ++n)
      for (std::size_t i = 0; i + n <= characters; ++i)
        features.emplace_back(hash('c', std::string_view(marked).substr(starts[i], starts[i + n] - starts[i])), 0);
    double const share = weight * weight / static_cast<double>(std::max<std::size_t>(features.size() - before, 1));
    for (std::size_t i = before; i < features.size(); ++i) features[i].second = share;
  }

  static bool is_function_word(std::string_view word) {
    static constexpr std::string_view words[] = {"a",    "an",  "and", "as",    "at",   "by",    "for", "from",
                                                 "has",  "in",  "is",  "it",    "its",  "of",    "on",  "or",
                                                 "that", "the", "to",  "which", "with", "whose", "are", "this"};
    return std::find(std::begin(words), std::end(words), word) != std::end(words);
  }

  static std::uint64_t hash(char kind, std::string_view text) {
    constexpr std::uint64_t prime = 0x100000001b3;
    std::uint64_t h = (0xcbf29ce484222325 ^ static_cast<unsigned char>(kind)) * prime;
    for (char const c : text) h = (h ^ static_cast<unsigned char>(c)) * prime;
    return h;
  }

  // 512 signs are the bits of eight outputs of splitmix64.
  static void add_direction(std::vector<double>& sum, std::uint64_t seed, double weight) {
    for (std::size_t word = 0; word < dim / 64; ++word) {
      std::uint64_t z = seed += 0x9E3779B97F4A7C15;
      z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
      z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
      z ^= z >> 31;
      for (std::size_t bit = 0; bit < 64; ++bit) sum[64 * word + bit] += ((z >> bit) & 1) != 0 ? weight : -weight;
    }
  }
};

}  // namespace dvla::inline DVLA_ABI
