// dvla semantics show: a class's story.
#include <cmath>
#include <cstdio>
#include <map>

#include <dvla/semantics/encode_bank.hpp>

#include "printable.hpp"
#include "semantics_options.hpp"

namespace cli {
namespace {

using dvla::class_texts;

void show_steps(dvla::attribute_selection const& s) {
  say("  selection: %s by %s\n", to_string(s.mode), s.encoder.empty() ? "?" : s.encoder.c_str());
  for (std::size_t i = 0; i < s.steps.size(); ++i) {
    auto const& step = s.steps[i];
    say("  step %zu, compared with \"%s\"\n", i + 1, step.text.c_str());
    for (std::size_t j = 0; j < step.scores.size(); ++j) {
      bool const taken =
          s.mode == dvla::selection_mode::progressive ? j == step.chosen : std::count(s.chosen.begin(), s.chosen.end(), j) > 0;
      if (std::isfinite(step.scores[j]))
        say("    %c %+.3f  %s\n", taken ? '*' : ' ', step.scores[j], s.candidates[j].c_str());
    }
  }
}

void show_rejected(char const* title, std::vector<dvla::rejected_text> const& list) {
  if (!list.empty()) say("  %s\n", title);
  for (auto const& r : list) say("    %s: %s (%s)\n", to_string(r.fault), r.text.c_str(), r.reason.c_str());
}

void show_phrases(char const* role, std::optional<dvla::phrase_set> const& phrases) {
  if (!phrases) return;
  say("  %s: %s\n", role, phrases->global.c_str());
  for (auto const& text : phrases->local) say("    %s\n", text.c_str());
}

void show_story(class_texts const& c) {
  say("%s, \"%s\"%s%s\n", c.folder.c_str(), c.name.c_str(), c.support.empty() ? "" : ", image ", c.support.c_str());
  if (!c.supports.empty()) say("  images shown: %s\n", dvla::detail::list_of(c.supports).c_str());
  if (!c.failure.empty()) say("  no attributes: %s\n", c.failure.c_str());
  show_rejected("not taken from the answer:", c.rejected);
  if (!c.selection && !c.attributes.empty()) {
    std::printf("  candidates:\n");
    for (auto const& a : c.attributes) say("    %s\n", a.c_str());
  }
  if (c.selection) {
    show_steps(*c.selection);
    show_rejected("dropped:", c.selection->dropped);
    std::printf("  selected:\n");
    for (auto const& a : c.selection->attributes()) say("    %s\n", a.c_str());
  }
  if (!c.description.empty()) say("  description: %s\n", c.description.c_str());
  if (!c.description_note.empty()) say("    (%s)\n", c.description_note.c_str());
  show_phrases("intrinsic", c.intrinsic);
  show_phrases("nuisance", c.nuisance);
}

/// The story of a class and those of its single images.
void show_stories(dvla::bank_class const& c) {
  show_story(dvla::detail::texts_from(c.folder, c.story));
  if (!c.story.contains("per_image")) return;
  for (auto const& [support, story] : c.story.at("per_image").items()) {
    auto image = dvla::detail::texts_from(c.folder, story);
    image.support = support;
    show_story(image);
  }
}

void show_blocks(dvla::semantic_bank const& bank, std::string const& folder) {
  say("  vectors of width %zu by %s\n", bank.width,
              bank.encoder.empty() ? "an encoder that is not known" : bank.encoder.c_str());
  for (auto const& b : bank.blocks) {
    if (b.folder != folder) continue;
    for (auto const& p : b.phrases) {
      say("    %s %s%s%s: %s%s%s", to_string(b.role), to_string(b.level), b.support.empty() ? "" : " of ",
                  b.support.c_str(), p.origin.c_str(), p.text.empty() ? "" : ", ", p.text.c_str());
      if (p.score) say("  (score %.3f)", *p.score);
      std::putchar('\n');
    }
  }
}

[[noreturn]] void no_class(std::string const& file, std::string const& folder) {
  dvla::fail(file, " has no class '", folder, "'; `dvla semantics show ", file, "` lists them");
}

void show_texts(show_options const& o) {
  auto const bank = dvla::read_texts(o.file);
  for (auto const& folder : o.classes) {
    bool found = false;
    for (auto const& c : bank.entries)
      if (c.folder == folder) show_story(c), found = true;
    if (!found) no_class(o.file, folder);
  }
  if (!o.classes.empty()) return;
  for (auto const& c : bank.entries)
    if (c.support.empty())
      say("%s: %zu candidates, %zu selected, %s%s%s\n", c.folder.c_str(), c.attributes.size(), c.selected().size(),
                  c.description.empty() ? "no description" : "a description", c.failure.empty() ? "" : "; ", c.failure.c_str());
}

void show_bank(show_options const& o) {
  auto const bank = dvla::read_vectors(o.file);
  dvla::bank_index const index(bank);
  for (auto const& folder : o.classes) {
    auto const at = index.class_of(folder);
    if (!at) no_class(o.file, folder);
    auto const& c = bank.classes[*at];
    if (c.story.empty())
      say("%s, \"%s\"\n", c.folder.c_str(), c.name.c_str());
    else
      show_stories(c);
    show_blocks(bank, c.folder);
  }
  if (!o.classes.empty()) return;
  std::map<std::string_view, std::size_t> rows;
  for (auto const& b : bank.blocks) rows[b.folder] += b.phrases.size();
  for (auto const& c : bank.classes) say("%s, \"%s\": %zu vectors\n", c.folder.c_str(), c.name.c_str(), rows[c.folder]);
}

}  // namespace

void semantics_show(show_options const& o) {
  if (dvla::holds_texts(o.file))
    show_texts(o);
  else
    show_bank(o);
}

}  // namespace cli
