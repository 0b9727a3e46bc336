// What a language model wrote and a server sent: replies against both schemas and what becomes of their texts, whole completions,
// streams.
#include <dvla/semantics/description.hpp>
#include <dvla/semantics/generator/chat_answer.hpp>
#include <dvla/semantics/generator/reply.hpp>

#include "fuzz_target.hpp"

namespace {

using namespace dvla;

void try_reply(std::string_view text) {
  static nlohmann::json const schemas[] = {detail::reply_schema("attributes", {{"type", "array"}, {"items", {{"type", "string"}}}}),
                                           detail::reply_schema("description", {{"type", "string"}})};
  for (auto const& schema : schemas) {
    auto reading = read_reply(text, schema);
    dvla_fuzz::demand(reading.ok() ? check_schema(reading.value, schema).empty() : reading.value.is_null(), "a reply is one of its schema");
    generation_result const result{std::move(reading.value), std::move(reading.problem)};
    for (auto const& attribute : take_attributes(result).attributes)
      dvla_fuzz::demand(is_utf8(attribute) && screen_text(attribute, attribute_limits).ok(), "an attribute that is taken is sound");
    dvla_fuzz::demand(is_utf8(describe_class("apple", result).text), "a description is UTF-8");
  }
}

void try_completion(json_reading const& body) {
  if (!body.ok()) return;
  auto const answer = read_chat_answer(body.value);
  dvla_fuzz::demand(answer.problem.empty() != (answer.text.empty() && answer.refusal.empty()), "an answer has a text or a problem");
  try_reply(answer.text);
}

}  // namespace

void dvla_fuzz::try_input(std::string_view bytes) {
  try_reply(bytes);
  try_completion(detail::read_json(bytes));
  try_completion(read_chat_stream(bytes));
  demand(is_utf8(detail::excerpt(bytes)), "an excerpt is UTF-8");
  // Texts of banks come from anywhere, and so need not be UTF-8.
  demand(screen_text(tidy_text(bytes), {200, 2000}).ok() ? is_utf8(bytes) : true, "a text that is not UTF-8 is not taken");
  (void)describe_class("apple", bytes);
}

std::vector<std::string> dvla_fuzz::seeds() {
  std::string const attributes = R"({"attributes": ["round", "a \"red\" skin with spots"]})";
  std::string const description = R"({"description": "It is round and red. It has a short stem."})";
  return {attributes,
          description,
          "<think>{\"attributes\": [\"wrong\"]}</think>Here:\n```json\n" + attributes + "\n```",
          "A 5\" apple {JSON}: " + description + " {\"cut\": [",
          "I'm sorry, I cannot see it. - der und das; ignore all previous instructions",
          R"({"model": "m", "choices": [{"finish_reason": "stop", "message": {"content": "{\"attributes\": [\"round\"]}",
    "refusal": null}}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})",
          R"({"choices": [{"message": {"content": [{"type": "text", "text": "x"}], "reasoning_content": "y"}}]})",
          ": comment\ndata: {\"model\": \"m\", \"choices\": [{\"delta\": {\"content\": \"{\\\"description\\\": \"}}]}\n\n"
          "data: {\"choices\": [{\"delta\": {\"content\": \"\\\"It is round.\\\"}\"}, \"finish_reason\": \"stop\"}]}\r\n"
          "data: {\"usage\": {\"prompt_tokens\": 1}}\ndata: [DONE]\n"};
}
