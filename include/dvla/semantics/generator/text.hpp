// What generators do with texts that come from elsewhere: JSON within limits, excerpts fit for a message, names of levels.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/semantics/generation.hpp>

namespace dvla::inline DVLA_ABI {

/// JSON read from untrusted bytes: a value, or the problem as the end of a sentence ("is not valid JSON (byte 3 of 9)").
struct json_reading {
  nlohmann::json value{};
  std::string problem{};

  [[nodiscard]] bool ok() const { return problem.empty(); }
};

namespace detail {

/// The number of bytes of the well-formed UTF-8 character (RFC 3629) that begins at `at`; 0 where none does.
[[nodiscard]] constexpr std::size_t utf8_length(std::string_view text, std::size_t at) {
  auto const byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  unsigned const lead = byte(at);
  if (lead < 0x80) return 1;
  std::size_t const length = lead >= 0xC2 && lead < 0xE0 ? 2 : (lead & 0xF0) == 0xE0 ? 3 : lead >= 0xF0 && lead < 0xF5 ? 4 : 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  unsigned const second = byte(at + 1);  // no overlong forms, no surrogates, nothing beyond U+10FFFF
  bool const outside = (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) || (lead == 0xF0 && second < 0x90) ||
                       (lead == 0xF4 && second > 0x8F);
  return outside ? 0 : length;
}

/// Whether brackets outside strings nest no deeper than the limit. Linear, and right for text that is no JSON as well.
[[nodiscard]] constexpr bool nests_within(std::string_view text, std::size_t limit) {
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char const c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > limit) return false;
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return true;
}

/// Parses without ever throwing; deeper than 64 levels is a problem, since what walks the value later is recursive.
[[nodiscard]] inline json_reading read_json(std::string_view text) {
  constexpr std::size_t deepest = 64;
  if (!nests_within(text, deepest)) return {{}, concat("is nested deeper than ", deepest, " levels")};
  try {
    return {nlohmann::json::parse(text.begin(), text.end()), {}};
  } catch (nlohmann::json::parse_error const& problem) {
    if (problem.byte > text.size()) return {{}, concat("is JSON that ends too early, after ", text.size(), " bytes")};
    for (std::size_t at = 0, length = 0; at < text.size(); at += length)
      if ((length = utf8_length(text, at)) == 0) return {{}, concat("is not UTF-8 (byte ", at + 1, " of ", text.size(), ")")};
    return {{}, concat("is not valid JSON (byte ", problem.byte, " of ", text.size(), ")")};
  } catch (nlohmann::json::exception const&) {
    return {{}, "is JSON with a number out of range"};
  }
}

/// At most `limit` bytes of a text on one line, for a message: control characters become spaces, broken UTF-8 becomes '?'.
[[nodiscard]] inline std::string excerpt(std::string_view text, std::size_t limit = 300) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t const length = utf8_length(text, at);
    bool const control = length == 1 && (static_cast<unsigned char>(text[at]) < 0x20 || text[at] == 0x7F);
    bool const c1 =
        length == 2 && text[at] == '\xC2' && static_cast<unsigned char>(text[at + 1]) < 0xA0;  // terminals obey these too
    std::string_view const next = control || c1 ? " " : length == 0 ? "?" : text.substr(at, length);
    if (out.size() + next.size() > limit) return out + "...";
    if (next != " " || (!out.empty() && out.back() != ' ')) out += next;
    at += length == 0 ? 1 : length;
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

/// JSON as text without spaces, keys in order: equal values give equal texts. Throws for strings that are no UTF-8.
[[nodiscard]] inline std::string canonical_text(nlohmann::json const& value, std::string_view what) {
  try {
    return value.dump();
  } catch (nlohmann::json::exception const&) {
    fail(what, " holds text that is not UTF-8; convert it");
  }
}

[[nodiscard]] inline std::string_view level_name(meaning_level level) {
  return level == meaning_level::attributes ? "attributes" : "description";
}

/// "class 'apple', attributes": how messages name a request.
[[nodiscard]] inline std::string request_name(generation_request const& request) {
  return concat("class '", excerpt(request.folder, 120), "', ", level_name(request.level));
}

}  // namespace detail

}  // namespace dvla::inline DVLA_ABI
