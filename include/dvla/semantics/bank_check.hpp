// What is remarkable about a bank: what would make training fail, and what would make it worse.
#pragma once

#include <map>
#include <set>

#include <dvla/semantics/bank.hpp>
#include <dvla/semantics/selection.hpp>

namespace dvla::inline DVLA_ABI {

/// How grave a finding is: an error makes a bank unusable, a warning should be looked at, a note is information.
enum class finding_kind { error, warning, note };

struct bank_finding {
  finding_kind kind = finding_kind::note;
  std::string text;
};

namespace detail {

class bank_checker {
 public:
  explicit bank_checker(semantic_bank const& bank) : bank_(bank), index_(bank) {}

  [[nodiscard]] std::vector<bank_finding> run() {
    sizes();
    names();
    values();
    fallbacks();
    similarities();
    return std::move(found_);
  }

 private:
  void add(finding_kind kind, std::string text) { found_.push_back({kind, std::move(text)}); }

  [[nodiscard]] static std::string quoted(std::string const& name) { return concat("'", name, "'"); }

  /// "'a', 'b' and 3 more".
  [[nodiscard]] static std::string some(std::vector<std::string> const& items) {
    std::size_t const shown = std::min<std::size_t>(items.size(), 8);
    std::string text;
    for (std::size_t i = 0; i < shown; ++i) text += (i > 0 ? ", " : "") + items[i];
    if (items.size() > shown) text += concat(" and ", items.size() - shown, " more");
    return text;
  }

  /// Adds a class once, though several of its vectors are meant: those of a class lie together.
  static void add_once(std::vector<std::string>& to, std::string const& folder) {
    if (to.empty() || to.back() != quoted(folder)) to.push_back(quoted(folder));
  }

  void sizes() {
    std::size_t rows = 0, images = 0;
    for (auto const& b : bank_.blocks) rows += b.phrases.size(), images += !b.support.empty();
    add(finding_kind::note,
        concat(bank_.classes.size(), " classes, ", rows, " vectors of width ", bank_.width,
               images > 0 ? ", some of single images" : "", "; encoder: ", bank_.encoder.empty() ? "not known" : bank_.encoder));
    std::map<std::size_t, std::size_t> counts;
    for (auto const& c : bank_.classes) {
      auto const* local = index_.find(c.folder, bank_role::intrinsic, bank_level::local);
      ++counts[local == nullptr ? 0 : local->phrases.size()];
    }
    std::string text;
    for (auto const& [phrases, classes] : counts) text += concat(text.empty() ? "" : ", ", classes, " classes with ", phrases);
    add(counts.size() > 1 ? finding_kind::warning : finding_kind::note, concat("local phrases: ", text));
  }

  void names() {
    std::map<std::string, std::vector<std::string>> same;
    for (auto const& c : bank_.classes) same[plain_name(c.folder)].push_back(quoted(c.folder));
    for (auto const& [plain, folders] : same)
      if (folders.size() > 1) add(finding_kind::warning, concat("classes that differ in capitals or '_' alone: ", some(folders)));
    std::set<std::string_view> own;
    for (auto const& b : bank_.blocks)
      if (b.support.empty() && b.role != bank_role::nuisance) own.insert(b.folder);
    std::vector<std::string> none;
    for (auto const& c : bank_.classes)
      if (!own.contains(c.folder)) none.push_back(quoted(c.folder));
    if (!none.empty()) add(finding_kind::error, concat("classes without a vector of their own: ", some(none)));
  }

  void values() {
    std::vector<std::string> broken, zero;
    double least = 1e300, most = 0;
    for (auto const& b : bank_.blocks)
      for (std::size_t r = 0; r < b.phrases.size(); ++r) {
        double squares = 0;
        for (float const x : std::span(b.rows).subspan(r * bank_.width, bank_.width))
          squares += static_cast<double>(x) * static_cast<double>(x);
        if (!std::isfinite(squares))
          add_once(broken, b.folder);
        else if (squares == 0)
          add_once(zero, b.folder);
        else
          least = std::min(least, std::sqrt(squares)), most = std::max(most, std::sqrt(squares));
      }
    if (!broken.empty()) add(finding_kind::error, concat("vectors with NaN or infinite elements: ", some(broken)));
    if (!zero.empty()) add(finding_kind::error, concat("vectors of zeros: ", some(zero)));
    if (most > 0 && (least < 0.999 || most > 1.001))
      add(finding_kind::warning,
          concat("vectors are not of unit length: ", rounded(least), " to ", rounded(most), "; --unit scales them"));
  }

  void fallbacks() {
    std::vector<std::string> local, global;
    for (auto const& b : bank_.blocks) {
      if (!b.support.empty() || b.role != bank_role::intrinsic || b.phrases[0].origin != "class name") continue;
      (b.level == bank_level::local ? local : global).push_back(quoted(b.folder));
    }
    if (!local.empty())
      add(finding_kind::note,
          concat("the class-name template stands for the attributes of ", local.size(), " classes: ", some(local)));
    if (!global.empty())
      add(finding_kind::note,
          concat("the class-name template stands for the description of ", global.size(), " classes: ", some(global)));
  }

  /// Mean cosine of two classes' global vectors, and pairs that can hardly be told apart.
  void similarities() {
    std::vector<std::pair<std::string, std::span<float const>>> rows;
    for (auto const& c : bank_.classes) {
      auto const* b = index_.find(c.folder, bank_role::intrinsic, bank_level::global);
      if (b != nullptr && std::all_of(b->rows.begin(), b->rows.end(), [](float x) { return std::isfinite(x); }))
        rows.emplace_back(c.folder, std::span(b->rows).subspan(0, bank_.width));
    }
    double sum = 0;
    std::size_t pairs = 0;
    std::vector<std::string> near;
    for (std::size_t i = 0; i < rows.size(); ++i)
      for (std::size_t j = 0; j < i; ++j) {
        double const c = cosine(rows[i].second, rows[j].second);
        sum += c, ++pairs;
        if (c > 0.98) near.push_back(concat(quoted(rows[j].first), " and ", quoted(rows[i].first), " (", rounded(c), ")"));
      }
    if (pairs == 0) return;
    double const mean = sum / static_cast<double>(pairs);
    add(mean > 0.3 ? finding_kind::warning : finding_kind::note,
        concat("mean cosine of two classes' global vectors: ", rounded(mean),
               mean > 0.3 ? "; they are not centred: --centre subtracts their mean" : ""));
    if (!near.empty())
      add(finding_kind::warning, concat(near.size(), " pairs of classes with nearly the same global vector: ", some(near)));
  }

  [[nodiscard]] static double rounded(double x) { return std::round(1000 * x) / 1000; }

  semantic_bank const& bank_;
  bank_index index_;
  std::vector<bank_finding> found_;
};

}  // namespace detail

/// Looks a bank over: sizes, names, NaN, zeros, lengths, fallbacks, similarity of classes. Never throws for what it finds.
[[nodiscard]] inline std::vector<bank_finding> check_bank(semantic_bank const& bank) { return detail::bank_checker(bank).run(); }

}  // namespace dvla::inline DVLA_ABI
