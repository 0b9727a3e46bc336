// A bank: what is known of classes as vectors, each with the text it encodes and where that came from.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dvla/core/error.hpp>
#include <dvla/semantics/class_vectors.hpp>
#include <dvla/semantics/plain_text.hpp>

namespace dvla::inline DVLA_ABI {

/// What a vector says of its class: its name alone (the fallback), what is its own, or what merely comes along in images.
enum class bank_role { name, intrinsic, nuisance };
/// One of several phrases, or the whole in one.
enum class bank_level { local, global };

[[nodiscard]] constexpr char const* to_string(bank_role role) {
  return role == bank_role::name ? "name" : role == bank_role::intrinsic ? "intrinsic" : "nuisance";
}
[[nodiscard]] constexpr char const* to_string(bank_level level) { return level == bank_level::local ? "local" : "global"; }

/// Where a vector comes from.
struct bank_phrase {
  std::string text{};             ///< what was encoded; empty for published vectors
  std::optional<double> score{};  ///< with which it was selected
  std::string origin{};           ///< "attribute", "description", "class name", "mean of the attributes", "published vector", ...
};

/// The vectors of a class, or of one support image of it, in one role and level: phrases.size() rows.
struct bank_block {
  std::string folder, support{};  ///< support: the image; empty for the class
  bank_role role = bank_role::intrinsic;
  bank_level level = bank_level::local;
  std::vector<bank_phrase> phrases{};
  std::vector<float> rows{};
};

/// What is kept of a class beside its vectors.
struct bank_class {
  std::string folder, name;
  nlohmann::json story = nlohmann::json::object();  ///< its texts: candidates, scores by step, what was dropped, provenance
};

/// The vectors of named classes, all of one width.
struct semantic_bank {
  std::string source{};   ///< the file, for messages
  std::string encoder{};  ///< identity of the text encoder; empty where it is not known
  std::string hash{};     ///< sha256 of the vectors' file; empty for a bank made in memory
  std::size_t width = 0;
  nlohmann::json about = nlohmann::json::object();  ///< generator, settings and whatever else is known of the whole
  std::vector<bank_class> classes{};
  std::vector<bank_block> blocks{};

  /// The block of a class itself, or of an image of it; nullptr for none. Looks at every block: a bank_index finds those of many classes.
  [[nodiscard]] bank_block const* find(std::string_view folder, bank_role role, bank_level level,
                                       std::string_view support = {}) const {
    for (auto const& b : blocks)
      if (b.role == role && b.level == level && b.folder == folder && b.support == support) return &b;
    return nullptr;
  }
};

/// Classes and their blocks by name, for as long as the bank is there and its classes and blocks stay as they are. Making it takes time
/// in proportion to the bank, a look into it next to none. Of several of one name the first counts.
class bank_index {
 public:
  explicit bank_index(semantic_bank const& bank) {
    for (std::size_t i = 0; i < bank.classes.size(); ++i) {
      exact_.emplace(bank.classes[i].folder, i);
      plain_.emplace(plain_name(bank.classes[i].folder), i);
    }
    for (auto const& b : bank.blocks)
      if (b.support.empty()) blocks_.emplace(std::tuple(std::string_view(b.folder), b.role, b.level), &b);
  }

  /// The place of the class that a data set's folder means: of that name, or else of that name in plain letters.
  [[nodiscard]] std::optional<std::size_t> class_of(std::string const& folder) const {
    if (auto const at = exact_.find(folder); at != exact_.end()) return at->second;
    if (auto const at = plain_.find(plain_name(folder)); at != plain_.end()) return at->second;
    return std::nullopt;
  }

  /// The block of a class itself, or nullptr.
  [[nodiscard]] bank_block const* find(std::string_view folder, bank_role role, bank_level level) const {
    auto const at = blocks_.find({folder, role, level});
    return at == blocks_.end() ? nullptr : at->second;
  }

