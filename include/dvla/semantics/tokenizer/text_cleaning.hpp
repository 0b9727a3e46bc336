// The cleaning of texts before CLIP's tokenizer: what OpenAI's code does with ftfy and html.unescape, and what Hugging Face's does.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>

#include <dvla/semantics/tokenizer/html_entities.hpp>
#include <dvla/semantics/tokenizer/unicode.hpp>

namespace dvla::inline DVLA_ABI {
namespace text_cleaning {

/// What Windows-1252 has for the code points 0x80 to 0x9F: what HTML and ftfy take them for.
inline constexpr char16_t windows_1252[] = {0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021, 0x2C6, 0x2030, 0x160,
                                            0x2039, 0x152,  0x8D,   0x17D,  0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
                                            0x2013, 0x2014, 0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E, 0x178};

namespace detail {

/// The text of a named reference, null for an unknown name.
[[nodiscard]] inline unicode::html_entity const* find_entity(std::string_view name) {
  auto const* const end = std::end(unicode::html_entities);
  auto const* const found = std::lower_bound(std::begin(unicode::html_entities), end, name,
                                             [](unicode::html_entity const& e, std::string_view n) { return e.name < n; });
  return found != end && found->name == name ? found : nullptr;
}

[[nodiscard]] constexpr int digit_value(char32_t c) {
  if (c >= '0' && c <= '9') return static_cast<int>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<int>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<int>(c - 'A' + 10);
  return 16;
}

/// Adds the character of a numeric reference as HTML 5 reads it; some give none.
inline void append_numbered(std::u32string& out, char32_t number) {
  if (number >= 0x80 && number <= 0x9F) {
    out += char32_t{windows_1252[number - 0x80]};
  } else if (number == 0 || number > 0x10FFFF || (number >= 0xD800 && number < 0xE000)) {
    out += unicode::replacement;
  } else {
    bool const control = number < 0x20 ? number != '\t' && number != '\n' && number != '\f' && number != '\r' : number == 0x7F;
    bool const none = (number >= 0xFDD0 && number <= 0xFDEF) || (number & 0xFFFE) == 0xFFFE;
    if (!control && !none) out += number;
  }
}

/// A reference that begins behind the '&' at `at`: adds its characters and returns where the text goes on, or returns `at` with
/// nothing added. Strict references have their semicolon and at most 24 letters and digits, and stand for something known.
[[nodiscard]] inline std::size_t unescape_at(std::u32string_view text, std::size_t at, bool strict, std::u32string& out) {
  std::size_t i = at;
  if (i < text.size() && text[i] == '#') {
    bool const hexadecimal = ++i < text.size() && (text[i] == 'x' || text[i] == 'X');
    std::size_t const first = hexadecimal ? ++i : i;
    int const base = hexadecimal ? 16 : 10;
    char32_t number = 0;
    for (; i < text.size() && digit_value(text[i]) < base; ++i)
      number = std::min<char32_t>(number * static_cast<char32_t>(base) + static_cast<char32_t>(digit_value(text[i])), 0x110000);
    bool const closed = i < text.size() && text[i] == ';';
    if (i == first || (strict && (!closed || i - at - 1 > 24))) return at;
    append_numbered(out, number);
    return closed ? i + 1 : i;
  }
  std::string name;  // the run that may be a name; only ASCII is one
  for (; i < text.size() && i - at < 32 && text[i] != ';' && text[i] > ' ' && text[i] < 0x7F && text[i] != '<' && text[i] != '&' &&
         text[i] != '#'; ++i)
    name += static_cast<char>(text[i]);
  bool const closed = i < text.size() && text[i] == ';';
  if (closed) name += ';';
  if (strict && (!closed || name.size() > 25)) return at;
  for (std::size_t length = name.size(); length > 1; --length) {
    auto const* const entity = find_entity(std::string_view(name).substr(0, length));
    if (entity == nullptr && strict) return at;
    if (entity == nullptr) continue;
    out += unicode::decode(entity->text);
    return at + length;
  }
  return at;
}

}  // namespace detail

/// Character references replaced by their characters, as Python's html.unescape does; or only the strict ones, as ftfy does.
[[nodiscard]] inline std::u32string unescape_html(std::u32string_view text, bool strict = false) {
  std::u32string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    char32_t const c = text[i++];
    if (c == '&') {
      std::size_t const next = detail::unescape_at(text, i, strict, out);
      if (next != i) {
        i = next;
        continue;
      }
    }
    out += c;
  }
  return out;
}

namespace detail {

/// A Latin ligature or digraph in its letters; empty for another character.
[[nodiscard]] constexpr std::u32string_view letters_of(char32_t c) {
  switch (c) {
    case 0x132: return U"IJ";
    case 0x133: return U"ij";
    case 0x149: return U"\u02BCn";
    case 0x1F1: return U"DZ";
    case 0x1F2: return U"Dz";
    case 0x1F3: return U"dz";
    case 0x1C4: return U"D\u017D";
    case 0x1C5: return U"D\u017E";
    case 0x1C6: return U"d\u017E";
    case 0x1C7: return U"LJ";
    case 0x1C8: return U"Lj";
    case 0x1C9: return U"lj";
    case 0x1CA: return U"NJ";
    case 0x1CB: return U"Nj";
    case 0x1CC: return U"nj";
    case 0xFB00: return U"ff";
    case 0xFB01: return U"fi";
    case 0xFB02: return U"fl";
    case 0xFB03: return U"ffi";
    case 0xFB04: return U"ffl";
    case 0xFB05: return U"\u017Ft";
    case 0xFB06: return U"st";
    case 0xFFE3: return U" \u0304";
    default: return {};
  }
}

/// One character plain: no ligature, no full width, no curly quote.
inline void append_plain(std::u32string& out, char32_t c) {
  if (c >= 0x80 && c <= 0x9F) c = windows_1252[c - 0x80];
  auto const letters = letters_of(c);
  if (c == 0x3000) c = ' ';
  if (c >= 0xFF01 && c <= 0xFFEF) {
    auto const* const entry = unicode::detail::at_or_before(unicode::widths, c, [](unicode::width_mapping const& w) { return w.from; });
    if (entry != nullptr && entry->from == c) c = entry->to;
  }
  if (c == 0x2BC || (c >= 0x2018 && c <= 0x201B)) c = '\'';
  if (c >= 0x201C && c <= 0x201F) c = '"';
  if (letters.empty()) out += c;
  for (char32_t const letter : letters) out += letter == 0x2BC ? U'\'' : letter;
}

[[nodiscard]] constexpr bool is_removed_control(char32_t c) {
  return c < 9 || c == 0xB || (c >= 0xE && c < 0x20) || c == 0x7F || (c >= 0x206A && c <= 0x206F) || c == 0xFEFF ||
         (c >= 0xFFF9 && c <= 0xFFFC);
}

/// The end of a terminal's escape sequence (ESC [ digits ; ... letter) that begins at `at`, or `at` where none does.
[[nodiscard]] inline std::size_t terminal_escape(std::u32string_view text, std::size_t at) {
  std::size_t i = at + 1;
  if (text[at] != 0x1B || i >= text.size() || text[i] != '[') return at;
  for (++i; i < text.size() && ((text[i] >= '0' && text[i] <= '9') || text[i] == ';');) ++i;
  return i < text.size() && text[i] < 0x80 && unicode::is_letter(text[i]) ? i + 1 : at;
}

/// One round of ftfy's repairs on a line.
[[nodiscard]] inline std::u32string repaired(std::u32string_view line, bool unescape) {
  std::u32string plain;
  for (char32_t const c : unescape ? unescape_html(line, true) : std::u32string(line)) append_plain(plain, c);
  std::u32string out;
  for (std::size_t i = 0; i < plain.size();) {
    if (std::size_t const end = terminal_escape(plain, i); end != i) {
      i = end;
      continue;
    }
    char32_t const c = plain[i++];
    bool const line_end = c == '\r' || c == 0x2028 || c == 0x2029 || c == 0x85;
    if (c == '\r' && i < plain.size() && plain[i] == '\n') continue;
    if (line_end) out += U'\n';
    else if (!is_removed_control(c)) out += c;
  }
  return unicode::composed(out);
}

}  // namespace detail

/// A text as OpenAI's CLIP reads it: the repairs of ftfy line by line until nothing changes (at most 16 rounds), html.unescape twice,
/// white space as single spaces, lower case. Of ftfy, the repair of wrongly decoded text (mojibake) and of references in capitals
/// such as &EACUTE; is left out.
[[nodiscard]] inline std::u32string openai(std::string_view bytes) {
  std::u32string const text = unicode::decode(bytes);
  std::u32string fixed;
  bool unescape = true;
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t const end = std::min(text.find(U'\n', begin), text.size() - 1) + 1;
    std::u32string line = text.substr(begin, end - begin);
    unescape = unescape && line.find(U'<') == std::u32string::npos;
    for (int round = 0; round < 16; ++round) {
      auto next = detail::repaired(line, unescape);
      if (next == line) break;
      line = std::move(next);
    }
    fixed += line;
    begin = end;
  }
  std::u32string spaced;
  for (char32_t const c : unescape_html(unescape_html(fixed))) {
    bool const space = unicode::is_white_space(c) || (c >= 0x1C && c <= 0x1F);
    if (!space) spaced += c;
    else if (!spaced.empty() && spaced.back() != U' ') spaced += U' ';
  }
  if (spaced.ends_with(U' ')) spaced.pop_back();
  return unicode::lower(spaced, true);
}

/// A text as Hugging Face's CLIPTokenizerFast reads it: NFC, white space as single spaces, lower case character by character.
[[nodiscard]] inline std::u32string hugging_face(std::string_view bytes) {
  std::u32string spaced;
  for (char32_t const c : unicode::composed(unicode::decode(bytes))) {
    if (!unicode::is_white_space(c)) spaced += c;
    else if (!spaced.ends_with(U' ')) spaced += U' ';
  }
  return unicode::lower(spaced, false);
}

}  // namespace text_cleaning
}  // namespace dvla::inline DVLA_ABI
