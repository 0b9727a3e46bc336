// The client against servers that behave: forms of replies, second chances, several requests at once, budgets, errors that end a
// job.
#include <set>

#include <doctest/doctest.h>

#include "fixture.hpp"
#include "test_server.hpp"

using namespace dvla_test;

namespace {

/// One question asked; the server's requests are left in `server`.
dvla::generation_result ask(test_server& server, dvla::chat_options options) {
  options.base_url = server.url();
  dvla::chat_generator client(options, quick_clock().clock());
  std::vector const questions{question()};
  return client.generate(questions).front();
}
dvla::generation_result ask(test_server& server) { return ask(server, client_options({})); }

}  // namespace

TEST_CASE("chat: a question in the form that all servers take") {
  test_server server({completion(good_reply)});
  auto const result = ask(server);
  CHECK(result.failure == "");
  CHECK(result.reply["attributes"][1] == "red skin");
  CHECK(result.raw == good_reply);
  CHECK(result.provenance["usage"] == nlohmann::json{{"prompt_tokens", 20}, {"completion_tokens", 5}, {"requests", 1}});
  CHECK(result.provenance["served_model"] == "served");
  auto const sent = server.requests().front();
  CHECK(sent.head.starts_with("POST /v1/chat/completions HTTP/1.1"));
  CHECK(contains(sent.head, "Content-Type: application/json"));
  CHECK(contains(sent.head, "Authorization: Bearer none"));
  CHECK_FALSE(contains(sent.head, "Expect:"));
  auto const body = sent.json();
  CHECK(body["model"] == "some-model");
  CHECK(body["temperature"] == 0);
  CHECK(body["max_tokens"] == 512);
  CHECK(body["stream"] == false);
  CHECK(body["messages"] == nlohmann::json::parse(R"([{"role": "user", "content": "What are the attributes of the apple?"}])"));
  CHECK(body["response_format"]["json_schema"]["schema"] == attributes_schema());
}

TEST_CASE("chat: the ladder of forms is remembered") {
  auto const refusal = answer(400, R"({"error": {"message": "response_format json_schema is not supported", "code": null}})");
  auto const second = answer(400, R"({"detail": "json_object needs a grammar"})");
  test_server server({refusal, second, completion("Sure:\n```json\n" + good_reply + "\n```")});
  dvla::chat_generator client(client_options(server.url()), quick_clock().clock());
  std::vector const questions{question("apple"), question("pear")};
  for (auto const& result : client.generate(questions)) {
    CHECK(result.failure == "");
    CHECK(result.provenance["rung"] == "plain");
  }
  auto const sent = server.requests();
  REQUIRE(sent.size() == 4);
  CHECK(sent[1].json()["response_format"] == nlohmann::json{{"type", "json_object"}});
  CHECK(contains(sent[1].body, "JSON object"));  // DashScope wants the word
  CHECK_FALSE(sent[2].json().contains("response_format"));
  CHECK_FALSE(sent[3].json().contains("response_format"));
}

TEST_CASE("chat: a reply that says something else is asked for once more, quoting why") {
  test_server server({completion(R"({"attributes": "round"})"), completion(good_reply)});
  auto const result = ask(server);
  CHECK(result.ok());
  CHECK(result.provenance["asked_again"] == true);
  auto const messages = server.requests()[1].json()["messages"];
  REQUIRE(messages.size() == 3);
  CHECK(messages[1]["content"] == R"({"attributes": "round"})");
  CHECK(contains(messages[2]["content"], "the reply.attributes must be an array, it is a string"));

  test_server stubborn({completion("I would rather not.")});
  auto const failed = ask(stubborn);
  CHECK(failed.failure == "class 'apple', attributes: the reply holds no JSON object; the model wrote: I would rather not.");
  CHECK(stubborn.requests().size() == 2);
}

