// The key of a server: comes from the environment, goes into one header, and is cut out of every text that a server sends back.
#pragma once

#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

/// Holds a key and has no way to print it.
class api_key {
 public:
  /// No key. The header still carries a word, since some local servers want one.
  api_key() = default;

  /// The key in this environment variable. Throws where it is unset, empty, or holds what a header cannot carry.
  [[nodiscard]] static api_key from_environment(std::string const& variable) {
    char const* const value = std::getenv(variable.c_str());
    expect(value != nullptr && *value != '\0', "the environment variable ", variable,
           " holds no key; export it, or name another variable");
    for (char const* c = value; *c != '\0'; ++c)
      expect(*c > 0x20 && *c < 0x7F, "the key in ", variable,
             " holds a space, a line break or a character beyond ASCII; export it anew");
    api_key key;
    key.secret_ = value;
    return key;
  }

  /// The header that carries the key.
  [[nodiscard]] std::string header() const { return concat("Authorization: Bearer ", secret_.empty() ? "none" : secret_); }

  /// The text with "[key]" wherever the key was. A placeholder of less than 8 characters, as local servers want one, is no secret
  /// and stays: "none" is a word of replies as well.
  [[nodiscard]] std::string hide(std::string text) const {
    if (!is_secret()) return text;
    constexpr std::string_view mark = "[key]";
    std::string out;
    std::size_t begin = 0;
    for (std::size_t at = 0; (at = text.find(secret_, begin)) != std::string::npos; begin = at + secret_.size())
      out.append(text, begin, at - begin).append(mark);
    return begin == 0 ? text : out.append(text, begin);
  }

  /// The same for every string in a value. Recursive: for values of limited depth.
  void hide_in(nlohmann::json& value) const {
    if (!is_secret()) return;
    if (value.is_string()) {
      value = hide(std::move(value.get_ref<std::string&>()));
    } else if (value.is_structured()) {
      for (auto& element : value) hide_in(element);
    }
  }

 private:
  [[nodiscard]] bool is_secret() const { return secret_.size() >= 8; }

  std::string secret_{};
};

}  // namespace dvla::inline DVLA_ABI
