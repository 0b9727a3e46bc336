// Errors are sentences: what was expected, what came, where, and what to do. The library throws; it never prints or exits.
#pragma once

#include <charconv>
#include <concepts>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// The one exception type of the library. what() is a sentence that names the thing and the remedy.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

inline void append(std::string& out, std::string_view text) { out += text; }
inline void append(std::string& out, char c) { out += c; }
void append(std::string& out, std::same_as<bool> auto b) { out += b ? "true" : "false"; }

template <class N>
  requires(std::integral<N> || std::floating_point<N>) && (!std::same_as<N, bool>) && (!std::same_as<N, char>)
void append(std::string& out, N number) {
  char digits[32];
  auto const end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  out.append(digits, end);
}

/// What has a to_string, such as a shape: written only when the message is.
template <class Text>
  requires requires(Text const& text) { to_string(text); } && (!std::integral<Text>) && (!std::floating_point<Text>)
void append(std::string& out, Text const& text) {
  out += to_string(text);
}

/// A part of a message by reference. Its type is forgotten, so that a message costs the compiler one function for each type of
/// part and none for each sentence.
class message_part {
 public:
  message_part(char const* text) : part_(text), append_([](std::string& out, void const* p) { out += static_cast<char const*>(p); }) {}
  template <class Part>
    requires(!std::is_array_v<Part>)
  message_part(Part const& part)
      : part_(std::addressof(part)), append_([](std::string& out, void const* p) { append(out, *static_cast<Part const*>(p)); }) {}

  void append_to(std::string& out) const { append_(out, part_); }

 private:
  void const* part_;
  void (*append_)(std::string&, void const*);
};

inline std::string join(std::initializer_list<message_part> parts) {
  std::string out;
  for (message_part const& part : parts) part.append_to(out);
  return out;
}

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_with(std::initializer_list<message_part> parts) { throw error(join(parts)); }

}  // namespace detail

/// Strings, characters, numbers and whatever has a to_string, one after the other.
template <class... Parts>
[[nodiscard]] std::string concat(Parts const&... parts) {
  return detail::join({parts...});
}

/// Throws dvla::error with the parts joined.
template <class... Parts>
[[noreturn]] void fail(Parts const&... parts) {
  detail::fail_with({parts...});
}

/// Throws dvla::error with the parts joined unless the condition holds.
template <class... Parts>
void expect(bool condition, Parts const&... parts) {
  if (!condition) [[unlikely]]
    fail(parts...);
}

}  // namespace dvla::inline DVLA_ABI