 private:
  std::unordered_map<std::string_view, std::size_t> exact_;
  std::unordered_map<std::string, std::size_t> plain_;
  std::map<std::tuple<std::string_view, bank_role, bank_level>, bank_block const*> blocks_;
};

namespace detail {

/// The most local phrases that any class has, and at least 1.
[[nodiscard]] inline std::size_t most_phrases(semantic_bank const& bank) {
  std::size_t most = 1;
  for (auto const& b : bank.blocks)
    if (b.support.empty() && b.role == bank_role::intrinsic && b.level == bank_level::local)
      most = std::max(most, b.phrases.size());
  return most;
}

[[nodiscard]] inline std::string list_of(std::span<std::string const> names) {
  std::string text;
  for (auto const& name : names) text += concat(text.empty() ? "" : ", ", "'", name, "'");
  return text;
}

[[nodiscard]] inline std::vector<std::string> missing_classes(bank_index const& index, std::span<std::string const> classes) {
  std::vector<std::string> out;
  for (auto const& name : classes)
    if (!index.class_of(name)) out.push_back(name);
  return out;
}

/// Classes of a split, or of none in particular, by the split's name.
using split_classes = std::pair<std::string, std::vector<std::string>>;

inline void expect_classes(std::string const& source, bank_index const& index, std::span<split_classes const> splits) {
  std::string text;
  std::size_t count = 0;
  for (auto const& [split, classes] : splits) {
    auto const missing = missing_classes(index, classes);
    count += missing.size();
    if (!missing.empty()) text += concat(text.empty() ? "" : "; ", split.empty() ? "" : split + ": ", list_of(missing));
  }
  expect(count == 0, source, " has no vectors for ", count, count == 1 ? " class: " : " classes: ", text,
         "; add them to the bank, or rename the folders");
}

}  // namespace detail

/// Those of the classes that the bank does not have.
[[nodiscard]] inline std::vector<std::string> missing_classes(semantic_bank const& bank, std::span<std::string const> classes) {
  return detail::missing_classes(bank_index(bank), classes);
}

/// Throws one error that names every class of every split (name and classes) that the bank does not have.
inline void expect_classes(semantic_bank const& bank, std::span<std::pair<std::string, std::vector<std::string>> const> splits) {
  detail::expect_classes(bank.source, bank_index(bank), splits);
}

namespace detail {

/// The rows of a class that stand for its local phrases and for the whole: what is missing is made of what is there.
struct class_rows {
  std::span<float const> local{}, global{}, name{};
};

[[nodiscard]] inline class_rows rows_of(semantic_bank const& bank, bank_index const& index, std::string const& folder) {
  auto const rows = [&](bank_role role, bank_level level) {
    auto const* block = index.find(folder, role, level);
    return block == nullptr ? std::span<float const>() : std::span<float const>(block->rows);
  };
  class_rows out{rows(bank_role::intrinsic, bank_level::local), rows(bank_role::intrinsic, bank_level::global),
                 rows(bank_role::name, bank_level::global)};
  if (out.global.empty()) out.global = !out.name.empty() ? out.name : out.local;
  expect(!out.global.empty(), bank.source, ": class '", folder, "' has no vector of its own; encode it again or leave it out");
  out.global = out.global.subspan(0, bank.width);
  if (out.name.empty()) out.name = out.global;
  return out;
}

/// Whether one of the rows has no element but zeros.
[[nodiscard]] inline bool has_zero_row(std::span<float const> rows, std::size_t width) {
  for (std::size_t begin = 0; begin < rows.size(); begin += width) {
    auto const row = rows.subspan(begin, width);
    if (std::all_of(row.begin(), row.end(), [](float x) { return x == 0; })) return true;
  }
  return false;
}

/// Vectors of classes in the making, and which of them are zeros.
class class_vectors_maker {
 public:
  class_vectors_maker(semantic_bank const& bank, bank_index const& index, std::size_t phrases)
      : bank_(bank), index_(index), out_{std::min(phrases, most_phrases(bank)), bank.width} {}

  void add(std::string const& folder) {
    auto const rows = rows_of(bank_, index_, folder);
    std::size_t const begin = out_.local.size(), own = std::min(out_.phrases, rows.local.size() / out_.width);
    append(out_.local, rows.local.subspan(0, own * out_.width));
    for (std::size_t i = own; i < out_.phrases; ++i) append(out_.local, rows.name);
    append(out_.global, rows.global);
    auto const local = std::span<float const>(out_.local).subspan(begin);
    auto const finite = [](float x) { return std::isfinite(x); };
    expect(std::all_of(local.begin(), local.end(), finite) && std::all_of(rows.global.begin(), rows.global.end(), finite),
           bank_.source, ": class '", folder, "' has a vector with NaN or infinite elements; encode it again");
    bool const local_zero = has_zero_row(local, out_.width), global_zero = has_zero_row(rows.global, out_.width);
    if (local_zero || global_zero)
      zeros_.push_back(concat("'", folder, "' (", local_zero ? "local" : "", local_zero && global_zero ? " and " : "",
                              global_zero ? "global" : "", ")"));
  }

  /// Throws one error that names every class with a vector of zeros, which has no direction to learn from.
  [[nodiscard]] class_vectors take() {
    std::string text;
    for (auto const& zero : zeros_) text += (text.empty() ? "" : ", ") + zero;
    expect(zeros_.empty(), bank_.source, " has vectors of zeros for ", zeros_.size(), zeros_.size() == 1 ? " class: " : " classes: ",
           text, "; encode ", zeros_.size() == 1 ? "it" : "them", " again");
    return std::move(out_);
  }

 private:
  static void append(std::vector<float>& to, std::span<float const> from) { to.insert(to.end(), from.begin(), from.end()); }

  semantic_bank const& bank_;
  bank_index const& index_;
  class_vectors out_;
  std::vector<std::string> zeros_;
};

}  // namespace detail

/// What a model sees of these classes in this order: the first `phrases` local vectors of each (no more than the class with most
/// has; where a class has fewer the class-name template, or its global vector, fills up) and a global one. A class is found by its
/// folder as it is, or with '_' as ' ' in lower case. Throws for classes that are not there or have a vector of zeros among these,
/// all named with the level, and for NaN.
[[nodiscard]] inline class_vectors vectors_of(semantic_bank const& bank, std::span<std::string const> classes,
                                              std::size_t phrases = 4) {
  expect(phrases > 0, bank.source, ": 0 phrases a class were asked for; give at least 1");
  bank_index const index(bank);
  detail::split_classes const wanted{"", {classes.begin(), classes.end()}};
  detail::expect_classes(bank.source, index, std::span(&wanted, 1));
  detail::class_vectors_maker made(bank, index, phrases);
  for (auto const& name : classes) made.add(bank.classes[*index.class_of(name)].folder);
  return made.take();
}

}  // namespace dvla::inline DVLA_ABI
