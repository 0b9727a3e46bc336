// Unicode for tokenizers: UTF-8 in and out, classes of characters, lower case, canonical normalisation. Any bytes are taken; time grows
// with a text's length (with its logarithm beside it, where many combining marks follow each other).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

#include <dvla/semantics/tokenizer/unicode_case.hpp>
#include <dvla/semantics/tokenizer/unicode_normal.hpp>

namespace dvla::inline DVLA_ABI {
namespace unicode {

/// What stands for bytes that are not UTF-8.
inline constexpr char32_t replacement = 0xFFFD;

namespace detail {

/// Of the sorted entries, the last whose key does not exceed c; null if there is none.
template <class Entry, std::size_t N, class Key>
[[nodiscard]] constexpr Entry const* at_or_before(Entry const (&table)[N], std::uint32_t c, Key key) {
  std::size_t low = 0, high = N;
  while (low < high) {
    std::size_t const middle = low + (high - low) / 2;
    if (key(table[middle]) <= c) low = middle + 1;
    else high = middle;
  }
  return low == 0 ? nullptr : table + (low - 1);
}

/// The bytes that a character's first byte announces beside itself, and the range of the second (Unicode, table 3-7).
struct utf8_lead {
  std::size_t more;
  unsigned char low, high;
};

[[nodiscard]] constexpr utf8_lead lead_of(unsigned char byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {1, 0x80, 0xBF};
  if (byte >= 0xE0 && byte <= 0xEF) return {2, static_cast<unsigned char>(byte == 0xE0 ? 0xA0 : 0x80),
                                            static_cast<unsigned char>(byte == 0xED ? 0x9F : 0xBF)};
  if (byte >= 0xF0 && byte <= 0xF4) return {3, static_cast<unsigned char>(byte == 0xF0 ? 0x90 : 0x80),
                                            static_cast<unsigned char>(byte == 0xF4 ? 0x8F : 0xBF)};
  return {0, 0, 0};
}

}  // namespace detail

/// Whether a sorted table of ranges holds c.
template <std::size_t N>
[[nodiscard]] constexpr bool is_in(range const (&table)[N], char32_t c) {
  auto const* const entry = detail::at_or_before(table, c, [](range const& r) { return r.first; });
  return entry != nullptr && c <= entry->last;
}

[[nodiscard]] constexpr bool is_letter(char32_t c) {
  return c < 0x80 ? (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') : is_in(letters, c);
}
[[nodiscard]] constexpr bool is_number(char32_t c) { return c < 0x80 ? c >= '0' && c <= '9' : is_in(numbers, c); }

/// The property White_Space.
[[nodiscard]] constexpr bool is_white_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/// A text's characters. Each longest part of a broken sequence becomes one replacement character, as in Python.
[[nodiscard]] inline std::u32string decode(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    auto const first = static_cast<unsigned char>(text[i++]);
    if (first < 0x80) {
      out += static_cast<char32_t>(first);
      continue;
    }
    auto [more, low, high] = detail::lead_of(first);
    bool complete = more > 0;
    char32_t c = more == 0 ? 0 : first & (0x3Fu >> more);
    for (; more > 0; --more, low = 0x80, high = 0xBF) {
      unsigned char const next = i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
      if (next < low || next > high) {
        complete = false;
        break;
      }
      c = (c << 6) | (next & 0x3Fu);
      ++i;
    }
    out += complete ? c : replacement;
  }
  return out;
}

/// Adds a character's UTF-8; c is a Unicode scalar value.
inline void append(std::string& out, char32_t c) {
  auto const put = [&](char32_t byte) { out += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6)), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12)), put(0x80 | ((c >> 6) & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18)), put(0x80 | ((c >> 12) & 0x3F)), put(0x80 | ((c >> 6) & 0x3F)), put(0x80 | (c & 0x3F));
  }
}

[[nodiscard]] inline std::string encode(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char32_t const c : text) append(out, c);
  return out;
}

/// Adds the lower case of a character by itself; that of U+0130 is an i and a dot above.
inline void append_lower(std::u32string& out, char32_t c) {
  if (c < 0x80) {
    out += c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
  } else if (c == 0x130) {
    out += {U'i', char32_t{0x307}};
  } else {
    auto const* const run = detail::at_or_before(lower_case, c, [](case_run const& r) { return r.first; });
    bool const mapped = run != nullptr && c <= run->last && (c - run->first) % run->step == 0;
    out += mapped ? static_cast<char32_t>(static_cast<std::int64_t>(c) + run->delta) : c;
  }
}

