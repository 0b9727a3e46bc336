// BERT's tokenizer (Devlin et al., arXiv 1810.04805) for vocabularies without case: words and punctuation, cut into the longest
// pieces that a vocabulary has. Ids are those of Hugging Face's BertTokenizerFast.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/semantics/tokenizer/unicode.hpp>

namespace dvla::inline DVLA_ABI {

/// What the reading of a text is to do beside the vocabulary.
struct wordpiece_options {
  bool lower_case = true;      ///< lower case and no accents
  bool allow_special = false;  ///< a literal "[SEP]" or other mark of the vocabulary is that mark; otherwise plain characters
};

/// Text to ids. Takes any bytes (what is not UTF-8 is left out) in time about linear in their number. Characters are those of Unicode 14.
class wordpiece_tokenizer {
 public:
  static constexpr std::size_t longest_word = 100;  // characters; a longer word is unknown

  /// The vocabulary in the order of its ids. Throws where one of [UNK], [CLS] and [SEP] is missing.
  explicit wordpiece_tokenizer(std::span<std::string const> vocabulary, wordpiece_options options = {},
                               std::string const& source = "wordpiece")
      : options_(options), count_(vocabulary.size()) {
    ids_.reserve(vocabulary.size());
    for (std::size_t i = 0; i < vocabulary.size(); ++i) {
      ids_.emplace(vocabulary[i], static_cast<std::uint32_t>(i));
      longest_piece_ = std::max(longest_piece_, vocabulary[i].size());
    }
    unknown_ = required("[UNK]", source);
    begin_ = required("[CLS]", source);
    end_ = required("[SEP]", source);
  }

  [[nodiscard]] std::size_t size() const { return count_; }
  /// The ids that frame a text.
  [[nodiscard]] std::uint32_t begin_id() const { return begin_; }
  [[nodiscard]] std::uint32_t end_id() const { return end_; }

  /// A text's ids, without the frame of [CLS] and [SEP], of any length.
  [[nodiscard]] std::vector<std::uint32_t> ids(std::string_view text) const {
    std::vector<std::uint32_t> out;
    while (options_.allow_special && !text.empty()) {
      auto const [at, mark] = next_mark(text);
      append_plain(out, text.substr(0, at));
      if (mark.empty()) return out;
      out.push_back(ids_.find(std::string(mark))->second);
      text.remove_prefix(at + mark.size());
    }
    append_plain(out, text);
    return out;
  }

 private:
  [[nodiscard]] std::uint32_t required(char const* mark, std::string const& source) const {
    auto const found = ids_.find(mark);
    expect(found != ids_.end(), source, ": the vocabulary has no ", mark, "; give the vocab.txt of a BERT-type model");
    return found->second;
  }

  /// Where the next mark of the vocabulary stands, and which it is; empty where there is none.
  [[nodiscard]] std::pair<std::size_t, std::string_view> next_mark(std::string_view text) const {
    static constexpr std::string_view marks[] = {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"};
    for (std::size_t at = text.find('['); at != std::string_view::npos; at = text.find('[', at + 1))
      for (auto const mark : marks)
        if (text.substr(at).starts_with(mark) && ids_.contains(std::string(mark))) return {at, mark};
    return {text.size(), {}};
  }

  void append_plain(std::vector<std::uint32_t>& out, std::string_view text) const {
    std::u32string word;
    auto const finish = [&] {
      if (!word.empty()) append_pieces(out, word);
      word.clear();
    };
    for (char32_t const c : cleaned(text)) {
      if (unicode::is_white_space(c)) {
        finish();
      } else if (is_punctuation(c)) {
        finish();
        word += c;
        finish();
      } else {
        word += c;
      }
    }
    finish();
  }

  /// Without what has no glyph, with spaces around ideographs, in lower case and without accents if asked for.
  [[nodiscard]] std::u32string cleaned(std::string_view text) const {
    std::u32string out;
    for (char32_t const c : unicode::decode(text)) {
      bool const space = c == '\t' || c == '\n' || c == '\r' || (unicode::is_white_space(c) && !is_hidden(c));
      if (space) out += U' ';
      else if (is_ideograph(c)) out += {U' ', c, U' '};
      else if (!is_hidden(c)) out += c;
    }
    if (!options_.lower_case) return out;
    std::u32string bare;
    for (char32_t const c : unicode::decomposed(out))
      if (c < 0x80 || !unicode::is_in(unicode::nonspacing_marks, c)) unicode::append_lower(bare, c);
    return bare;
  }

  static bool is_hidden(char32_t c) {
    if (c < 0x80) return c < 0x20 || c == 0x7F;
    return c == unicode::replacement || unicode::is_in(unicode::others, c);
  }

  static bool is_punctuation(char32_t c) {
    if (c < 0x80) return c > ' ' && c < 0x7F && !unicode::is_letter(c) && !unicode::is_number(c);
    return unicode::is_in(unicode::punctuation, c);
  }

  /// The blocks of the reference, which leaves U+2B820 to U+2B91F out.
  static bool is_ideograph(char32_t c) {
    static constexpr unicode::range blocks[] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},  {0x20000, 0x2A6DF},
                                                {0x2A700, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};
    return c >= 0x3400 && unicode::is_in(blocks, c);
  }

  /// The longest piece of the vocabulary first, then of the rest with "##" before it; the whole word is unknown where a part is.
  void append_pieces(std::vector<std::uint32_t>& out, std::u32string_view word) const {
    if (word.size() > longest_word) return out.push_back(unknown_);
    std::string text;
    std::vector<std::size_t> ends;  // of its characters
    for (char32_t const c : word) {
      unicode::append(text, c);
      ends.push_back(text.size());
    }
    std::size_t const before = out.size();
    for (std::size_t first = 0, begin = 0; first < ends.size();) {
      std::size_t last = ends.size();
      std::string piece;
      for (; last > first; --last) {
        std::size_t const length = ends[last - 1] - begin;
        if (length + (first > 0 ? 2 : 0) > longest_piece_) continue;
        piece = first > 0 ? "##" : "";
        piece.append(text, begin, length);
        if (auto const found = ids_.find(piece); found != ids_.end()) {
          out.push_back(found->second);
          break;
        }
      }
      if (last == first) {
        out.resize(before);
        return out.push_back(unknown_);
      }
      begin = ends[last - 1];
      first = last;
    }
  }

  wordpiece_options options_;
  std::size_t count_, longest_piece_ = 0;
  std::unordered_map<std::string, std::uint32_t> ids_;
  std::uint32_t unknown_ = 0, begin_ = 0, end_ = 0;
};

}  // namespace dvla::inline DVLA_ABI
