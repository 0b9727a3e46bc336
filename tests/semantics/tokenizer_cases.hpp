// The awkward texts of fixtures/tokenizer_cases.safetensors with the ids of the reference tokenizers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <dvla/io/tensor_archive.hpp>

/// tests/semantics/fixtures, found from this file's own path.
inline std::filesystem::path fixture_folder() { return std::filesystem::path(__FILE__).parent_path() / "fixtures"; }

class tokenizer_cases {
 public:
  tokenizer_cases() : archive_(dvla::open_tensors(fixture_folder() / "tokenizer_cases.safetensors")) {}

  [[nodiscard]] std::vector<std::string> texts() const {
    auto const bytes = dvla::read_as<std::uint8_t>(archive_.find("texts"));
    std::vector<std::string> out;
    std::size_t begin = 0;
    for (auto const end : dvla::read_as<std::uint32_t>(archive_.find("texts.ends"))) {
      out.emplace_back(bytes.begin() + static_cast<std::ptrdiff_t>(begin), bytes.begin() + static_cast<std::ptrdiff_t>(end));
      begin = end;
    }
    return out;
  }

  /// The ids of every text by one reference.
  [[nodiscard]] std::vector<std::vector<std::uint32_t>> ids(std::string const& reference) const {
    auto const all = dvla::read_as<std::uint32_t>(archive_.find(reference));
    std::vector<std::vector<std::uint32_t>> out;
    std::size_t begin = 0;
    for (auto const end : dvla::read_as<std::uint32_t>(archive_.find(reference + ".ends"))) {
      out.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(begin), all.begin() + static_cast<std::ptrdiff_t>(end));
      begin = end;
    }
    return out;
  }

  /// The lines of a small vocabulary or list of merges.
  [[nodiscard]] std::vector<std::string> lines(std::string const& name) const {
    std::vector<std::string> out(1);
    for (auto const byte : dvla::read_as<std::uint8_t>(archive_.find(name))) {
      if (byte == '\n') out.emplace_back();
      else out.back() += static_cast<char>(byte);
    }
    return out;
  }

 private:
  dvla::named_tensors archive_;
};

/// How many texts get other ids from a tokenizer than from the reference; the first are told by `tell(text, ids, expected)`.
template <class Tokenizer, class Tell>
std::size_t differing(Tokenizer const& tokenizer, tokenizer_cases const& cases, std::string const& reference, Tell const& tell) {
  auto const texts = cases.texts();
  auto const expected = cases.ids(reference);
  std::size_t count = 0;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    auto const ids = tokenizer.ids(texts[i]);
    if (ids != expected.at(i) && ++count <= 5) tell(texts[i], ids, expected[i]);
  }
  return count;
}
