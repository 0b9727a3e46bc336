// Inputs of the tokenizers: a text alone, or behind a vocabulary that is as little trusted.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fuzz_target.hpp"
#include "semantics/tokenizer_cases.hpp"

namespace dvla_fuzz {

/// An input that begins with byte 1 has the lines of a vocabulary up to the first byte 0, and then the text.
struct given_lines {
  bool present = false;
  std::vector<std::string> lines{};
  std::string_view text;

  explicit given_lines(std::string_view bytes) : text(bytes) {
    if (!bytes.starts_with('\1')) return;
    present = true;
    auto const end = std::min(bytes.find('\0'), bytes.size());
    lines.emplace_back();
    for (char const c : bytes.substr(1, end - 1)) {
      if (c == '\n') lines.emplace_back();
      else lines.back() += c;
    }
    text = bytes.substr(std::min(end + 1, bytes.size()));
  }
};

/// The awkward texts of the tokenizers' tests, and one with a vocabulary of these lines.
inline std::vector<std::string> tokenizer_seeds(std::string const& lines, std::string const& text) {
  auto out = tokenizer_cases().texts();
  out.push_back('\1' + lines + '\0' + text);
  return out;
}

/// Ids that a tokenizer gives exist.
template <class Tokenizer>
void try_text(Tokenizer const& tokenizer, std::string_view text) {
  for (auto const id : tokenizer.ids(text)) demand(id < tokenizer.size(), "an id is one of the vocabulary");
}

}  // namespace dvla_fuzz
