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

  /// The model inside a training checkpoint: tensors under the wrapper "state_dict.", "model.", "params." or "module."
  /// without that prefix, wrappers in one another stripped one by one. A wrapper counts where its tensors are the only
  /// ones, or where it is "state_dict." or "model." beside something else, such as the state of an optimizer.
  [[nodiscard]] named_tensors state_dict() const {
    named_tensors inner = *this;
    for (std::string_view const wrapper : {"state_dict.", "model.", "params.", "module.", "state_dict.", "model.", "module."})
      inner = inner.unwrapped(wrapper);
    return inner;
  }

 private:
  [[nodiscard]] named_tensors unwrapped(std::string_view prefix) const {
    std::vector<stored_tensor> kept;
    for (stored_tensor const& tensor : tensors_) {
      if (!std::string_view(tensor.name).starts_with(prefix)) continue;
      kept.push_back(tensor);
      kept.back().name.erase(0, prefix.size());
    }
    bool const alone = kept.size() == tensors_.size();
    if (kept.empty() || (!alone && prefix != "state_dict." && prefix != "model.")) return *this;
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
