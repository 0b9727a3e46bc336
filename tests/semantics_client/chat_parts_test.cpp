// The client's pure parts: what follows from a server's error, how long to wait, bodies, streams, addresses, and the dry run.
#include <doctest/doctest.h>

#include <dvla/semantics/generator/dry_run.hpp>

#include "fixture.hpp"

using namespace dvla_test;
using dvla::chat_rung;
using dvla::chat_verdict;

namespace {

chat_verdict verdict(long status, std::string const& body, dvla::chat_mode mode = {}) {
  return dvla::judge(status, dvla::read_server_error(body), mode);
}

}  // namespace

TEST_CASE("error: each server's way to say it") {
  auto const message = [](std::string const& body) { return dvla::read_server_error(body).message; };
  CHECK(message(R"({"error": {"message": "m", "type": "t", "param": null, "code": 400}})") == "m");
  CHECK(dvla::read_server_error(R"({"error": {"message": "m", "type": "t", "code": 400}})").code == "400");
  CHECK(message(R"({"error": "text"})") == "text");
  CHECK(message(R"({"object": "error", "message": "old vLLM", "code": 400})") == "old vLLM");
  CHECK(message(R"({"code": "InvalidParameter", "message": "DashScope", "request_id": "1"})") == "DashScope");
  CHECK(message(R"({"detail": "Not Found"})") == "Not Found");
  CHECK(message(R"({"detail": [{"loc": ["body"], "msg": "field required"}]})") == R"([{"loc":["body"],"msg":"field required"}])");
  CHECK(message(R"({"detail": "{\"error\": {\"message\": \"from behind a proxy\"}}"})") == "from behind a proxy");
  CHECK(message("<html>\n\n 502 </html>") == "<html> 502 </html>");
  CHECK(message(std::string(1000, 'x')) == std::string(300, 'x') + "...");
  CHECK(message("") == "");
}

TEST_CASE("error: what to do about it") {
  for (long const status : {408L, 409L, 425L, 429L, 500L, 502L, 503L, 504L, 529L})
    CHECK(verdict(status, "") == chat_verdict::retry);
  for (long const status : {301L, 307L, 401L, 402L, 403L, 404L, 405L}) CHECK(verdict(status, "") == chat_verdict::fatal);
  for (long const status : {400L, 413L, 422L}) CHECK(verdict(status, "") == chat_verdict::failed);
  CHECK(verdict(429, R"({"error": {"message": "see your plan and billing details", "code": "insufficient_quota"}})") ==
        chat_verdict::fatal);
  CHECK(verdict(429, R"({"error": {"message": "limit reached, add a card at /billing", "code": "rate_limit_exceeded"}})") ==
        chat_verdict::retry);
  CHECK(verdict(400, R"({"code": "Arrearage", "message": "Access denied"})") == chat_verdict::fatal);
  std::string const form = R"({"error": {"message": "Either json_schema or grammar, not both"}})";
  CHECK(verdict(400, form) == chat_verdict::step_down);
  CHECK(verdict(500, form) == chat_verdict::step_down);
  CHECK(verdict(400, form, {chat_rung::plain, false, false}) == chat_verdict::failed);
  std::string const limit = R"({"error": {"message": "Unsupported parameter: 'max_tokens'"}})";
  CHECK(verdict(400, limit) == chat_verdict::rename_max);
  CHECK(verdict(400, limit, {chat_rung::plain, true, false}) == chat_verdict::failed);
  CHECK(verdict(400, R"({"message": "This model only support stream mode"})") == chat_verdict::stream);
  std::string const blind = R"({"error": {"code": 500, "message": "image input is not supported - hint: provide the mmproj"}})";
  CHECK(verdict(500, blind) == chat_verdict::fatal);  // or each class would be tried six times
  CHECK(contains(std::string(dvla::remedy_for(500, dvla::read_server_error(blind))), "sees no images"));
  // llama.cpp and vLLM; the latter's words on max_tokens must not mislead.
  CHECK(
      verdict(400,
              R"({"error": {"message": "the request exceeds the available context size", "type": "exceed_context_size_error"}})") ==
      chat_verdict::failed);
  CHECK(verdict(400, R"({"message": "This model's maximum context length is 4096 tokens, reduce max_tokens"})") ==
        chat_verdict::failed);
}

TEST_CASE("retry: exponential, jittered, capped, and never earlier than the server said") {
  dvla::retry_policy const policy;
  using ms = std::chrono::milliseconds;
  CHECK(dvla::retry_delay(policy, 1, 0.5, {}) == ms(500));
  CHECK(dvla::retry_delay(policy, 3, 0.5, {}) == ms(2'000));
  CHECK(dvla::retry_delay(policy, 7, 0.5, {}) == ms(30'000));
  CHECK(dvla::retry_delay(policy, 1'000'000, 0.5, {}) == ms(30'000));
  CHECK(dvla::retry_delay(policy, 1, 0.0, std::chrono::seconds(9)) == ms(9'000));
  CHECK(dvla::retry_delay(policy, 7, 0.5, std::chrono::seconds(9)) == ms(30'000));
}

TEST_CASE("stream: put together; cut or broken ones are problems") {
  auto const event = [](std::string const& text) { return R"(data: {"choices": [{"delta": {"content": ")" + text + "\"}}]}\n\n"; };
  auto const good = dvla::read_chat_stream(event("a") + event("b") + "data: [DONE]\n\n");
  REQUIRE(good.ok());
  CHECK(dvla::read_chat_answer(good.value).text == "ab");
  CHECK(dvla::read_chat_stream(event("a")).problem == "ends before the last event");
  CHECK(dvla::read_chat_stream("data: {\n\ndata: [DONE]\n").problem.starts_with("holds an event that is JSON that ends too early"));
  CHECK(dvla::read_chat_stream("").problem == "ends before the last event");
}

TEST_CASE("address: taken apart") {
  auto const url = dvla::read_base_url("http://[::1]:8080/v1//");
  CHECK(url.text == "http://[::1]:8080/v1");
  CHECK(url.loopback);
  CHECK(dvla::read_base_url("http://127.0.0.1/v1").loopback);
  CHECK_FALSE(dvla::read_base_url("http://127.evil.example/v1").loopback);
  for (std::string const bad : {"", "localhost:8000", "ftp://host/", "http://", "http://h/?k=1", "javascript:alert(1)"})
    CHECK(contains(error_of([&] { static_cast<void>(dvla::read_base_url(bad)); }), "give one such as"));
}

TEST_CASE("body: what a server has of its own is merged in, and null takes out") {
  auto options = client_options("http://localhost/v1");
  options.extra_body = {{"top_k", 1}, {"seed", nullptr}};
  options.system = "You are a botanist.";
  auto const body = dvla::chat_body(options, question(), {}, {chat_rung::json_schema, false, false}, 10);
  CHECK(body["top_k"] == 1);
  CHECK_FALSE(body.contains("seed"));
  CHECK(body["messages"][0] == nlohmann::json{{"role", "system"}, {"content", "You are a botanist."}});
  CHECK(dvla::chat_identity(options) != dvla::chat_identity(client_options("http://localhost/v1")));
}

TEST_CASE("dry run: bodies with hashes for images, and an estimate") {
  temporary_folder const folder;
  std::string const png("\x89PNG\r\n\x1A\n\0\0\0\rIHDR\0\0\0\x54\0\0\0\x38\x08\2\0\0\0crc!\0\0\0\0IENDcrc!", 45);
  std::ofstream(folder.path() / "a.png", std::ios::binary) << png;
  std::vector questions{question(), question("pear")};
  questions[0].images = {folder.path() / "a.png"};
  auto const out = dvla::dry_run(client_options("http://localhost:9/v1/"), questions);
  CHECK(out["url"] == "http://localhost:9/v1/chat/completions");
  REQUIRE(out["requests"].size() == 2);
  std::string const hash = dvla::sha256_hex(png);
  CHECK(out["requests"][0]["body"]["messages"][0]["content"][0]["image_url"]["url"] ==
        "sha256:" + hash + " (45 bytes of image/png)");
  CHECK_FALSE(contains(out.dump(), "base64"));
  // 84 x 56 pixels are 3 x 2 tokens.
  auto const tokens = [&](std::size_t i) { return out["requests"][i]["prompt_tokens"].get<int>(); };
  CHECK(tokens(0) - tokens(1) == 6);
  CHECK(out["max_completion_tokens"] == 1024);
}
