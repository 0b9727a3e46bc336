// Errors are sentences: what was expected, what came, where, and what to do. The library throws; it never prints or exits.
#pragma once

#include <charconv>
#include <concepts>
#include <stdexcept>
#include <string>
#include <string_view>

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

}  // namespace detail

/// Strings, characters and numbers, one after the other.
template <class... Parts>
[[nodiscard]] std::string concat(Parts const&... parts) {
  std::string out;
  (detail::append(out, parts), ...);
  return out;
}

/// Throws dvla::error with the parts joined.
template <class... Parts>
[[noreturn]] void fail(Parts const&... parts) {
  throw error(concat(parts...));
}

/// Throws dvla::error with the parts joined unless the condition holds.
template <class... Parts>
void expect(bool condition, Parts const&... parts) {
  if (!condition) [[unlikely]]
    fail(parts...);
}

}  // namespace dvla::inline DVLA_ABI
