// Texts of a language model are data: what they are is found out before anything is made of them, and the finding is kept.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/semantics/plain_text.hpp>

namespace dvla::inline DVLA_ABI {

/// Why a text is not used. The first seven are faults of the text alone, the others come of its place among others.
enum class text_fault {
  none,
  empty,
  malformed,
  too_long,
  refusal,
  not_english,
  injection,
  generic,
  duplicate,
  foreign,
  not_chosen
};

/// The fault's name in files.
[[nodiscard]] constexpr char const* to_string(text_fault fault) {
  constexpr char const* names[] = {"none",        "empty",   "malformed", "too long", "refusal",   "not English",
                                   "instruction", "generic", "duplicate", "foreign",  "not chosen"};
  return names[static_cast<std::size_t>(fault)];
}

/// A text that is not used, and a sentence on why.
struct rejected_text {
  std::string text;
  text_fault fault = text_fault::none;
  std::string reason{};
};

/// How long a text may be.
struct text_limits {
  std::size_t words = 0, characters = 0;
};
inline constexpr text_limits attribute_limits{14, 120};
inline constexpr text_limits description_limits{80, 600};

/// What is wrong with a text, if anything is.
struct screening {
  text_fault fault = text_fault::none;
  std::string reason{};

  [[nodiscard]] bool ok() const { return fault == text_fault::none; }
};

namespace detail {

/// The first of the phrases that stands in the text (lower case, single blanks) between word ends; empty for none.
[[nodiscard]] inline std::string_view phrase_in(std::string_view text, std::span<std::string_view const> phrases) {
  auto const is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  for (std::string_view const phrase : phrases)
    for (std::size_t at = text.find(phrase); at != std::string_view::npos; at = text.find(phrase, at + 1)) {
      bool const begins = at == 0 || !is_letter(text[at - 1]) || !is_letter(phrase.front());
      std::size_t const end = at + phrase.size();
      if (begins && (end == text.size() || !is_letter(text[end]) || !is_letter(phrase.back()))) return phrase;
    }
  return {};
}

/// "ignore your instructions", "disregard all the previous rules": a verb and, within six words, what it is about.
[[nodiscard]] inline bool overrides_instructions(std::vector<std::string> const& words) {
  constexpr std::string_view verbs[] = {"ignore", "ignoring", "disregard", "forget", "override", "bypass"};
  constexpr std::string_view things[] = {"instruction", "instructions", "prompt", "prompts", "rules", "guidelines", "directions"};
  auto const among = [](auto const& list, std::string const& word) {
    return std::find(std::begin(list), std::end(list), word) != std::end(list);
  };
  for (std::size_t i = 0; i < words.size(); ++i)
    if (among(verbs, words[i]))
      for (std::size_t j = i + 1; j < words.size() && j <= i + 6; ++j)
        if (among(things, words[j])) return true;
  return false;
}

[[nodiscard]] inline screening screen_injection(std::string_view lower, std::vector<std::string> const& words) {
  // clang-format off
  constexpr std::string_view phrases[] = {
      "system prompt", "you are now", "new instructions", "developer mode", "jailbreak", "respond with", "respond only",
      "reply with", "output the", "print the", "your instructions", "previous instructions", "<|", "|>", "[inst]", "[/inst]",
      "<<sys>>", "assistant:", "system:", "user:", "human:", "### instruction", "do not follow", "api key", "execute the",
      "classify this", "classify all", "as the answer"};
  // clang-format on
  if (overrides_instructions(words)) return {text_fault::injection, "it tells its reader to leave instructions aside"};
  auto const found = phrase_in(lower, phrases);
  if (found.empty()) return {};
  return {text_fault::injection, concat("it speaks to a program ('", found, "') instead of describing")};
}

[[nodiscard]] inline screening screen_refusal(std::string_view lower) {
  // clang-format off
  constexpr std::string_view phrases[] = {
      "i'm sorry", "i am sorry", "i cannot", "i can't", "i can not", "i'm unable", "i am unable", "i'm not able",
      "i am not able", "i won't", "i will not", "i don't", "i do not", "as an ai", "language model", "ai assistant",
      "unable to identify", "unable to determine", "unable to provide", "unable to assist", "unable to see", "unable to view",
      "unable to answer", "unable to describe", "cannot identify", "cannot determine", "cannot provide", "cannot assist",
      "cannot be determined", "can't assist", "can't help", "no image", "not provided", "not applicable", "n/a",
      "please provide", "please upload", "no attributes", "sorry, but", "apologies"};
  // clang-format on
  constexpr std::string_view whole[] = {"none", "unknown", "null", "nothing", "not sure", "unclear"};
  auto const found = phrase_in(lower, phrases);
  if (!found.empty()) return {text_fault::refusal, concat("it declines to answer ('", found, "')")};
  auto const end = lower.find_last_not_of(" .!");
  std::string_view const bare = end == std::string_view::npos ? std::string_view() : lower.substr(0, end + 1);
  for (auto const w : whole)
    if (bare == w) return {text_fault::refusal, concat("'", w, "' is no description")};
  return {};
}

/// Other scripts by their letters, other languages in Latin letters by small words that English does not have.
[[nodiscard]] inline screening screen_language(std::string_view text, std::vector<std::string> const& words) {
  // clang-format off
  constexpr std::string_view theirs[] = {
      "der", "das", "und", "ist", "mit", "eine", "einen", "einem", "einer", "nicht", "sehr", "auf", "oder", "les", "des", "est",
      "une", "avec", "dans", "pour", "aux", "du", "et", "sur", "el", "los", "las", "una", "muy", "para", "es", "por", "del",
      "il", "gli", "della", "che", "di", "um", "uma", "com", "dos", "het", "een", "voor", "zijn", "och", "ett", "som", "med",
      "og"};
  // clang-format on
  constexpr std::string_view ours[] = {"the", "a",  "an", "and", "of",   "with", "in",   "is",
                                       "on",  "to", "or", "its", "that", "are",  "from", "at"};
  auto const count = [&](auto const& list) {
    return std::count_if(words.begin(), words.end(),
                         [&](std::string const& w) { return std::find(std::begin(list), std::end(list), w) != std::end(list); });
  };
  std::size_t latin = 0, other = 0;
  for_each_code_point(text, [&](char32_t c) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= 0xC0 && c < 0x250)) ++latin;
    if (c >= 0x370 && (c < 0x2000 || c >= 0x2C00)) ++other;
  });
  if (other > 0 && 4 * other > latin)
    return {text_fault::not_english, concat(other, " of its ", other + latin, " letters are of another script")};
  auto const foreign = count(theirs), english = count(ours);
  if (foreign >= 2 && foreign > english)
    return {text_fault::not_english, concat("it has ", foreign, " small words of other languages and ", english, " of English")};
  return {};
}

