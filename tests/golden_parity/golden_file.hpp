// A golden file: its settings, which stand in its metadata, and its tensors, each asked for with the shape that the settings give it.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <dvla/io/safetensors.hpp>

#include "named_sequence.hpp"

namespace parity {

using tensor_shape = std::vector<std::size_t>;

/// The finite number that a text begins with, spaces aside; the text then begins after it.
[[nodiscard]] inline std::optional<double> take_number(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  double value = 0;
  auto const [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc{} || !std::isfinite(value)) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

/// A golden file with its settings. Nothing is assumed: what a case needs and the file does not say is an error.
class golden_file {
 public:
  explicit golden_file(std::filesystem::path const& path) : file_(path) {}

  /// Throws a sentence about this file.
  template <class... Parts>
  [[noreturn]] void refuse(Parts const&... parts) const {
    dvla::fail("golden file ", file_.source(), ": ", parts...);
  }
  /// The same unless the condition holds.
  template <class... Parts>
  void require(bool condition, Parts const&... parts) const {
    if (!condition) refuse(parts...);
  }

  [[nodiscard]] std::string text(std::string_view key) const {
    auto const found = file_.metadata(key);
    require(found.has_value(), "its metadata has no \"", key, "\"");
    return *found;
  }
  [[nodiscard]] bool gives(std::string_view key) const { return file_.metadata(key).has_value(); }
  [[nodiscard]] auto const& metadata() const { return file_.metadata(); }
  [[nodiscard]] bool says(std::string_view words) const { return text("case").find(words) != std::string::npos; }

  /// A whole number of things, from 1 to `most`.
  [[nodiscard]] std::size_t count(std::string_view key, double most = 4096) const {
    std::string const all = text(key);
    std::string_view rest = all;
    auto const value = take_number(rest);
    require(value && rest.empty(), "\"", key, "\" is \"", all, "\"; give a whole number");
    return whole(key, *value, 1, most);
  }
  /// The numbers of an entry such as "0.7 0.3", which must be this many.
  [[nodiscard]] std::vector<double> reals(std::string_view key, std::size_t many = 1) const {
    std::string const all = text(key);
    std::string_view rest = all;
    auto const values = take_numbers(rest, many);
    require(!values.empty() && rest.empty(), "\"", key, "\" is \"", all, "\"; give ", many, " numbers");
    return values;
  }
  /// The number called `name` in an entry such as {"stage2": 0.62}.
  [[nodiscard]] double member(std::string_view key, std::string const& name) const {
    auto const entry = nlohmann::json::parse(text(key), nullptr, false);
    require(entry.is_object() && entry.contains(name) && entry[name].is_number(), "\"", key, "\" is \"", text(key),
            "\"; give an object in which \"", name, "\" is a number");
    return entry[name].get<double>();
  }
  /// The pairs of an entry such as "tau .2 kappa 10".
  [[nodiscard]] std::map<std::string, double, std::less<>> pairs(std::string_view key) const {
    std::string const all = text(key);
    std::string_view rest = all;
    std::map<std::string, double, std::less<>> out;
    while (rest.find_first_not_of(' ') != std::string_view::npos) {
      rest.remove_prefix(rest.find_first_not_of(' '));
      std::string const name(rest.substr(0, rest.find(' ')));
      rest.remove_prefix(name.size());
      auto const value = take_number(rest);
      require(value.has_value(), "\"", key, "\" gives no number after ", name);
      require(out.emplace(name, *value).second, "\"", key, "\" gives ", name, " twice");
    }
    return out;
  }
  /// The numbers that follow words of an entry: those after "betas" in "AdamW(lr 1e-3, betas .9 .999)". Looked for only after
  /// `from`, where that is given.
  [[nodiscard]] std::vector<double> after(std::string_view key, std::string_view words, std::size_t many = 1,
                                          std::string_view from = "") const {
    std::string const all = text(key);
    std::size_t const start = from.empty() ? 0 : find_word(all, from, 0);
    for (auto at = find_word(all, words, start); at != std::string::npos; at = find_word(all, words, at + 1)) {
      std::string_view rest = std::string_view(all).substr(at + words.size());
      if (auto const values = take_numbers(rest, many); !values.empty()) return values;
    }
    refuse("\"", key, "\" does not say the ", many == 1 ? "number" : "numbers", " after \"", words, "\"", from.empty() ? "" : " of ", from);
  }
  /// The whole number before words of an entry: 20 for "classes" in "20 classes of 600 images".
  [[nodiscard]] std::size_t before(std::string_view key, std::string_view words, double most) const {
    std::string const all = text(key);
    for (auto at = all.find(words); at != std::string::npos; at = all.find(words, at + 1)) {
      std::size_t const end = at > 0 && all[at - 1] == ' ' ? at - 1 : at;
      std::size_t start = end;
      while (start > 0 && all[start - 1] >= '0' && all[start - 1] <= '9') --start;
      std::string_view digits = std::string_view(all).substr(start, end - start);
      if (auto const value = take_number(digits)) return whole(words, *value, 0, most);
    }
    refuse("\"", key, "\" does not say how many \"", words, "\"");
  }
  /// How often an entry has a word.
  [[nodiscard]] std::size_t times_said(std::string_view key, std::string_view word) const {
    std::string const all = text(key);
    std::size_t times = 0;
    for (auto at = find_word(all, word, 0); at != std::string::npos; at = find_word(all, word, at + 1)) ++times;
    return times;
  }
  /// A setting that counts something, given as a number; `what` names it.
  [[nodiscard]] std::size_t whole(std::string_view what, double value, double least, double most) const {
    require(value >= least && value <= most && value == std::floor(value), "\"", what, "\" is ", value, "; give a whole number from ",
            least, " to ", most);
    return static_cast<std::size_t>(value);
  }

  /// A tensor, which must have this shape and counts as compared from now on.
  [[nodiscard]] dvla::stored_tensor const& find(std::string_view name, tensor_shape const& shape) const {
    auto const& found = file_.find(name);
    require(found.shape == shape, "tensor '", name, "' is ", dvla::shape_text(found.shape), ", but by the file's settings it is ",
            dvla::shape_text(shape));
    return take(found);
  }
  /// A tensor of this rank, without empty extents.
  [[nodiscard]] dvla::stored_tensor const& find(std::string_view name, std::size_t rank) const {
    auto const& found = file_.find(name);
    require(found.shape.size() == rank && found.size() > 0, "tensor '", name, "' is ", dvla::shape_text(found.shape),
            ", but must be of rank ", rank, " and not empty");
    return take(found);
  }
  [[nodiscard]] std::vector<double> values(std::string_view name, tensor_shape const& shape) const {
    return dvla::read_as<double>(find(name, shape));
  }
  /// A tensor stored for the first image or the first few: (1 to shape[0], shape[1], ...).
  [[nodiscard]] std::vector<double> first_values(std::string_view name, tensor_shape shape) const {
    auto const& found = file_.find(name);
    if (!found.shape.empty()) shape[0] = std::clamp<std::size_t>(found.shape[0], 1, shape[0]);
    return values(name, shape);
  }
  [[nodiscard]] std::span<dvla::stored_tensor const> tensors() const { return file_.tensors(); }
  [[nodiscard]] named_sequence sequence(std::string const& name) const { return named_sequence(text("salt") + name); }

  /// Throws if a tensor was never asked for: it would seem checked and was not.
  void expect_all_compared() const {
    auto const forgotten = [&](auto const& t) { return !compared_.contains(t.name); };
    auto const first = std::find_if(tensors().begin(), tensors().end(), forgotten);
    if (first != tensors().end())
      refuse(std::count_if(first, tensors().end(), forgotten), " of its tensors belong to no ",
             "part of the case and were compared with nothing; the first is '", first->name, "'");
  }

 private:
  /// Where words stand in a text, at position `from` or later, and not as the tail of a longer word.
  static std::size_t find_word(std::string_view text, std::string_view words, std::size_t from) {
    auto const letter = [](char c) { return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    auto at = from == std::string::npos ? from : text.find(words, from);
    while (at != std::string::npos && at > 0 && letter(text[at - 1])) at = text.find(words, at + 1);
    return at;
  }
  /// This many numbers from the beginning of a text, or none.
  static std::vector<double> take_numbers(std::string_view& text, std::size_t many) {
    std::vector<double> out;
    while (out.size() < many) {
      auto const value = take_number(text);
      if (!value) return {};
      out.push_back(*value);
    }
    return out;
  }
  [[nodiscard]] dvla::stored_tensor const& take(dvla::stored_tensor const& tensor) const {
    compared_.insert(tensor.name);
    return tensor;
  }

  dvla::safetensors_file file_;
  mutable std::set<std::string, std::less<>> compared_;
};

/// The extents of a tensor or variable.
[[nodiscard]] inline tensor_shape extents_of(auto const& x) {
  tensor_shape out;
  for (std::size_t i = 0; i < x.rank; ++i) out.push_back(x.shape()[i]);
  return out;
}

}  // namespace parity
