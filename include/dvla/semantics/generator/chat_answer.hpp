// What a chat-completions server answered, read defensively: each oddity here was seen from some server.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/semantics/generator/text.hpp>

namespace dvla::inline DVLA_ABI {

struct chat_answer {
  std::string text{}, finish_reason{}, refusal{};
  std::string model{}, fingerprint{};  ///< as the server names them
  std::uint64_t prompt_tokens = 0, completion_tokens = 0;
  bool usage_known = false;
  std::string problem{};  ///< why there is no text; empty where there is one
};

namespace detail {

/// The member's string; empty where there is none or it is something else.
[[nodiscard]] inline std::string string_member(nlohmann::json const& object, char const* name) {
  if (!object.is_object()) return {};
  auto const found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

/// A count of tokens; 0 for what is none.
[[nodiscard]] inline std::uint64_t count_member(nlohmann::json const& object, char const* name) {
  auto const found = object.find(name);
  if (found == object.end() || !found->is_number_integer()) return 0;
  constexpr std::uint64_t most = std::uint64_t{1} << 40;
  if (found->is_number_unsigned()) return std::min(found->get<std::uint64_t>(), most);
  return found->get<std::int64_t>() < 0 ? 0 : std::min(static_cast<std::uint64_t>(found->get<std::int64_t>()), most);
}

/// A message's text: content as a string or as parts; where that is empty, what a reasoning model left beside it.
[[nodiscard]] inline std::string message_text(nlohmann::json const& message) {
  std::string text = string_member(message, "content");
  if (message.is_object() && message.contains("content") && message["content"].is_array())
    for (auto const& part : message["content"]) text += part.is_string() ? part.get<std::string>() : string_member(part, "text");
  for (char const* const other : {"reasoning_content", "reasoning"})
    if (text.empty()) text = string_member(message, other);
  return text;
}

inline void read_usage(nlohmann::json const& body, chat_answer& out) {
  auto const usage = body.find("usage");
  if (usage == body.end() || !usage->is_object()) return;
  out.usage_known = true;
  out.prompt_tokens = count_member(*usage, "prompt_tokens");
  out.completion_tokens = count_member(*usage, "completion_tokens");
}

}  // namespace detail

/// Reads a completion.
[[nodiscard]] inline chat_answer read_chat_answer(nlohmann::json const& body) {
  chat_answer out;
  if (!body.is_object()) return out.problem = "its answer is no JSON object", out;
  out.model = detail::string_member(body, "model");
  out.fingerprint = detail::string_member(body, "system_fingerprint");
  detail::read_usage(body, out);
  auto const choices = body.find("choices");
  if (choices == body.end() || !choices->is_array() || choices->empty()) return out.problem = "its answer has no choices", out;
  nlohmann::json const& choice = choices->front();
  out.finish_reason = detail::string_member(choice, "finish_reason");
  if (choice.is_object() && choice.contains("message")) {
    out.text = detail::message_text(choice["message"]);
    out.refusal = detail::string_member(choice["message"], "refusal");
  }
  if (out.text.empty() && out.refusal.empty()) out.problem = "its answer has no text";
  return out;
}

/// A streamed answer ("data: {...}" lines up to "data: [DONE]") put together as one completion.
[[nodiscard]] inline json_reading read_chat_stream(std::string_view stream) {
  nlohmann::json whole = nlohmann::json::object();
  std::string content, reasoning, finish;
  bool done = false;
  while (!stream.empty() && !done) {
    auto const end = stream.find('\n');
    std::string_view line = stream.substr(0, end);
    stream.remove_prefix(end == std::string_view::npos ? stream.size() : end + 1);
    if (!line.starts_with("data:")) continue;  // comments, event names, empty lines
    line.remove_prefix(5);
    while (line.starts_with(' ')) line.remove_prefix(1);
    while (line.ends_with('\r') || line.ends_with(' ')) line.remove_suffix(1);
    done = line == "[DONE]";
    if (done || line.empty()) continue;
    json_reading event = detail::read_json(line);
    if (!event.ok()) return {{}, concat("holds an event that ", event.problem)};
    if (!event.value.is_object()) return {{}, "holds an event that is no object"};
    for (char const* const name : {"model", "system_fingerprint", "usage", "error"})
      if (event.value.contains(name) && !event.value[name].is_null()) whole[name] = event.value[name];
    auto const choices = event.value.find("choices");
    if (choices == event.value.end() || !choices->is_array() || choices->empty()) continue;
    nlohmann::json const& choice = choices->front();
    if (std::string reason = detail::string_member(choice, "finish_reason"); !reason.empty()) finish = std::move(reason);
    if (!choice.is_object() || !choice.contains("delta")) continue;
    content += detail::string_member(choice["delta"], "content");
    reasoning += detail::string_member(choice["delta"], "reasoning_content");
  }
  if (!done && finish.empty() && !whole.contains("error")) return {{}, "ends before the last event"};
  if (!content.empty() || !reasoning.empty() || !finish.empty())
    whole["choices"] = {{{"finish_reason", finish}, {"message", {{"content", content}, {"reasoning_content", reasoning}}}}};
  return {std::move(whole), {}};
}

}  // namespace dvla::inline DVLA_ABI