[[nodiscard]] inline screening screen_form(std::string_view text) {
  if (!is_utf8(text)) return {text_fault::malformed, "it is not valid UTF-8"};
  if (std::any_of(text.begin(), text.end(), [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; }))
    return {text_fault::malformed, "it holds control characters"};
  constexpr std::string_view marks[] = {"{", "}", "```", "</", "/>", "\\n", "\\u", "://", "[", "]", "\":"};
  for (auto const mark : marks)
    if (text.find(mark) != std::string_view::npos)
      return {text_fault::malformed, concat("it holds '", mark, "', a piece of code or markup")};
  auto const is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i - 1] == '<' && is_letter(text[i])) return {text_fault::malformed, "it holds a tag"};
    if (text[i] == '_' && is_letter(text[i - 1])) return {text_fault::malformed, "it holds an identifier with '_'"};
  }
  return {};
}

[[nodiscard]] inline screening screen_length(std::string_view text, std::size_t words, text_limits limits) {
  std::size_t characters = 0;
  for_each_code_point(text, [&](char32_t) { ++characters; });
  if (words <= limits.words && characters <= limits.characters) return {};
  return {text_fault::too_long, concat(words, " words and ", characters, " characters, where ", limits.words, " and ",
                                       limits.characters, " are the most")};
}

/// Words that say nothing of how a thing looks, alone or together.
[[nodiscard]] inline bool is_empty_word(std::string_view word) {
  // clang-format off
  constexpr std::string_view words[] = {
      "a", "an", "the", "and", "or", "of", "in", "with", "its", "is", "for", "on", "appearance", "look", "looks", "cute",
      "nice", "beautiful", "typical", "distinctive", "distinguishing", "unique", "recognisable", "recognizable", "feature",
      "features", "attribute", "attributes", "characteristic", "characteristics", "shape", "color", "colour", "colors",
      "colours", "size", "texture", "pattern", "object", "thing", "item", "image", "photo", "picture", "visible", "overall",
      "general", "common", "various", "interesting", "natural", "normal", "usual", "standard", "good", "quality", "high",
      "clear", "background", "foreground", "name", "class", "category", "type", "label", "subject", "main"};
  // clang-format on
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

}  // namespace detail

/// A text by itself: form, length, refusals, other languages, instructions. The text is one of tidy_text.
[[nodiscard]] inline screening screen_text(std::string_view text, text_limits limits) {
  if (text.empty()) return {text_fault::empty, "it is empty"};
  if (auto found = detail::screen_form(text); !found.ok()) return found;
  auto const lower = lower_case(text);
  auto const words = words_of(lower);
  if (words.empty()) return {text_fault::empty, "it holds no word"};
  // What a long text says is looked at before its length: an instruction is the graver finding.
  if (auto found = detail::screen_injection(lower, words); !found.ok()) return found;
  if (auto found = detail::screen_refusal(lower); !found.ok()) return found;
  if (auto found = detail::screen_language(text, words); !found.ok()) return found;
  return detail::screen_length(text, words.size(), limits);
}

/// Whether an attribute says nothing of this class: only words such as "distinctive shape", or the class's whole name again.
[[nodiscard]] inline screening screen_generic(std::string_view attribute, std::string_view name) {
  auto said = word_set(attribute);
  std::erase_if(said, detail::is_empty_word);
  if (!said.empty() && said != word_set(name)) return {};
  return {text_fault::generic, "it says nothing that could be seen of this class rather than of another"};
}

}  // namespace dvla::inline DVLA_ABI
