// Small services for texts in UTF-8: words, lower case, tidying of what a language model wrote.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// The code point at `at` and its length in bytes; length 0 where the bytes are not UTF-8 (overlong forms and surrogates are not).
struct decoded_code_point {
  char32_t value = 0;
  std::size_t bytes = 0;
};

[[nodiscard]] inline decoded_code_point code_point_at(std::string_view text, std::size_t at) {
  auto const byte = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[i])); };
  char32_t const first = byte(at);
  if (first < 0x80) return {first, 1};
  std::size_t const count = first >= 0xF0 && first < 0xF5   ? 4
                            : first >= 0xE0 && first < 0xF0 ? 3
                            : first >= 0xC2 && first < 0xE0 ? 2
                                                            : 0;
  if (count == 0 || text.size() - at < count) return {};
  char32_t value = first & (0x7Fu >> count);
  for (std::size_t i = 1; i < count; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return {};
    value = (value << 6) | (byte(at + i) & 0x3F);
  }
  constexpr char32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (value < smallest[count] || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) return {};
  return {value, count};
}

}  // namespace detail

/// Calls f with every code point; a byte that is no UTF-8 counts as U+FFFD.
template <class F>
void for_each_code_point(std::string_view text, F&& f) {
  for (std::size_t i = 0; i < text.size();) {
    auto const c = detail::code_point_at(text, i);
    f(c.bytes == 0 ? char32_t{0xFFFD} : c.value);
    i += std::max<std::size_t>(c.bytes, 1);
  }
}

[[nodiscard]] inline bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    auto const c = detail::code_point_at(text, i);
    if (c.bytes == 0) return false;
    i += c.bytes;
  }
  return true;
}

/// ASCII capitals to small letters; other bytes stay.
[[nodiscard]] inline std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

/// Lower case, '_' as ' ': how class names are compared where they are not equal, and a class's name where only its folder is
/// known.
[[nodiscard]] inline std::string plain_name(std::string_view name) {
  std::string out = lower_case(name);
  std::replace(out.begin(), out.end(), '_', ' ');
  return out;
}

/// Runs of ASCII letters and digits and of bytes beyond ASCII.
[[nodiscard]] inline std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  bool inside = false;
  for (char const c : text) {
    bool const part =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0x80;
    if (part && !inside) words.emplace_back();
    if (part) words.back() += c;
    inside = part;
  }
  return words;
}

/// The words in lower case without articles, sorted: equal for texts that differ in case, marks and order alone.
[[nodiscard]] inline std::vector<std::string> word_set(std::string_view text) {
  auto words = words_of(lower_case(text));
  std::erase_if(words, [](std::string const& w) { return w == "a" || w == "an" || w == "the" || w == "and" || w == "with"; });
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  return words;
}

/// The first so many bytes of a text, cut where a character ends, with "..." where something was cut.
[[nodiscard]] inline std::string excerpt(std::string_view text, std::size_t most = 300) {
  if (text.size() <= most) return std::string(text);
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
  return std::string(text.substr(0, most)) + "...";
}

/// White space as single blanks and none at the ends; curly quotes straight; list marks ("- ", "3. ", "* ") and quotes around the
/// whole taken off. Nothing else is changed: in particular nothing is repaired.
[[nodiscard]] inline std::string tidy_text(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string_view const rest = text.substr(i);
    if (rest.starts_with("\xE2\x80\x98") || rest.starts_with("\xE2\x80\x99"))
      out += '\'', i += 2;
    else if (rest.starts_with("\xE2\x80\x9C") || rest.starts_with("\xE2\x80\x9D"))
      out += '"', i += 2;
    else if (rest.starts_with("\xC2\xA0"))
      out += ' ', ++i;
    else if (text[i] != ' ' && text[i] != '\t' && text[i] != '\n' && text[i] != '\r')
      out += text[i];
    else if (!out.empty() && out.back() != ' ')
      out += ' ';
  }
  auto const trim = [&] {
    while (!out.empty() && out.back() == ' ') out.pop_back();
    out.erase(0, std::min(out.find_first_not_of(' '), out.size()));
  };
  trim();
  std::size_t digits = 0;
  while (digits < out.size() && out[digits] >= '0' && out[digits] <= '9') ++digits;
  if (digits > 0 && digits < 3 && digits + 1 < out.size() && (out[digits] == '.' || out[digits] == ')') && out[digits + 1] == ' ')
    out.erase(0, digits + 2);
  else if (out.starts_with("- ") || out.starts_with("* "))
    out.erase(0, 2);
  else if (out.starts_with("\xE2\x80\xA2"))
    out.erase(0, 3);
  trim();
  if (out.size() >= 2 && out.front() == '"' && out.back() == '"') out = out.substr(1, out.size() - 2), trim();
  return out;
}

}  // namespace dvla::inline DVLA_ABI
