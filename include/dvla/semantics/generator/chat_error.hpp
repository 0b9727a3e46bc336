// What a server said instead of an answer, and what to do about it.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>
#include <dvla/semantics/generator/chat_answer.hpp>
#include <dvla/semantics/generator/chat_body.hpp>
#include <dvla/semantics/generator/text.hpp>

namespace dvla::inline DVLA_ABI {

/// A server's error; `message` is fit for one line of a message.
struct server_error {
  std::string message{}, type{}, code{};
};

/// What to do next.
enum class chat_verdict {
  answered,
  retry,       ///< later
  step_down,   ///< ask for the form in another way
  rename_max,  ///< say max_completion_tokens
  stream,      ///< ask for a stream
  failed,      ///< this request cannot succeed
  fatal        ///< no request can
};

namespace detail {

[[nodiscard]] inline std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

[[nodiscard]] inline bool mentions(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::any_of(words.begin(), words.end(), [&](std::string_view word) { return text.find(word) != std::string_view::npos; });
}

/// A string, or a number's digits.
[[nodiscard]] inline std::string word_member(nlohmann::json const& object, char const* name) {
  auto const found = object.find(name);
  if (found == object.end()) return {};
  return found->is_string() ? found->get<std::string>() : found->is_number_integer() ? found->dump() : std::string{};
}

[[nodiscard]] inline server_error error_members(nlohmann::json const& object) {
  return {excerpt(word_member(object, "message")), excerpt(word_member(object, "type"), 80),
          excerpt(word_member(object, "code"), 80)};
}

}  // namespace detail

/// The error in a body: {"error": {...}}, {"error": "..."}, the members themselves (older vLLM, DashScope), {"detail": ...}
/// (FastAPI, some with another error as a string inside); otherwise the first 300 bytes.
[[nodiscard]] inline server_error read_server_error(std::string_view body, int depth = 0) {
  json_reading const reading = detail::read_json(body);
  server_error const plain{detail::excerpt(body), {}, {}};
  if (!reading.ok() || !reading.value.is_object()) return plain;
  nlohmann::json const& value = reading.value;
  if (auto const error = value.find("error"); error != value.end()) {
    if (error->is_object() && error->contains("message")) return detail::error_members(*error);
    if (error->is_string()) return {detail::excerpt(error->get<std::string>()), {}, detail::word_member(value, "code")};
  }
  if (value.contains("message")) return detail::error_members(value);
  if (auto const found = value.find("detail"); found != value.end()) {
    if (!found->is_string()) return {detail::excerpt(found->dump()), {}, {}};
    std::string const text = found->get<std::string>();
    return depth < 2 ? read_server_error(text, depth + 1) : server_error{detail::excerpt(text), {}, {}};
  }
  return plain;
}

/// Whether the model does not take images: llama.cpp (status 500), vLLM, and others in like words.
[[nodiscard]] inline bool is_blind(server_error const& error) {
  return detail::mentions(detail::lower(error.message),
                          {"image input is not supported", "not a multimodal model", "not support image", "not support vision",
                           "missing data required for image input"});
}

/// What follows from a status and an error, given how the request was asked.
[[nodiscard]] inline chat_verdict judge(long status, server_error const& error, chat_mode mode) {
  if (status >= 200 && status < 300) return chat_verdict::answered;
  std::string const kind = detail::lower(concat(error.type, " ", error.code)),
                    all = concat(kind, " ", detail::lower(error.message));
  if (status < 400 || status == 401 || status == 402 || status == 403 || status == 404 || status == 405) return chat_verdict::fatal;
  // Rate limits may be explained with a link to a page on billing.
  bool const unpaid = detail::mentions(all, {"insufficient_quota", "billing", "arrearage", "insufficient balance"});
  if (is_blind(error)) return chat_verdict::fatal;
  if (unpaid && !detail::mentions(kind, {"rate_limit"})) return chat_verdict::fatal;
  if (status == 408 || status == 409 || status == 425 || status == 429) return chat_verdict::retry;
  bool const about_length =
      detail::mentions(all, {"exceed_context_size", "context_length_exceeded", "maximum context length", "context size"});
  if (about_length) return chat_verdict::failed;
  bool const about_form =
      detail::mentions(all, {"response_format", "json_schema", "json_object", "grammar", "guided", "structured output"});
  if (about_form && mode.rung != chat_rung::plain) return chat_verdict::step_down;
  if (status >= 500) return chat_verdict::retry;
  if (!mode.completion_tokens && all.find("max_tokens") != std::string::npos) return chat_verdict::rename_max;
  if (!mode.stream && detail::mentions(all, {"stream mode", "stream=true", "enable the stream"})) return chat_verdict::stream;
  return chat_verdict::failed;
}

/// What the user can do about an error; begins with "; ", or is empty.
[[nodiscard]] inline std::string_view remedy_for(long status, server_error const& error) {
  if (is_blind(error)) return "; this model sees no images: serve one that does, or ask without images";
  switch (status) {
    case 401:
    case 403:
      return "; check the key, and which environment variable it is taken from";
    case 402:
      return "; the account has no credit";
    case 404:
      return "; check the model's name and the server's address, which usually ends in /v1";
    case 405:
      return "; check the server's address, which usually ends in /v1";
    case 413:
      return "; send fewer or smaller images";
    default:
      return status >= 300 && status < 400 ? "; redirects are not followed, give the server's final address" : "";
  }
}

}  // namespace dvla::inline DVLA_ABI
