// From what a model wrote to JSON: what is accepted, what is refused with which words, and that no bytes do harm.
#include <chrono>
#include <string>

#include <doctest/doctest.h>

#include <dvla/core/philox.hpp>
#include <dvla/semantics/generator/reply.hpp>

namespace {

nlohmann::json const attributes = nlohmann::json::parse(R"({"type": "object", "properties": {"attributes": {"type": "array",
  "items": {"type": "string"}}}, "required": ["attributes"], "additionalProperties": false})");

std::string const good = R"({"attributes": ["round", "a \"red\" skin {with} spots"]})";

std::string problem(std::string const& raw) {
  auto const reading = dvla::read_reply(raw, attributes);
  CHECK(reading.value.is_null());
  return reading.problem;
}

std::string repeated(std::string const& text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

}  // namespace

TEST_CASE("reply: JSON alone, in a fence, in prose, behind thoughts") {
  for (std::string const& raw :
       {good, "  \n" + good + "\n\n   ", "```json\n" + good + "\n```", "```\n" + good + "\n```", "```json\n" + good,
        "Here is the {JSON} you want: " + good + " I hope \"it helps\".", "A 5\" apple: " + good,
        "<think>{\"attributes\": [\"wrong\"]} or so</think>\n" + good, "{\"attributes\": [\"wrong\"]}</think>" + good,
        "{\"type\": \"object\"} is the schema, and this the answer: " + good, "[" + good + "]"}) {
    auto const reading = dvla::read_reply(raw, attributes);
    CAPTURE(raw);
    CHECK(reading.problem == "");
    CHECK(reading.value == nlohmann::json::parse(good));
  }
  // A mark of thoughts inside the JSON is text.
  CHECK(dvla::read_reply(R"({"attributes": ["</think>"]})", attributes).ok());
}

TEST_CASE("reply: what is wrong is said") {
  CHECK(problem("") == "the reply is empty");
  CHECK(problem(" \n") == "the reply is empty");
  CHECK(problem("I cannot see an image.") == "the reply holds no JSON object");
  CHECK(problem(R"({"attributes": ["round", "re)") == "the reply ends inside a JSON object");
  CHECK(problem("<think>Let me see. {") == "the reply holds no JSON object");
  CHECK(problem("{round: yes}") == "the reply is not valid JSON (byte 2 of 12)");
  CHECK(problem("[1, 2]") == "the reply must be an object, it is an array");
  CHECK(problem("{}") == "the reply lacks 'attributes'");
  CHECK(problem(R"({"attributes": "round"})") == "the reply.attributes must be an array, it is a string");
  CHECK(problem(R"({"attributes": ["a", 7]})") == "the reply.attributes[1] must be a string, it is a number");
  CHECK(problem(R"({"attributes": ["a", null]})") == "the reply.attributes[1] must be a string, it is null");
  CHECK(problem(R"({"attributes": []})") == "the reply.attributes must not be empty");
  CHECK(problem(R"({"attributes": ["a", " "]})") == "the reply.attributes[1] must not be blank");
  CHECK(problem(R"({"attributes": ["a"], "more": 1})") == "the reply must not have 'more'");
  CHECK(problem("{\"attributes\": [\"\xFF\"]}") == "the reply is not UTF-8 (byte 18 of 21)");
  CHECK(problem(std::string((1 << 20) + 1, ' ')) == "the reply has 1048577 bytes; at most 1048576 are read");
}

TEST_CASE("reply: nested meanings, as intrinsic and nuisance phrases") {
  auto const role =
      nlohmann::json::parse(R"({"type": "object", "properties": {"local": {"type": "array", "items": {"type": "string"}},
    "global": {"type": "string"}}, "required": ["local", "global"], "additionalProperties": false})");
  nlohmann::json const schema{
      {"type", "object"}, {"properties", {{"intrinsic", role}, {"nuisance", role}}}, {"required", {"intrinsic", "nuisance"}}};
  CHECK(dvla::read_reply(R"({"intrinsic": {"local": ["a"], "global": "b"}, "nuisance": {"local": ["c"], "global": "d"}, "x": 1})",
                         schema)
            .ok());
  CHECK(dvla::read_reply(R"({"intrinsic": {"local": ["a"], "global": "b"}, "nuisance": {"local": ["c"]}})", schema).problem ==
        "the reply.nuisance lacks 'global'");
  CHECK(dvla::check_schema(1, {{"type", "integer"}}) ==
        "the schema of the reply asks for the type 'integer'; objects, arrays and strings are known");
}

TEST_CASE("reply: a megabyte of anything is read in time that grows with it") {
  std::size_t const size = std::size_t{1} << 20;
  auto const start = std::chrono::steady_clock::now();
  for (std::string const unit : {"{", "[", "\"", "{\"", "{}", "{{}", "{\"a\":", "[{", "```", "```{", "<think>", "</think>",
                                 "<think></think>", "{\"a\":\"\\", "\\"}) {
    std::string const raw = repeated(unit, size / unit.size());
    CHECK_FALSE(dvla::read_reply(raw, attributes).ok());
  }
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
  CHECK(problem(repeated("[", 65)) == "the reply is nested deeper than 64 levels");
}

TEST_CASE("reply: mutilated replies are either read right or refused") {
  dvla::random_stream random(1, dvla::draw::test, 0, 0);
  std::string const start = "<think>hm</think>```json\n" + good + "\n``` done";
  for (int round = 0; round < 3000; ++round) {
    std::string raw = start;
    for (int edit = 0; edit < 1 + round % 4; ++edit) {
      std::size_t const at = random.next() % raw.size();
      switch (random.next() % 3) {
        case 0:
          raw[at] = static_cast<char>(random.next());
          break;
        case 1:
          raw.erase(at, 1 + random.next() % 9);
          break;
        default:
          raw.insert(at, 1, "{}[]\"\\`<>/"[random.next() % 10]);
      }
      if (raw.empty()) raw = " ";
    }
    auto const reading = dvla::read_reply(raw, attributes);
    CHECK(reading.ok() == dvla::check_schema(reading.value, attributes).empty());
    CHECK(reading.ok() != reading.value.is_null());
  }
}

TEST_CASE("excerpt: one line of whole characters") {
  using dvla::detail::excerpt;
  CHECK(excerpt("a\n\t b\x1B[0m\x7F \xC2\x9B c ") == "a b [0m c");
  CHECK(excerpt("caf\xC3\xA9 \xC3( \xED\xA0\x80 \xF0\x9F\x8D\x8E") == "caf\xC3\xA9 ?( ??? \xF0\x9F\x8D\x8E");
  CHECK(excerpt("caf\xC3\xA9s", 4) == "caf...");
  CHECK(excerpt("caf\xC3") == "caf?");
}
