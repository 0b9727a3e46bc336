// The body of a chat-completions request, in the form that vLLM, llama.cpp, Ollama, SGLang, DashScope and OpenAI all take.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>
#include <dvla/semantics/generation.hpp>
#include <dvla/semantics/generator/chat_options.hpp>
#include <dvla/semantics/generator/text.hpp>

namespace dvla::inline DVLA_ABI {

/// What was learnt about a server while asking it.
struct chat_mode {
  chat_rung rung = chat_rung::json_schema;
  bool completion_tokens = false;  ///< the limit goes by the name max_completion_tokens
  bool stream = false;             ///< the model only answers piece by piece
};

/// A reply that could not be used, and why: quoted when the question is put once more.
struct refused_reply {
  std::string text{}, problem{};

  [[nodiscard]] bool any() const { return !problem.empty(); }
};

namespace detail {

/// What is said about the form where the server does not enforce it. DashScope wants the word JSON in the prompt.
[[nodiscard]] inline std::string form_request(nlohmann::json const& schema) {
  return concat("Answer with one JSON object that satisfies this JSON schema, and with nothing else: ",
                canonical_text(schema, "a schema"));
}

[[nodiscard]] inline nlohmann::json response_format(chat_rung rung, nlohmann::json const& schema) {
  if (rung == chat_rung::json_object) return {{"type", "json_object"}};
  return {{"type", "json_schema"}, {"json_schema", {{"name", "dvla_semantics"}, {"strict", true}, {"schema", schema}}}};
}

/// Images first, the text last; a plain string without images, which models without a processor for images take as well.
[[nodiscard]] inline nlohmann::json user_content(std::string const& text, std::span<std::string const> image_urls) {
  if (image_urls.empty()) return text;
  nlohmann::json parts = nlohmann::json::array();
  for (auto const& url : image_urls) parts.push_back({{"type", "image_url"}, {"image_url", {{"url", url}}}});
  parts.push_back({{"type", "text"}, {"text", text}});
  return parts;
}

}  // namespace detail

/// The body that asks this. `image_urls` are the request's images as data URLs, `max_tokens` the limit of this try.
[[nodiscard]] inline nlohmann::json chat_body(chat_options const& options, generation_request const& request,
                                              std::span<std::string const> image_urls, chat_mode mode, std::size_t max_tokens,
                                              refused_reply const& refused = {}) {
  using nlohmann::json;
  bool const formed = !request.schema.is_null();
  std::string prompt = request.prompt;
  if (formed && mode.rung != chat_rung::json_schema) prompt += "\n\n" + detail::form_request(request.schema);
  json messages = json::array();
  if (!options.system.empty()) messages.push_back({{"role", "system"}, {"content", options.system}});
  messages.push_back({{"role", "user"}, {"content", detail::user_content(prompt, image_urls)}});
  if (refused.any()) {
    std::string again = concat("That answer cannot be used: ", refused.problem, ".");
    if (formed) again += " " + detail::form_request(request.schema);
    messages.push_back({{"role", "assistant"}, {"content", detail::excerpt(refused.text, 2000)}});
    messages.push_back({{"role", "user"}, {"content", again}});
  }
  json body{{"model", options.model}, {"messages", messages}, {"temperature", options.temperature},
            {"top_p", options.top_p}, {"seed", options.seed}, {"stream", mode.stream}};
  body[mode.completion_tokens ? "max_completion_tokens" : "max_tokens"] = max_tokens;
  if (formed && mode.rung != chat_rung::plain) body["response_format"] = detail::response_format(mode.rung, request.schema);
  body.merge_patch(options.extra_body);
  return body;
}

}  // namespace dvla::inline DVLA_ABI
