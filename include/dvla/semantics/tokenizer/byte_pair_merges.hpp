// Byte-pair merges (Sennrich et al., arXiv 1508.07909) over bytes: the words of a text become the pieces of a vocabulary.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/semantics/tokenizer/unicode.hpp>

namespace dvla::inline DVLA_ABI {

/// The vocabulary that a list of merges defines, numbered as CLIP's: the 256 byte symbols, the same at the end of a word, the merges
/// in their order. Time for a word of n bytes grows as n log n.
class byte_pair_merges {
 public:
  static constexpr std::size_t byte_symbols = 512;

  /// Merges as lines of two symbols with a space between, "</w>" at the end of a word's last. Throws for a line that is none, or whose
  /// symbols no earlier line made.
  explicit byte_pair_merges(std::span<std::string const> lines, std::string const& source = "merges") {
    std::unordered_map<std::string, std::uint32_t> ids;
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::string symbol;
      unicode::append(symbol, printed_byte(i));
      ids.emplace(symbol, i);
      ids.emplace(symbol + "</w>", 256 + i);
    }
    rules_.reserve(lines.size());
    for (std::size_t i = 0; i < lines.size(); ++i) {
      std::string const& line = lines[i];
      std::size_t const space = line.find(' ');
      auto const left = ids.find(line.substr(0, space));
      auto const right = space == std::string::npos ? ids.end() : ids.find(line.substr(space + 1));
      expect(left != ids.end() && right != ids.end(), source, ": merge ", i + 1, ", '", line.substr(0, 64),
             "', is no pair of symbols made before it; give merges.txt or bpe_simple_vocab_16e6.txt as published");
      auto const id = static_cast<std::uint32_t>(byte_symbols + i);
      rules_.emplace(key(left->second, right->second), id);  // of two equal lines the first counts
      ids.emplace(left->first + right->first, id);
    }
    count_ = byte_symbols + lines.size();
    for (std::uint32_t i = 0; i < 256; ++i) order_[byte_of(i)] = i;
  }

  /// Number of symbols.
  [[nodiscard]] std::size_t size() const { return count_; }

  /// Adds the ids of a word (UTF-8, not empty).
  void append(std::vector<std::uint32_t>& out, std::string_view word) const {
    std::vector<symbol> symbols(word.size());
    for (std::size_t i = 0; i < word.size(); ++i) {
      std::uint32_t const id = order_[static_cast<unsigned char>(word[i])];
      symbols[i] = {i + 1 == word.size() ? id + 256 : id, i, i + 1};  // the first has itself before it
      if (i > 0) symbols[i].before = i - 1;
    }
    std::priority_queue<candidate, std::vector<candidate>, std::greater<>> queue;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) propose(queue, symbols, i);
    while (!queue.empty()) {
      auto const [id, left, second] = queue.top();
      queue.pop();
      symbol& l = symbols[left];
      // A merge that is no longer there: one of its symbols has become part of another.
      if (l.id == gone || l.after >= symbols.size() || key(l.id, symbols[l.after].id) != second) continue;
      symbol& r = symbols[l.after];
      l.id = id;
      l.after = r.after;
      r.id = gone;
      if (l.after < symbols.size()) symbols[l.after].before = left;
      if (l.before != left) propose(queue, symbols, l.before);
      propose(queue, symbols, left);
    }
    for (auto const& s : symbols)
      if (s.id != gone) out.push_back(s.id);
  }

 private:
  static constexpr std::uint32_t gone = 0xFFFFFFFF;

  struct symbol {
    std::uint32_t id;
    std::size_t before, after;
  };

  /// Ordered by the merge's rank, then by place: all occurrences of the best pair from left to right, as in the published code.
  struct candidate {
    std::uint32_t id;
    std::size_t left;
    std::uint64_t pair;
    auto operator<=>(candidate const&) const = default;
  };

  static std::uint64_t key(std::uint32_t left, std::uint32_t right) { return (std::uint64_t{left} << 32) | right; }

  template <class Queue>
  void propose(Queue& queue, std::vector<symbol> const& symbols, std::size_t left) const {
    std::size_t const right = symbols[left].after;
    if (right >= symbols.size()) return;
    std::uint64_t const pair = key(symbols[left].id, symbols[right].id);
    if (auto const rule = rules_.find(pair); rule != rules_.end()) queue.push({rule->second, left, pair});
  }

  /// The i-th byte of the vocabulary: the printable ones first (GPT-2's order).
  static constexpr std::uint32_t byte_of(std::uint32_t i) {
    if (i < 94) return 0x21 + i;
    if (i < 106) return 0xA1 + (i - 94);
    if (i < 188) return 0xAE + (i - 106);
    std::uint32_t const rest = i - 188;  // 0x00 to 0x20, 0x7F to 0xA0, 0xAD
    if (rest <= 0x20) return rest;
    return rest < 67 ? 0x7F + (rest - 0x21) : 0xAD;
  }
  /// How the i-th byte is written in files of merges.
  static constexpr char32_t printed_byte(std::uint32_t i) { return i < 188 ? char32_t{byte_of(i)} : char32_t{0x100 + (i - 188)}; }

  std::unordered_map<std::uint64_t, std::uint32_t> rules_;
  std::array<std::uint32_t, 256> order_{};
  std::size_t count_ = 0;
};

}  // namespace dvla::inline DVLA_ABI
