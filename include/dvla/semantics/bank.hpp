// A bank: what is known of classes as vectors, each with the text it encodes and where that came from.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <string_view>
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

  /// The block of a class itself, or nullptr.
  [[nodiscard]] bank_block const* find(std::string_view folder, bank_role role, bank_level level,
                                       std::string_view support = {}) const {
    for (auto const& b : blocks)
      if (b.role == role && b.level == level && b.folder == folder && b.support == support) return &b;
    return nullptr;
  }
};

namespace detail {

/// The class that a data set's folder means: of that name, or else of that name in plain letters; classes.size() for none.
[[nodiscard]] inline std::size_t class_in(semantic_bank const& bank, std::string const& folder) {
  auto const& all = bank.classes;
  auto at = std::find_if(all.begin(), all.end(), [&](bank_class const& c) { return c.folder == folder; });
  auto const plain = plain_name(folder);
  if (at == all.end())
    at = std::find_if(all.begin(), all.end(), [&](bank_class const& c) { return plain_name(c.folder) == plain; });
  return static_cast<std::size_t>(at - all.begin());
}

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

}  // namespace detail

/// Those of the classes that the bank does not have.
[[nodiscard]] inline std::vector<std::string> missing_classes(semantic_bank const& bank, std::span<std::string const> classes) {
  std::vector<std::string> out;
  for (auto const& name : classes)
    if (detail::class_in(bank, name) == bank.classes.size()) out.push_back(name);
  return out;
}

/// Throws one error that names every class of every split (name and classes) that the bank does not have.
inline void expect_classes(semantic_bank const& bank, std::span<std::pair<std::string, std::vector<std::string>> const> splits) {
  std::string text;
  std::size_t count = 0;
  for (auto const& [split, classes] : splits) {
    auto const missing = missing_classes(bank, classes);
    count += missing.size();
    if (!missing.empty()) text += concat(text.empty() ? "" : "; ", split.empty() ? "" : split + ": ", detail::list_of(missing));
  }
  expect(count == 0, bank.source, " has no vectors for ", count, count == 1 ? " class: " : " classes: ", text,
         "; add them to the bank, or rename the folders");
}

namespace detail {

/// The rows of a class that stand for its local phrases and for the whole: what is missing is made of what is there.
struct class_rows {
  std::span<float const> local{}, global{}, name{};
};

[[nodiscard]] inline class_rows rows_of(semantic_bank const& bank, std::string const& folder) {
  auto const rows = [&](bank_role role, bank_level level) {
    auto const* block = bank.find(folder, role, level);
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

}  // namespace detail

/// What a model sees of these classes in this order: the first `phrases` local vectors of each (no more than the class with most
/// has; where a class has fewer the class-name template, or its global vector, fills up) and a global one. A class is found by its
/// folder as it is, or with '_' as ' ' in lower case. Throws for classes that are not there, all named, and for NaN.
[[nodiscard]] inline class_vectors vectors_of(semantic_bank const& bank, std::span<std::string const> classes,
                                              std::size_t phrases = 4) {
  expect(phrases > 0, bank.source, ": 0 phrases a class were asked for; give at least 1");
  std::pair<std::string, std::vector<std::string>> const wanted{"", {classes.begin(), classes.end()}};
  expect_classes(bank, std::span(&wanted, 1));
  class_vectors out{std::min(phrases, detail::most_phrases(bank)), bank.width};
  auto const append = [](std::vector<float>& to, std::span<float const> from) { to.insert(to.end(), from.begin(), from.end()); };
  for (auto const& name : classes) {
    auto const& folder = bank.classes[detail::class_in(bank, name)].folder;
    auto const rows = detail::rows_of(bank, folder);
    std::size_t const own = std::min(out.phrases, rows.local.size() / bank.width);
    append(out.local, rows.local.subspan(0, own * bank.width));
    for (std::size_t i = own; i < out.phrases; ++i) append(out.local, rows.name);
    append(out.global, rows.global);
    auto const finite = [](float x) { return std::isfinite(x); };
    auto const begin = out.local.end() - static_cast<std::ptrdiff_t>(out.phrases * bank.width);
    expect(std::all_of(begin, out.local.end(), finite) && std::all_of(rows.global.begin(), rows.global.end(), finite), bank.source,
           ": class '", folder, "' has a vector with NaN or infinite elements; encode it again");
  }
  return out;
}

}  // namespace dvla::inline DVLA_ABI
