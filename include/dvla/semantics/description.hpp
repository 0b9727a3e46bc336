// A class's description from a generator's answer, or what stands for it.
#pragma once

#include <string>
#include <string_view>

#include <dvla/semantics/prompts.hpp>

namespace dvla::inline DVLA_ABI {

/// A description and how it came about.
struct class_description {
  std::string text;
  bool fallback = false;   ///< it is the class-name template
  std::string reason{};    ///< why it is, or what was done to the answer; empty for an answer taken as it was
  std::string rejected{};  ///< the answer where it was not taken
};

namespace detail {

/// The sentences that fit the limits, as many as do from the first; empty where the first does not.
[[nodiscard]] inline std::string first_sentences(std::string_view text, text_limits limits) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    bool const end = (text[i] == '.' || text[i] == '!' || text[i] == '?') && (i + 1 == text.size() || text[i + 1] == ' ');
    if (!end) continue;
    std::string_view const part = text.substr(0, i + 1);
    if (!screen_length(part, words_of(part).size(), limits).ok()) break;
    kept = i + 1;
  }
  return std::string(text.substr(0, kept));
}

}  // namespace detail

/// Whether a text serves as description of the class: a text too long is cut after the last sentence that fits, any other fault (a
/// refusal, another language, an instruction, markup) makes it the class-name template. Reason and rejected text are kept.
[[nodiscard]] inline class_description describe_class(std::string const& name, std::string_view answer,
                                                      text_limits limits = description_limits) {
  auto text = tidy_text(answer);
  auto found = screen_text(text, limits);
  if (found.ok() && words_of(text).size() < 3) found = {text_fault::empty, "it has fewer than three words"};
  if (found.fault == text_fault::too_long) {
    auto cut = detail::first_sentences(text, limits);
    if (!cut.empty()) return {std::move(cut), false, concat("cut after a sentence: ", found.reason), excerpt(text)};
  }
  if (found.ok()) return {std::move(text)};
  return {class_template(name), true, concat(to_string(found.fault), ": ", found.reason), excerpt(text)};
}

/// Whether a text names the class: a word of it begins with a word of the name, or, from four letters on, the other way round.
[[nodiscard]] inline bool names_class(std::string_view text, std::string_view name) {
  auto own = word_set(name);
  if (own.size() > 1) std::erase_if(own, detail::is_empty_word);
  if (own.empty()) return true;
  for (auto const& word : words_of(lower_case(text)))
    for (auto const& n : own)
      if (word.starts_with(n) || (word.size() >= 4 && n.starts_with(word))) return true;
  return false;
}

/// The same for a generator's result, which must also name the class: weak models describe whatever they were shown last.
[[nodiscard]] inline class_description describe_class(std::string const& name, generation_result const& result,
                                                      text_limits limits = description_limits) {
  if (!result.ok()) return {class_template(name), true, concat("no answer: ", result.failure)};
  auto const& reply = result.reply;
  bool const formed = reply.is_object() && reply.contains("description") && reply.at("description").is_string();
  if (!formed) return {class_template(name), true, "malformed: the answer has no text \"description\""};
  std::string const& text = reply.at("description").get_ref<std::string const&>();
  auto out = describe_class(name, std::string_view(text), limits);
  if (out.fallback || names_class(out.text, name)) return out;
  return {class_template(name), true, concat(to_string(text_fault::foreign), ": it does not name the class"), excerpt(tidy_text(text))};
}

}  // namespace dvla::inline DVLA_ABI