/// Whether a capital sigma at that place ends a word: a cased character stands before it and none behind it, whatever is
/// case-ignorable between left aside.
[[nodiscard]] inline bool is_final_sigma(std::u32string_view text, std::size_t at) {
  std::size_t before = at, behind = at + 1;
  while (before > 0 && is_in(case_ignorable, text[before - 1])) --before;
  if (before == 0 || !is_in(cased, text[before - 1])) return false;
  while (behind < text.size() && is_in(case_ignorable, text[behind])) ++behind;
  return behind == text.size() || !is_in(cased, text[behind]);
}

/// The text in lower case: every character by itself, or with the sigma that ends a word (as Python does).
[[nodiscard]] inline std::u32string lower(std::u32string_view text, bool final_sigma) {
  std::u32string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (final_sigma && text[i] == 0x3A3) out += is_final_sigma(text, i) ? char32_t{0x3C2} : char32_t{0x3C3};
    else append_lower(out, text[i]);
  }
  return out;
}

[[nodiscard]] constexpr std::uint8_t combining_class(char32_t c) {
  if (c < 0x300) return 0;
  auto const* const entry = detail::at_or_before(combining_classes, c, [](class_range const& r) { return r.first; });
  return entry != nullptr && c <= entry->last ? entry->combining_class : std::uint8_t{0};
}

namespace detail {

// Hangul syllables are composed by arithmetic (Unicode, section 3.12).
inline constexpr char32_t hangul = 0xAC00, hangul_l = 0x1100, hangul_v = 0x1161, hangul_t = 0x11A7;
inline constexpr char32_t count_l = 19, count_v = 21, count_t = 28;

inline void append_decomposed(std::u32string& out, char32_t c) {
  if (c >= hangul && c < hangul + count_l * count_v * count_t) {
    char32_t const index = c - hangul;
    out += {hangul_l + index / (count_v * count_t), hangul_v + index / count_t % count_v};
    if (index % count_t != 0) out += hangul_t + index % count_t;
    return;
  }
  auto const* const entry = c < 0xC0 ? nullptr : at_or_before(decompositions, c, [](decomposition const& d) { return d.whole; });
  if (entry == nullptr || entry->whole != c) {
    out += c;
    return;
  }
  append_decomposed(out, entry->first);  // at most four levels deep
  if (entry->second != 0) append_decomposed(out, entry->second);
}

/// The canonical composite of two characters, 0 where there is none.
[[nodiscard]] inline char32_t composed(char32_t a, char32_t b) {
  if (a >= hangul_l && a < hangul_l + count_l && b >= hangul_v && b < hangul_v + count_v)
    return hangul + ((a - hangul_l) * count_v + (b - hangul_v)) * count_t;
  bool const open_syllable = a >= hangul && a < hangul + count_l * count_v * count_t && (a - hangul) % count_t == 0;
  if (open_syllable && b > hangul_t && b < hangul_t + count_t) return a + (b - hangul_t);
  auto const* const end = std::end(compositions);
  auto const* const found = std::lower_bound(std::begin(compositions), end, std::pair{a, b}, [](decomposition const& d, auto const& key) {
    return d.first != key.first ? d.first < key.first : d.second < key.second;
  });
  return found != end && found->first == a && found->second == b ? char32_t{found->whole} : char32_t{0};
}

}  // namespace detail

/// Canonical decomposition (NFD).
[[nodiscard]] inline std::u32string decomposed(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (char32_t const c : text) detail::append_decomposed(out, c);
  for (std::size_t i = 0; i < out.size();) {  // marks in the order of their classes
    std::size_t end = i;
    while (end < out.size() && combining_class(out[end]) != 0) ++end;
    std::stable_sort(out.begin() + static_cast<std::ptrdiff_t>(i), out.begin() + static_cast<std::ptrdiff_t>(end),
                     [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
    i = end + 1;
  }
  return out;
}

/// Canonical composition (NFC).
[[nodiscard]] inline std::u32string composed(std::u32string_view text) {
  if (std::all_of(text.begin(), text.end(), [](char32_t c) { return c < 0x300; })) return std::u32string(text);
  std::u32string out;
  std::size_t starter = std::u32string::npos;
  std::uint8_t last_class = 0;  // of what was kept since the starter
  for (char32_t const c : decomposed(text)) {
    std::uint8_t const own = combining_class(c);
    bool const blocked = starter != std::u32string::npos && starter + 1 < out.size() && (last_class == 0 || last_class >= own);
    if (starter != std::u32string::npos && !blocked) {
      if (char32_t const whole = detail::composed(out[starter], c); whole != 0) {
        out[starter] = whole;
        continue;
      }
    }
    if (own == 0) starter = out.size();
    last_class = own;
    out += c;
  }
  return out;
}

}  // namespace unicode
}  // namespace dvla::inline DVLA_ABI
