// Encoders of few lines for the tests of what stands on encoders.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <dvla/semantics/plain_text.hpp>
#include <dvla/semantics/text_encoder.hpp>

/// Words with meanings in a space of four: fruit, vehicle, animal, anything. A text is the unit mean of its known words.
struct meaning_encoder {
  std::map<std::string, std::vector<float>> words{
      {"apple", {1, 0, 0, .2f}},   {"skin", {.8f, 0, .4f, 0}}, {"stem", {.9f, 0, 0, .1f}},       {"flesh", {.8f, 0, .3f, 0}},
      {"seeds", {.9f, 0, .1f, 0}}, {"truck", {0, 1, 0, .2f}},  {"wheels", {0, 1, 0, 0}},         {"bear", {0, 0, 1, .2f}},
      {"fur", {.1f, 0, 1, 0}},     {"claws", {0, 0, 1, 0}},    {"ordinary", {.2f, .2f, .2f, 1}}, {"everyday", {.2f, .2f, .2f, 1}}};

  [[nodiscard]] std::size_t width() const { return 4; }
  [[nodiscard]] std::string identity() const { return "toy meanings"; }
  [[nodiscard]] std::vector<float> encode(std::span<std::string const> texts) const {
    std::vector<float> out;
    for (auto const& text : texts) {
      std::vector<float> sum(4, 1e-6f);
      for (auto const& word : dvla::words_of(dvla::lower_case(text)))
        if (auto const at = words.find(word); at != words.end())
          for (std::size_t i = 0; i < 4; ++i) sum[i] += at->second[i];
      float squares = 0;
      for (float const x : sum) squares += x * x;
      for (float const x : sum) out.push_back(x / std::sqrt(squares));
    }
    return out;
  }
};
static_assert(dvla::text_encoder<meaning_encoder>);

/// A damaged encoder: NaN for a text that says so.
struct broken_encoder {
  [[nodiscard]] std::size_t width() const { return 2; }
  [[nodiscard]] std::string identity() const { return "toy damage"; }
  [[nodiscard]] std::vector<float> encode(std::span<std::string const> texts) const {
    std::vector<float> out;
    for (auto const& text : texts) out.insert(out.end(), {1, text.find("broken") == std::string::npos ? 0 : std::nanf("")});
    return out;
  }
};
static_assert(dvla::text_encoder<broken_encoder>);

/// The length of a text and its blanks: enough to know which text was encoded.
struct counting_encoder {
  [[nodiscard]] std::size_t width() const { return 2; }
  [[nodiscard]] std::string identity() const { return "toy counts"; }
  [[nodiscard]] std::vector<float> encode(std::span<std::string const> texts) const {
    std::vector<float> out;
    for (auto const& text : texts) {
      out.push_back(static_cast<float>(text.size()));
      out.push_back(static_cast<float>(std::count(text.begin(), text.end(), ' ')));
    }
    return out;
  }
};
static_assert(dvla::text_encoder<counting_encoder>);