TEST_CASE("chat: a reply that was cut gets twice the room, once") {
  test_server server({completion(R"({"attributes": ["rou)", "length"), completion(good_reply)});
  CHECK(ask(server).ok());
  CHECK(server.requests()[1].json()["max_tokens"] == 1024);
  test_server endless({completion("{ ", "length")});
  CHECK(contains(ask(endless).failure, "cut at 1024 tokens"));
  CHECK(endless.requests().size() == 3);
}

TEST_CASE("chat: another name for the limit, and a model that only streams") {
  test_server renamed({answer(400, R"({"error": {"message": "'max_tokens' is not supported, use 'max_completion_tokens'"}})"),
                       completion(good_reply)});
  CHECK(ask(renamed).ok());
  CHECK(renamed.requests()[1].json()["max_completion_tokens"] == 512);
  CHECK_FALSE(renamed.requests()[1].json().contains("max_tokens"));

  std::string events;
  for (std::string const& piece : {std::string(R"({\"attributes\": )"), std::string(R"([\"round\"]})")})
    events += R"(data: {"model": "served", "choices": [{"delta": {"content": ")" + piece + "\"}}]}\r\n\r\n";
  events += ": a comment\ndata: {\"choices\": [], \"usage\": {\"prompt_tokens\": 7, \"completion_tokens\": 3}}\n\ndata: [DONE]\n\n";
  test_server streaming({answer(400, R"({"error": {"message": "This model only support stream mode"}})"),
                         answer(200, events, "Content-Type: text/event-stream\r\n")});
  auto const result = ask(streaming);
  CHECK(result.failure == "");
  CHECK(result.reply["attributes"][0] == "round");
  CHECK(result.provenance["usage"]["prompt_tokens"] == 7);
  CHECK(streaming.requests()[1].json()["stream"] == true);
}

TEST_CASE("chat: images go before the text, without their metadata") {
  temporary_folder const folder;
  std::string const jpeg("\xFF\xD8\xFF\xE1\x00\x0CSecretPlac\xFF\xDA\x00\x02pixels", 26),
      kept("\xFF\xD8\xFF\xDA\x00\x02pixels", 12);
  std::ofstream(folder.path() / "a.jpg", std::ios::binary) << jpeg;
  test_server server({completion(good_reply)});
  dvla::chat_generator client(client_options(server.url()));
  std::vector questions{question()};
  questions[0].images = {folder.path() / "a.jpg"};
  CHECK(client.generate(questions)[0].failure == "");
  auto const content = server.requests()[0].json()["messages"][0]["content"];
  REQUIRE(content.size() == 2);
  CHECK(content[0]["image_url"]["url"] == "data:image/jpeg;base64," + dvla::base64(kept));
  CHECK(content[1]["type"] == "text");
  questions[0].images = {folder.path() / "b.jpg"};
  CHECK(contains(client.generate(questions)[0].failure, "b.jpg"));
}

TEST_CASE("chat: several requests at once, results in order, progress one at a time") {
  auto const echo = [](test_server::connection& to, test_server::request const& asked) {
    std::string const text = asked.json()["messages"][0]["content"];
    std::this_thread::sleep_for(std::chrono::milliseconds(contains(text, "class 0?") ? 60 : 5));
    completion(nlohmann::json{{"attributes", {text}}}.dump())(to, asked);
  };
  test_server server({echo});
  auto options = client_options(server.url());
  options.parallel = 4;
  dvla::chat_generator client(options);
  std::vector<dvla::generation_request> questions;
  for (int i = 0; i < 20; ++i) questions.push_back(question(dvla::concat("class ", i)));
  std::set<std::size_t> seen;
  std::size_t last = 0;
  auto const results = client.generate(questions, [&](std::size_t i, dvla::generation_result const& result) {
    CHECK(result.ok());
    CHECK(seen.insert(i).second);
    last = i;
  });
  CHECK(seen.size() == 20);
  for (std::size_t i = 0; i < 20; ++i) CHECK(results[i].reply["attributes"][0] == questions[i].prompt);
  CHECK(client.used().requests == 20);
  CHECK(client.used().prompt_tokens == 400);
}

TEST_CASE("chat: a spent budget ends the job, and finished answers were reported") {
  test_server server({completion(good_reply)});
  std::vector<dvla::generation_request> const questions(5, question());
  for (bool const by_tokens : {false, true}) {
    auto options = client_options(server.url());
    if (by_tokens) {
      options.limits.tokens = 60;  // 25 a request
    } else {
      options.limits.requests = 3;
    }
    dvla::chat_generator client(options);
    std::size_t reported = 0;
    auto const problem =
        error_of([&] { static_cast<void>(client.generate(questions, [&](std::size_t, auto const&) { ++reported; })); });
    CHECK(contains(problem, by_tokens ? "budget of 60 tokens is spent" : "budget of 3 requests is spent"));
    CHECK(reported == 3);
  }
}

TEST_CASE("chat: what makes every request pointless ends the job at once") {
  std::vector<dvla::generation_request> const questions(5, question());
  auto const problem_with = [&](std::vector<test_server::behaviour> script, std::size_t sent) {
    test_server server(std::move(script));
    dvla::chat_generator client(client_options(server.url()), quick_clock().clock());
    auto problem = error_of([&] { static_cast<void>(client.generate(questions)); });
    CHECK(server.requests().size() == sent);
    return problem;
  };
  CHECK(contains(
      problem_with(
          {answer(404, R"({"error": "model 'some-model' not found"})"), answer(200, R"({"data": [{"id": "a"}, {"id": "b"}]})")}, 2),
      "not found'; check the model's name and the server's address, which usually ends in /v1; it offers a, b"));
  CHECK(contains(problem_with({answer(401, R"({"error": {"message": "bad key"}})")}, 1), "answered 401, 'bad key'; check the key"));
  CHECK(
      contains(problem_with({answer(429, R"({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}})")}, 1),
               "insufficient_quota"));
  auto options = client_options("http://127.0.0.1:1/v1");
  options.retry.tries = 2;
  dvla::chat_generator nobody(options, quick_clock().clock());
  CHECK(contains(error_of([&] { static_cast<void>(nobody.generate(questions)); }),
                 "(tried 2 times); is it running, and is the address right?"));
}

TEST_CASE("chat: what progress throws ends the job and arrives") {
  test_server server({completion(good_reply)});
  auto options = client_options(server.url());
  options.parallel = 3;
  dvla::chat_generator client(options);
  std::vector<dvla::generation_request> const questions(9, question());
  CHECK(error_of([&] { static_cast<void>(client.generate(questions, [](std::size_t, auto const&) { dvla::fail("enough"); })); }) ==
        "enough");
  CHECK(client.generate(questions).back().ok());  // and the client is fit for another one
}

TEST_CASE("chat: options that cannot be") {
  auto const problem = [](auto change) {
    auto options = client_options("http://localhost:1/v1");
    change(options);
    return error_of([&] { dvla::chat_generator const client(options); });
  };
  CHECK(problem([](auto&) {}) == "");
  CHECK(contains(problem([](auto& o) { o.model = ""; }), "no model is named"));
  CHECK(contains(problem([](auto& o) { o.base_url = "file:///etc/passwd"; }), "no http or https address"));
  CHECK(contains(problem([](auto& o) { o.base_url = "http://me:secret@host/v1"; }), "a user, a password"));
  CHECK_FALSE(contains(problem([](auto& o) { o.base_url = "http://me:secret@host/v1"; }), "secret"));
  CHECK(contains(problem([](auto& o) { o.seed = 0xFFFFFFFF; }), "seed"));
  CHECK(contains(problem([](auto& o) { o.extra_body["messages"] = 1; }), "must not have 'messages'"));
}
