// What is said of classes in words: candidate attributes, which were selected and why, a description; and its file.
#pragma once

#include <dvla/io/atomic_file.hpp>
#include <dvla/semantics/bounded_json.hpp>
#include <dvla/semantics/selection.hpp>

namespace dvla::inline DVLA_ABI {

/// Phrases of a role (intrinsic or nuisance) as DVLA-RL++ takes them: several local ones and a sentence.
struct phrase_set {
  std::vector<std::string> local{};
  std::string global{};
};

/// What is said of a class, or of one support image of it.
struct class_texts {
  std::string folder, name;
  std::vector<std::string> attributes{};  ///< candidates
  std::string description{};              ///< empty where there is none
  std::string support{};                  ///< the image that this is about; empty: the class
  std::optional<attribute_selection> selection{};
  std::optional<phrase_set> intrinsic{}, nuisance{};
  std::vector<std::string> supports{};    ///< images that were shown
  std::vector<rejected_text> rejected{};  ///< what answers held that was no attribute
  std::string failure{};                  ///< why there are no attributes
  std::string description_note{};         ///< what was done to the description's answer, or why it is the class-name template
  nlohmann::json provenance = nlohmann::json::object();

  /// The attributes that count: those selected, or all.
  [[nodiscard]] std::vector<std::string> selected() const { return selection ? selection->attributes() : attributes; }
};

/// A file of texts: {"generator"?, "classes": {folder: {"name"?, "attributes"?, "description"?, ...}}}.
struct text_bank {
  std::string source{};
  nlohmann::json generator{};          ///< whatever the file says of where its texts come from
  std::vector<class_texts> entries{};  ///< classes in the order of their folders; support images behind their class
};

namespace detail {

using json = nlohmann::json;

[[nodiscard]] inline std::vector<std::string> texts_at(json const& object, char const* key) {
  return object.contains(key) ? object.at(key).get<std::vector<std::string>>() : std::vector<std::string>();
}
[[nodiscard]] inline std::string text_at(json const& object, char const* key) {
  return object.contains(key) && !object.at(key).is_null() ? object.at(key).get<std::string>() : std::string();
}

/// JSON has no NaN: null stands for it.
[[nodiscard]] inline json number_or_null(double x) { return std::isfinite(x) ? json(x) : json(nullptr); }

[[nodiscard]] inline text_fault fault_named(std::string const& name) {
  for (int i = 0; i <= static_cast<int>(text_fault::not_chosen); ++i)
    if (name == to_string(static_cast<text_fault>(i))) return static_cast<text_fault>(i);
  fail("'", name, "' is no fault of a text");
}

[[nodiscard]] inline json to_json(std::vector<rejected_text> const& rejected) {
  json out = json::array();
  for (auto const& r : rejected) out.push_back({{"text", r.text}, {"fault", to_string(r.fault)}, {"reason", r.reason}});
  return out;
}
[[nodiscard]] inline std::vector<rejected_text> rejected_from(json const& list) {
  std::vector<rejected_text> out;
  for (auto const& r : list)
    out.push_back(
        {r.at("text").get<std::string>(), fault_named(r.at("fault").get<std::string>()), r.at("reason").get<std::string>()});
  return out;
}

[[nodiscard]] inline json to_json(attribute_selection const& s) {
  json steps = json::array();
  for (auto const& step : s.steps) {
    json scores = json::array();
    for (double const x : step.scores) scores.push_back(number_or_null(x));
    steps.push_back({{"text", step.text}, {"scores", scores}, {"chosen", step.chosen}});
  }
  return {{"mode", to_string(s.mode)}, {"encoder", s.encoder},         {"candidates", s.candidates}, {"steps", steps},
          {"chosen", s.chosen},        {"dropped", to_json(s.dropped)}};
}

[[nodiscard]] inline std::size_t index_from(json const& number, std::size_t size) {
  expect(number.is_number_unsigned() && number.get<std::uint64_t>() < size, "the index ", number.dump(),
         " of a selection is none of its ", size, " candidates");
  return number.get<std::size_t>();
}

[[nodiscard]] inline attribute_selection selection_from(json const& from) {
  attribute_selection out;
  auto const mode = from.at("mode").get<std::string>();
  expect(mode == "progressive" || mode == "one-shot" || mode == "none", "'", mode, "' is no way to select attributes");
  out.mode = mode == "progressive" ? selection_mode::progressive
             : mode == "one-shot"  ? selection_mode::one_shot
                                   : selection_mode::none;
  out.encoder = from.at("encoder").get<std::string>();
  out.candidates = from.at("candidates").get<std::vector<std::string>>();
  for (auto const& step : from.at("steps")) {
    selection_step s{step.at("text").get<std::string>(), {}, index_from(step.at("chosen"), out.candidates.size())};
    for (auto const& x : step.at("scores"))
      s.scores.push_back(x.is_null() ? std::numeric_limits<double>::quiet_NaN() : x.get<double>());
    expect(s.scores.size() == out.candidates.size(), "a step of a selection has ", s.scores.size(), " scores for ",
           out.candidates.size(), " candidates");
    out.steps.push_back(std::move(s));
  }
  for (auto const& i : from.at("chosen")) out.chosen.push_back(index_from(i, out.candidates.size()));
  out.dropped = rejected_from(from.at("dropped"));
  return out;
}

[[nodiscard]] inline std::optional<phrase_set> phrases_from(json const& entry, char const* role) {
  if (!entry.contains(role)) return {};
  return phrase_set{texts_at(entry.at(role), "local"), text_at(entry.at(role), "global")};
}

[[nodiscard]] inline class_texts texts_from(std::string const& folder, json const& entry) {
  class_texts out;
  out.folder = folder;
  out.name = plain_name(folder);
  if (entry.contains("name")) out.name = entry.at("name").get<std::string>();
  out.attributes = texts_at(entry, "attributes");
  out.description = text_at(entry, "description");
  out.supports = texts_at(entry, "supports");
  out.failure = text_at(entry, "failure");
  out.description_note = text_at(entry, "description_note");
  out.intrinsic = phrases_from(entry, "intrinsic");
  out.nuisance = phrases_from(entry, "nuisance");
  if (entry.contains("selection")) out.selection = selection_from(entry.at("selection"));
  if (entry.contains("rejected")) out.rejected = rejected_from(entry.at("rejected"));
  if (entry.contains("provenance")) out.provenance = entry.at("provenance");
  return out;
}

/// The same, of which something can be made; errors name the class.
[[nodiscard]] inline class_texts sound_texts(std::string const& folder, json const& entry) {
  expect(entry.is_object(), "class '", folder, "' is ", entry.is_null() ? "" : "a ", entry.type_name(),
         "; expected {\"attributes\": [...], \"description\": \"...\"}");
  class_texts out;
  try {
    out = texts_from(folder, entry);
  } catch (json::exception const& problem) {
    fail("class '", folder, "': ", problem.what(), "; expected {\"attributes\": [...], \"description\": \"...\"}");
  } catch (error const& problem) {
    fail("class '", folder, "': ", problem.what());
  }
  expect(!out.attributes.empty() || !out.description.empty() || !out.failure.empty(), "class '", folder,
         "' has neither attributes nor a description; give one of them");
  return out;
}

[[nodiscard]] inline json to_json(class_texts const& c) {
  json out{{"name", c.name}, {"attributes", c.attributes}};
  auto const add = [&](char const* key, auto const& value) {
    if (!value.empty()) out[key] = value;
  };
  add("description", c.description);
  add("supports", c.supports);
  add("failure", c.failure);
  add("description_note", c.description_note);
  if (c.intrinsic) out["intrinsic"] = {{"local", c.intrinsic->local}, {"global", c.intrinsic->global}};
  if (c.nuisance) out["nuisance"] = {{"local", c.nuisance->local}, {"global", c.nuisance->global}};
  if (c.selection) out["selection"] = to_json(*c.selection);
  if (!c.rejected.empty()) out["rejected"] = to_json(c.rejected);
  add("provenance", c.provenance);
  return out;
}

}  // namespace detail

/// Reads a file of texts; a class without a name has its folder's, in plain letters. Throws for anything else.
[[nodiscard]] inline text_bank read_texts(std::filesystem::path const& path) {
  text_bank out;
  out.source = path.string();
  auto const parsed = parse_bounded(out.source, read_text(path));
  expect(!parsed.is_object() || parsed.value("format", nlohmann::json()) != "dvla bank", out.source,
         " holds a bank's words, not texts; give the file that the bank was encoded from");
  try {
    if (parsed.is_object() && parsed.contains("generator")) out.generator = parsed.at("generator");
    for (auto const& [folder, entry] : parsed.at("classes").items()) {
      out.entries.push_back(detail::sound_texts(folder, entry));
      if (!entry.contains("per_image")) continue;
      for (auto const& [support, from] : entry.at("per_image").items()) {
        out.entries.push_back(detail::sound_texts(folder, from));
        out.entries.back().support = support;
      }
    }
  } catch (nlohmann::json::exception const& problem) {
    fail(out.source, " is no bank of texts: ", problem.what(),
         "; expected {\"classes\": {folder: {\"attributes\": [...], \"description\": \"...\"}}}");
  } catch (error const& problem) {
    fail(out.source, " is no bank of texts: ", problem.what());
  }
  expect(!out.entries.empty(), out.source, " holds no classes");
  return out;
}

/// Writes a file of texts that read_texts reads back equal, complete or not at all.
inline void write_texts(std::filesystem::path const& path, text_bank const& bank) {
  nlohmann::json out{{"classes", nlohmann::json::object()}};
  if (!bank.generator.is_null()) out["generator"] = bank.generator;
  for (auto const& c : bank.entries) {
    auto& entry = out["classes"][c.folder];
    if (c.support.empty())
      entry.update(detail::to_json(c));
    else
      entry["per_image"][c.support] = detail::to_json(c);
  }
  write_atomically(path, out.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

}  // namespace dvla::inline DVLA_ABI
