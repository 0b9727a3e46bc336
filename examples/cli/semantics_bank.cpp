// dvla semantics select, encode, merge and check: everything between texts and a bank that asks nobody.
#include <cstdio>

#include <dvla/semantics/bank_check.hpp>
#include <dvla/semantics/bank_merge.hpp>
#include <dvla/semantics/encode_bank.hpp>

#include "class_splits.hpp"
#include "console.hpp"
#include "printable.hpp"
#include "semantics_options.hpp"
#include "text_encoders.hpp"
#include "watched_encoder.hpp"

namespace cli {
namespace {

dvla::selection_settings settings_of(select_options const& o) {
  dvla::selection_settings settings;
  settings.mode = o.mode == "progressive" ? dvla::selection_mode::progressive
                  : o.mode == "one-shot"  ? dvla::selection_mode::one_shot
                                          : dvla::selection_mode::none;
  settings.k = o.k;
  settings.duplicate = o.duplicate;
  if (o.foreign) settings.foreign = *o.foreign;
  return settings;
}

/// The classes' templates, which --foreign compares candidates with; none where it can do nothing, which is said.
class other_templates {
 public:
  other_templates(dvla::text_bank const& bank, select_options const& o, dvla::any_text_encoder const& encoder) : width_(encoder.width()) {
    if (!o.foreign) return;
    std::vector<std::string> names;
    for (auto const& c : bank.entries)
      if (places_.emplace(c.folder, names.size()).second) names.push_back(dvla::class_template(c.name));
    if (o.mode != "progressive")
      std::fprintf(stderr, "--foreign does nothing here: selection of the mode %s drops no candidates for it\n", o.mode.c_str());
    else if (names.size() < 3)
      std::fprintf(stderr,
                   "--foreign does nothing here: it compares with two other classes or more, and %s has %zu in all; no candidate is "
                   "dropped for it\n",
                   o.texts.c_str(), names.size());
    else
      rows_ = watched_encoder(encoder).encode(names);
  }

  /// The rows of all classes but one.
  [[nodiscard]] std::vector<float> but(std::string const& folder) const {
    std::vector<float> out(rows_);
    if (out.empty()) return out;
    auto const begin = out.begin() + static_cast<std::ptrdiff_t>(places_.at(folder) * width_);
    out.erase(begin, begin + static_cast<std::ptrdiff_t>(width_));
    return out;
  }

