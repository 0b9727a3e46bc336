// Tensors found by name: what every reader of a tensor file hands out, whatever the format.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/io/stored_tensor.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// Levenshtein's distance: insertions, deletions and replacements that turn a into b.
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      std::size_t const replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = std::exchange(row[j + 1], std::min({replaced, row[j] + 1, row[j + 1] + 1}));
    }
  }
  return row.back();
}

}  // namespace detail

/// The tensors of one file in file order, with its text metadata. Copies share the storage of the bytes.
class named_tensors {
 public:
  using text_pairs = std::vector<std::pair<std::string, std::string>>;

  /// source names the file in messages; storage owns the bytes that the tensors view. Names must differ.
  named_tensors(std::string source, std::vector<stored_tensor> tensors, text_pairs metadata, std::shared_ptr<void const> storage)
      : source_(std::move(source)), tensors_(std::move(tensors)), metadata_(std::move(metadata)), storage_(std::move(storage)) {
    index_.reserve(tensors_.size());
    for (std::size_t i = 0; i < tensors_.size(); ++i)
      expect(index_.emplace(tensors_[i].name, i).second, source_, " holds two tensors named '", tensors_[i].name, "'");
  }

  /// The file they were read from.
  [[nodiscard]] std::string const& source() const { return source_; }

  [[nodiscard]] std::span<stored_tensor const> tensors() const { return tensors_; }

  [[nodiscard]] bool contains(std::string_view name) const { return index_.contains(std::string(name)); }

  /// Throws for a missing name, and tells the file and the nearest names in it.
  [[nodiscard]] stored_tensor const& find(std::string_view name) const {
    auto const found = index_.find(std::string(name));
    if (found == index_.end()) fail(source_, " has no tensor '", name, "'", nearest(name));
    return tensors_[found->second];
  }

  /// The text metadata, in file order.
  [[nodiscard]] text_pairs const& metadata() const { return metadata_; }

  /// The metadata text of that key, or nothing.
  [[nodiscard]] std::optional<std::string> metadata(std::string_view key) const {
    for (auto const& [name, text] : metadata_)
      if (name == key) return text;
    return std::nullopt;
  }

  /// The model inside a training checkpoint: the tensors under a wrapper "state_dict.", "model.", "params." or "module."
  /// without that prefix, and so on for up to 16 wrappers in one another. A prefix is taken for a wrapper where every tensor
  /// has it, leaving aside those of an optimizer, a schedule or an averaged model; "state_dict." is one beside anything.
  [[nodiscard]] named_tensors state_dict() const {
    named_tensors out = *this;
    for (int depth = 0; depth < 16; ++depth) {  // a name may be made of prefixes alone, megabytes of them
      auto const prefix = out.wrapper();
      if (prefix.empty()) break;
      out = out.unwrapped(prefix);
    }
    return out;
  }

 private:
  static bool has_prefix(stored_tensor const& tensor, std::string_view prefix) {
    return std::string_view(tensor.name).starts_with(prefix);
  }

  static bool is_training_state(stored_tensor const& tensor) {
    return has_prefix(tensor, "optim") || has_prefix(tensor, "scheduler.") || has_prefix(tensor, "lr_scheduler.") ||
           has_prefix(tensor, "scaler.") || has_prefix(tensor, "ema.") || has_prefix(tensor, "model_ema.");
  }

  /// The prefix that is a wrapper of this file; empty for none.
  [[nodiscard]] std::string_view wrapper() const {
    for (std::string_view const prefix : {"state_dict.", "model.", "params.", "module."})
      if (is_wrapper(prefix)) return prefix;
    return {};
  }

  [[nodiscard]] bool is_wrapper(std::string_view prefix) const {
    auto const wrapped = [&](stored_tensor const& tensor) { return has_prefix(tensor, prefix); };
    auto const expected = [&](stored_tensor const& tensor) { return wrapped(tensor) || is_training_state(tensor); };
    return std::any_of(tensors_.begin(), tensors_.end(), wrapped) &&
           (prefix == "state_dict." || std::all_of(tensors_.begin(), tensors_.end(), expected));
  }

  [[nodiscard]] named_tensors unwrapped(std::string_view prefix) const {
    std::vector<stored_tensor> kept;
    for (stored_tensor const& tensor : tensors_) {
      if (!has_prefix(tensor, prefix)) continue;
      kept.push_back(tensor);
      kept.back().name.erase(0, prefix.size());
    }
    return {source_, std::move(kept), metadata_, storage_};
  }

  [[nodiscard]] std::string nearest(std::string_view name) const {
    if (tensors_.empty()) return "; it holds no tensor at all";
    std::vector<std::pair<std::size_t, std::size_t>> ranked;
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      std::string_view const candidate = std::string_view(tensors_[i].name).substr(0, 256);
      ranked.emplace_back(detail::edit_distance(name.substr(0, 256), candidate), i);
    }
    std::size_t const shown = std::min<std::size_t>(3, ranked.size());
    std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(shown), ranked.end());
    std::string text = concat("; the nearest of its ", tensors_.size(), " names:");
    for (std::size_t i = 0; i < shown; ++i) text += concat(i == 0 ? " '" : ", '", tensors_[ranked[i].second].name, "'");
    return text;
  }

  std::string source_;
  std::vector<stored_tensor> tensors_;
  text_pairs metadata_;
  std::shared_ptr<void const> storage_;
  std::unordered_map<std::string, std::size_t> index_;
};

}  // namespace dvla::inline DVLA_ABI
