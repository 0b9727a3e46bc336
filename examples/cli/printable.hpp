// Texts from elsewhere, fit for a terminal.
#pragma once

#include <cstdio>
#include <string>

namespace cli {

/// A text whose control characters, which a terminal would obey, are question marks. Ends of lines stay.
[[nodiscard]] inline std::string printable(std::string text) {
  auto const byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((byte(i) < 0x20 && text[i] != '\n') || byte(i) == 0x7F) text[i] = '?';
    if (byte(i) == 0xC2 && byte(i + 1) >= 0x80 && byte(i + 1) < 0xA0) text[i] = text[i + 1] = '?';  // the same in Latin-1's range
  }
  return text;
}

/// printf to stdout for lines with texts from elsewhere.
template <class... Values>
void say(char const* pattern, Values... values) {
  int const length = std::snprintf(nullptr, 0, pattern, values...);
  if (length < 0) return;
  std::string text(static_cast<std::size_t>(length), ' ');
  std::snprintf(text.data(), text.size() + 1, pattern, values...);
  std::fputs(printable(std::move(text)).c_str(), stdout);
}

}  // namespace cli