 private:
  std::size_t width_;
  std::map<std::string, std::size_t> places_;
  std::vector<float> rows_;
};

/// How many attributes went for which reason, over all classes.
std::string drops_of(dvla::text_bank const& bank) {
  std::map<std::string, std::size_t> counts;
  for (auto const& c : bank.entries)
    for (auto const& d : c.selection->dropped) ++counts[to_string(d.fault)];
  std::string text;
  for (auto const& [fault, count] : counts) text += dvla::concat(text.empty() ? "" : ", ", count, " ", fault);
  return text.empty() ? "none" : text;
}

bool report(std::vector<dvla::bank_finding> const& found) {
  bool usable = true;
  for (auto const& f : found) {
    char const* kind = f.kind == dvla::finding_kind::error ? "error: " : f.kind == dvla::finding_kind::warning ? "warning: " : "";
    say("%s%s\n", kind, f.text.c_str());
    usable = usable && f.kind != dvla::finding_kind::error;
  }
  return usable;
}

/// What `check` finds in texts: those that would not be used.
std::vector<dvla::bank_finding> check_texts(dvla::text_bank const& bank) {
  std::vector<dvla::bank_finding> out;
  std::size_t classes = 0, images = 0, described = 0, selected = 0;
  auto const warn = [&](dvla::class_texts const& c, std::string const& text, dvla::screening const& found) {
    if (!found.ok())
      out.push_back({dvla::finding_kind::warning, dvla::concat("class '", c.folder, "': '", dvla::excerpt(text, 80),
                                                               "' is not used, ", to_string(found.fault), ": ", found.reason)});
  };
  for (auto const& c : bank.entries) {
    ++(c.support.empty() ? classes : images);
    described += c.support.empty() && !c.description.empty();
    selected += c.support.empty() && c.selection.has_value();
    for (auto const& a : c.attributes) warn(c, a, dvla::screen_text(dvla::tidy_text(a), dvla::attribute_limits));
    if (!c.description.empty()) warn(c, c.description, dvla::screen_text(dvla::tidy_text(c.description), dvla::description_limits));
    if (!c.failure.empty())
      out.push_back({dvla::finding_kind::warning, dvla::concat("class '", c.folder, "' has no attributes: ", c.failure)});
  }
  out.insert(out.begin(),
             {dvla::finding_kind::note, dvla::concat(classes, " classes, ", described, " with a description, ", selected,
                                                     " with selected attributes; texts of ", images, " single images")});
  return out;
}

}  // namespace

void semantics_select(select_options const& o) {
  auto bank = dvla::read_texts(o.texts);
  auto const encoder = open_encoder(o.encoder);
  auto const settings = settings_of(o);
  other_templates const templates(bank, o, encoder);
  std::size_t kept = 0, few = 0, done = 0;
  progress_line line;
  for (auto& c : bank.entries) {
    c.selection = dvla::select_attributes(c.name, c.attributes, encoder, settings, templates.but(c.folder));
    kept += c.selection->chosen.size();
    few += c.selection->chosen.size() < o.k;
    double const fraction = static_cast<double>(++done) / static_cast<double>(bank.entries.size());
    if (line.due(fraction)) line.show(fraction, dvla::concat(done, " of ", bank.entries.size(), " entries selected"));
  }
  line.clear();
  dvla::write_texts(o.out, bank);
  std::printf("%s: %s selection kept %zu attributes of %zu entries; dropped: %s\n", o.out.c_str(), o.mode.c_str(), kept,
              bank.entries.size(), drops_of(bank).c_str());
  if (few > 0) std::printf("%zu entries have fewer than %zu\n", few, o.k);
}

void semantics_encode(encode_options const& o) {
  auto const texts = dvla::read_texts(o.texts);
  dvla::expect_place_for_bank(o.out);
  watched_encoder const encoder(open_encoder(o.encoder));
  dvla::encode_settings settings;
  for (auto const content :
       {dvla::bank_content::both, dvla::bank_content::attributes, dvla::bank_content::description, dvla::bank_content::names})
    if (o.levels == to_string(content)) settings.content = content;
  settings.phrases = o.phrases;
  settings.from_intrinsic = o.from_intrinsic;
  settings.roles = !o.no_roles;
  auto made = dvla::encode_bank(texts, encoder, settings);
  if (o.centre || o.unit) dvla::normalise(made.bank, o.centre, o.unit);
  dvla::write_bank(o.out, made.bank);
  std::size_t const shown = std::min<std::size_t>(made.notes.size(), 20);
  for (std::size_t i = 0; i < shown; ++i) std::fprintf(stderr, "%s\n", printable(made.notes[i]).c_str());
  if (shown < made.notes.size()) std::fprintf(stderr, "and %zu more\n", made.notes.size() - shown);
  std::printf("%s: %zu classes, width %zu, levels %s, by %s\n", dvla::detail::bank_paths(o.out).vectors.c_str(),
              made.bank.classes.size(), made.bank.width, o.levels.c_str(), made.bank.encoder.c_str());
}

void semantics_merge(merge_options const& o) {
  std::vector<dvla::semantic_bank> banks;
  for (auto const& file : o.banks) {
    dvla::expect(!dvla::holds_texts(file), file, " holds texts; merge joins banks, encode the texts first");
    banks.push_back(dvla::read_vectors(file));
  }
  auto const clash = o.on_clash == "first"  ? dvla::merge_clash::first
                     : o.on_clash == "last" ? dvla::merge_clash::last
                                            : dvla::merge_clash::refuse;
  auto merged = dvla::merge_banks(banks, clash);
  if (o.centre || o.unit) dvla::normalise(merged, o.centre, o.unit);
  dvla::write_bank(o.out, merged);
  std::printf("%s: %zu classes of %zu banks\n", dvla::detail::bank_paths(o.out).vectors.c_str(), merged.classes.size(),
              banks.size());
}

void semantics_check(check_options const& o) {
  dvla::semantic_bank bank;
  bool usable;
  if (dvla::holds_texts(o.file)) {
    auto const texts = dvla::read_texts(o.file);
    bank.source = o.file;
    for (auto const& c : texts.entries) bank.classes.push_back({c.folder, c.name});
    usable = report(check_texts(texts));
  } else {
    bank = dvla::read_vectors(o.file);
    usable = report(dvla::check_bank(bank));
  }
  if (!o.data.empty()) dvla::expect_classes(bank, splits_of(o.data));
  dvla::expect(usable, o.file, " cannot be used as it is; see the errors above");
}

}  // namespace cli
