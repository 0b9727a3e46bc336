// CLIP's tokenizer (Radford et al., arXiv 2103.00020): cleaned text, split into words, cut by byte-pair merges. Ids are those of OpenAI's
// SimpleTokenizer or of Hugging Face's CLIPTokenizerFast, which clean texts differently.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dvla/semantics/tokenizer/byte_pair_merges.hpp>
#include <dvla/semantics/tokenizer/text_cleaning.hpp>

namespace dvla::inline DVLA_ABI {

/// Whose cleaning of texts.
enum class clip_cleaning { openai, hugging_face };

struct clip_tokenizer_options {
  clip_cleaning cleaning = clip_cleaning::openai;
  bool allow_special = false;  ///< a literal <|startoftext|> or <|endoftext|> is that mark; otherwise plain characters
};

/// Text to ids. Takes any bytes (what is not UTF-8 becomes U+FFFD) in time about linear in their number. Characters are those of Unicode
/// 14.
class clip_tokenizer {
 public:
  /// The merges of the published vocabulary: 49,152 symbols without the 512 of bytes and the two marks, as its code counts them.
  static constexpr std::size_t published_merges = 49152 - 256 - 2;

  /// From the lines of merges.txt or bpe_simple_vocab_16e6.txt without the first, which tells a version; lines behind the published
  /// number are not used. Throws what byte_pair_merges throws.
  explicit clip_tokenizer(std::span<std::string const> merges, clip_tokenizer_options options = {}, std::string const& source = "merges")
      : options_(options), merges_(merges.first(std::min(merges.size(), published_merges)), source) {}

  /// Number of ids, the two marks included.
  [[nodiscard]] std::size_t size() const { return merges_.size() + 2; }
  /// The ids that frame a text.
  [[nodiscard]] std::uint32_t begin_id() const { return static_cast<std::uint32_t>(merges_.size()); }
  [[nodiscard]] std::uint32_t end_id() const { return static_cast<std::uint32_t>(merges_.size() + 1); }

  /// A text's ids, without the frame, of any length.
  [[nodiscard]] std::vector<std::uint32_t> ids(std::string_view text) const {
    bool const openai = options_.cleaning == clip_cleaning::openai;
    std::u32string const clean = openai ? text_cleaning::openai(text) : text_cleaning::hugging_face(text);
    std::vector<std::uint32_t> out;
    std::u32string_view rest = clean;
    while (!rest.empty()) {
      if (auto const [length, id] = mark_at(rest); length > 0) {
        out.push_back(id);
        rest.remove_prefix(length);
        continue;
      }
      std::size_t const length = word_at(rest);
      if (!unicode::is_white_space(rest.front())) merges_.append(out, unicode::encode(rest.substr(0, length)));
      rest.remove_prefix(length);
    }
    return out;
  }

 private:
  [[nodiscard]] std::pair<std::size_t, std::uint32_t> mark_at(std::u32string_view text) const {
    constexpr std::u32string_view begin = U"<|startoftext|>", end = U"<|endoftext|>";
    if (!options_.allow_special || text.front() != '<') return {0, 0};
    if (text.starts_with(begin)) return {begin.size(), begin_id()};
    if (text.starts_with(end)) return {end.size(), end_id()};
    return {0, 0};
  }

  /// The length of what the text begins with: a contraction's ending, letters, one number, other characters, or one white space.
  [[nodiscard]] std::size_t word_at(std::u32string_view text) const {
    if (std::size_t const ending = contraction(text); ending > 0) return ending;
    std::size_t i = 1;
    if (unicode::is_letter(text.front())) {
      while (i < text.size() && unicode::is_letter(text[i])) ++i;
    } else if (!unicode::is_number(text.front()) && !unicode::is_white_space(text.front())) {
      while (i < text.size() && !unicode::is_letter(text[i]) && !unicode::is_number(text[i]) && !unicode::is_white_space(text[i])) ++i;
    }
    return i;
  }

  /// 's, 't, 're, 've, 'm, 'll or 'd. OpenAI's pattern ignores case and so takes a long s (U+017F) for an s.
  [[nodiscard]] std::size_t contraction(std::u32string_view text) const {
    if (text.front() != '\'' || text.size() < 2) return 0;
    if (text[1] == 0x17F && options_.cleaning == clip_cleaning::openai) return 2;
    for (std::u32string_view const ending : {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"})
      if (text.starts_with(ending)) return ending.size();
    return 0;
  }

  clip_tokenizer_options options_;
  byte_pair_merges merges_;
};

}  // namespace dvla::inline DVLA_ABI
