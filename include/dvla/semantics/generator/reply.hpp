// From what a language model wrote to JSON that satisfies a schema, or a sentence. A pure function of any bytes, linear in them.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/semantics/generator/schema.hpp>
#include <dvla/semantics/generator/text.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// The text behind a reasoning model's thoughts. Templates that open <think> in the prompt leave only its end in the reply.
[[nodiscard]] inline std::string_view without_thoughts(std::string_view text) {
  constexpr std::string_view open = "<think>", close = "</think>";
  if (auto const end = text.rfind(close); end != std::string_view::npos) return text.substr(end + close.size());
  return text.substr(0, text.find(open));  // thoughts that were cut hold no answer
}

/// The inside of the first block between ``` marks, without the language's name; the rest where the second mark is missing.
[[nodiscard]] inline std::string_view first_fence(std::string_view text) {
  constexpr std::string_view mark = "```";
  auto const open = text.find(mark);
  if (open == std::string_view::npos) return {};
  std::string_view inside = text.substr(open + mark.size());
  std::size_t const name = inside.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
  inside.remove_prefix(name == std::string_view::npos ? inside.size() : name);
  return inside.substr(0, inside.find(mark));
}

/// The balanced {...} parts of a text one after the other, none inside another. `cut` says that the last one is not closed.
struct balanced_objects {
  std::vector<std::string_view> parts{};
  bool cut = false;
};

/// One pass. Quotes count only inside braces, so that an inch sign or a quotation in the prose does no harm.
[[nodiscard]] inline balanced_objects find_objects(std::string_view text, std::size_t most = 16) {
  balanced_objects found;
  std::size_t begin = 0, depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size() && found.parts.size() < most; ++i) {
    char const c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '{') {
      if (depth++ == 0) begin = i;
    } else if (depth > 0 && c == '"') {
      in_string = true;
    } else if (depth > 0 && c == '}' && --depth == 0) {
      found.parts.push_back(text.substr(begin, i + 1 - begin));
    }
  }
  found.cut = depth > 0;
  return found;
}

}  // namespace detail

/// Reads a reply: the whole of it, what is between ``` marks, then each balanced object in it, after <think>...</think> was
/// dropped. The first that satisfies the schema is the value; otherwise the problem tells what is wrong with the best one found.
/// Nothing is repaired. Any bytes are taken, up to 1 MiB.
[[nodiscard]] inline json_reading read_reply(std::string_view raw, nlohmann::json const& schema) {
  constexpr std::size_t longest = std::size_t{1} << 20;
  if (raw.size() > longest) return {{}, concat("the reply has ", raw.size(), " bytes; at most ", longest, " are read")};
  if (detail::is_blank(raw)) return {{}, "the reply is empty"};
  json_reading best;
  std::string parse_problem, schema_problem;
  bool of_object = false;  // whether schema_problem is about an object, which tells more than that there is another value
  auto const take = [&](std::string_view part) {
    if (detail::is_blank(part)) return false;
    json_reading reading = detail::read_json(part);
    if (!reading.ok()) {
      parse_problem = concat("the reply ", reading.problem);
      return false;
    }
    std::string problem = check_schema(reading.value, schema);
    if (problem.empty()) {
      best = std::move(reading);
      return true;
    }
    if (!of_object) schema_problem = std::move(problem);
    of_object = of_object || reading.value.is_object();
    return false;
  };
  if (take(raw)) return best;
  std::string_view const answer = detail::without_thoughts(raw);
  if (take(detail::first_fence(answer))) return best;
  auto const objects = detail::find_objects(answer);
  for (std::string_view const part : objects.parts)
    if (take(part)) return best;
  if (!schema_problem.empty()) return {{}, std::move(schema_problem)};
  if (objects.cut) return {{}, "the reply ends inside a JSON object"};
  if (objects.parts.empty() && detail::nests_within(raw, 64)) return {{}, "the reply holds no JSON object"};
  return {{}, std::move(parse_problem)};
}

}  // namespace dvla::inline DVLA_ABI
