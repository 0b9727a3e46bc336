// JSON of unknown origin: what it may not be is found in one pass before it is parsed. (nlohmann's parser with a callback could look at
// the same things, but in a time that grows with the square of an object's members.)
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI::detail {

/// Walks a text up to its end, its first error or the first thing that is not allowed.
class json_limits final : public nlohmann::json_sax<nlohmann::json> {
 public:
  /// At most so many brackets within each other; with unique_keys, no key twice in one object.
  json_limits(std::string_view text, std::size_t deepest, bool unique_keys = false) : deepest_(deepest), unique_keys_(unique_keys) {
    nlohmann::json::sax_parse(text.begin(), text.end(), this);
  }

  /// Whether it is nested deeper than allowed.
  [[nodiscard]] bool too_deep() const { return depth_ > deepest_; }
  /// Whether an object has this_key() twice.
  [[nodiscard]] bool repeats_key() const { return repeats_; }
  [[nodiscard]] std::string const& this_key() const { return key_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, string_t const&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (!unique_keys_ || keys_.back().insert(name).second) return true;
    key_ = name;
    repeats_ = true;
    return false;
  }
  bool parse_error(std::size_t, std::string const&, nlohmann::json::exception const&) override { return false; }  // the parser will tell

 private:
  bool open() {
    if (unique_keys_) keys_.emplace_back();
    return ++depth_ <= deepest_;
  }
  bool close() {
    if (unique_keys_) keys_.pop_back();
    --depth_;
    return true;
  }

  std::size_t deepest_, depth_ = 0;
  bool unique_keys_, repeats_ = false;
  std::string key_;
  std::vector<std::set<std::string>> keys_;  // of the objects (and lists) that are open
};

}  // namespace dvla::inline DVLA_ABI::detail
