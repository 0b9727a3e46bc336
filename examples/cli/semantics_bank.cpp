// dvla semantics select, encode, merge and check: everything between texts and a bank that asks nobody.
#include <cstdio>

#include <dvla/data/image_folder.hpp>
#include <dvla/semantics/bank_check.hpp>
#include <dvla/semantics/bank_merge.hpp>
#include <dvla/semantics/encode_bank.hpp>

#include "printable.hpp"
#include "semantics_options.hpp"
#include "text_encoders.hpp"

namespace cli {
namespace {

/// The rows of all classes' templates but one's.
std::vector<float> without(std::vector<float> const& rows, std::size_t width, std::size_t place) {
  std::vector<float> out(rows);
  auto const begin = out.begin() + static_cast<std::ptrdiff_t>(place * width);
  out.erase(begin, begin + static_cast<std::ptrdiff_t>(width));
  return out;
}

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

/// Classes by split of a data set, or of a folder of classes.
std::vector<std::pair<std::string, std::vector<std::string>>> splits_of(std::string const& root) {
  std::vector<std::pair<std::string, std::vector<std::string>>> out;
  for (char const* split : {"base", "val", "novel"})
    if (std::filesystem::is_directory(std::filesystem::path(root) / split))
      out.emplace_back(split, dvla::open_split(root, split).classes);
  if (out.empty()) out.emplace_back("", dvla::open_image_folder(root).classes);
  return out;
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
  dvla::selection_settings settings;
  settings.mode = o.mode == "progressive" ? dvla::selection_mode::progressive
                  : o.mode == "one-shot"  ? dvla::selection_mode::one_shot
                                          : dvla::selection_mode::none;
  settings.k = o.k;
  settings.duplicate = o.duplicate;
  std::vector<float> templates;
  std::map<std::string, std::size_t> places;
  if (o.foreign) {
    settings.foreign = *o.foreign;
    std::vector<std::string> names;
    for (auto const& c : bank.entries)
      if (places.emplace(c.folder, names.size()).second) names.push_back(dvla::class_template(c.name));
    templates = encoder.encode(std::span<std::string const>(names));
  }
  std::size_t kept = 0, few = 0;
  for (auto& c : bank.entries) {
    auto const others = o.foreign ? without(templates, encoder.width(), places.at(c.folder)) : std::vector<float>();
    c.selection = dvla::select_attributes(c.name, c.attributes, encoder, settings, others);
    kept += c.selection->chosen.size();
    few += c.selection->chosen.size() < o.k;
  }
  dvla::write_texts(o.out, bank);
  std::printf("%s: %s selection kept %zu attributes of %zu entries; dropped: %s\n", o.out.c_str(), o.mode.c_str(), kept,
              bank.entries.size(), drops_of(bank).c_str());
  if (few > 0) std::printf("%zu entries have fewer than %zu\n", few, o.k);
}

void semantics_encode(encode_options const& o) {
  auto const texts = dvla::read_texts(o.texts);
  dvla::expect_place_for_bank(o.out);
  auto const encoder = open_encoder(o.encoder);
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
