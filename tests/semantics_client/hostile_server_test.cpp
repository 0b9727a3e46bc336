// The client and its cache against servers that do everything wrong: each ends with the right error or success, in time.
#include <doctest/doctest.h>

#include <dvla/semantics/generator/cached_generator.hpp>

#include "fixture.hpp"
#include "test_server.hpp"

using namespace dvla_test;

namespace {

struct outcome {
  dvla::generation_result result;
  std::string error;         ///< thrown
  std::size_t requests = 0;  ///< that the server got
  std::int64_t waited = 0;   ///< milliseconds of back-off, not really waited
  std::int64_t took = 0;     ///< milliseconds
  std::size_t kept = 0;      ///< files in the cache, of any name
};

/// Asks one question through a cache; checks that the cache holds the good answer or nothing at all.
outcome meet(std::vector<test_server::behaviour> script, dvla::chat_options options = client_options({})) {
  temporary_folder const folder;
  test_server server(std::move(script));
  options.base_url = server.url();
  quick_clock const clock;
  dvla::cached_generator cached(dvla::chat_generator(options, clock.clock()), {folder.path()});
  std::vector const questions{question()};
  outcome out;
  auto const start = std::chrono::steady_clock::now();
  out.error = error_of([&] { out.result = cached.generate(questions).front(); });
  out.took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start).count();
  out.requests = server.requests().size();
  out.waited = *clock.waited;
  for (auto const& entry : std::filesystem::recursive_directory_iterator(folder.path())) out.kept += entry.is_regular_file();
  bool const good = out.error.empty() && out.result.ok();
  CHECK(out.kept == (good ? 1 : 0));
  CHECK(cached.missing(questions).size() == (good ? 0 : 1));
  return out;
}

dvla::chat_options impatient() {
  auto options = client_options({});
  options.call_timeout = std::chrono::milliseconds(400);
  options.retry.tries = 2;
  return options;
}

}  // namespace

TEST_CASE("hostile: 429 with Retry-After is waited for") {
  auto const out =
      meet({answer(429, "{}", "Retry-After: 7\r\n"), answer(429, "slow down", "Retry-After: 100\r\n"), completion(good_reply)});
  CHECK(out.result.failure == "");
  CHECK(out.requests == 3);
  CHECK(out.waited >= 107'000);
  CHECK(out.waited < 110'000);
}

TEST_CASE("hostile: a Retry-After beyond the deadline is not waited for") {
  auto const out = meet({answer(429, R"({"error": {"message": "come back tomorrow"}})", "Retry-After: 86400\r\n")});
  CHECK(contains(out.result.failure,
                 "its deadline of 600000 ms leaves no further try; before it, the server answered 429, 'come back tomorrow'"));
  CHECK(out.requests == 1);
  CHECK(contains(meet({answer(429, "{}", "Retry-After: Thu, 31 Dec 2099 23:59:59 GMT\r\n")}).result.failure,
                 "leaves no further try"));
}

TEST_CASE("hostile: a pause that one request is told holds for all") {
  test_server server({answer(429, "{}", "Retry-After: 50\r\n"), completion(good_reply)});
  quick_clock const clock;
  dvla::chat_generator client(client_options(server.url()), clock.clock());
  std::vector const questions{question("apple"), question("pear")};
  for (auto const& result : client.generate(questions)) CHECK(result.ok());
  CHECK(*clock.waited >= 50'000);
}

TEST_CASE("hostile: bursts of 500") {
  auto const broken = answer(500, "<h1>Internal Server Error</h1>", "Content-Type: text/html\r\n");
  CHECK(meet({broken, broken, answer(503, ""), completion(good_reply)}).result.failure == "");
  auto const out = meet({broken});
  CHECK(out.result.failure ==
        "class 'apple', attributes: the server answered 500, '<h1>Internal Server Error</h1>' (tried 6 times)");
  CHECK(out.requests == 6);
  CHECK(out.waited <= 31'000);
}

TEST_CASE("hostile: truncated JSON") {
  std::string const whole = completion_text(good_reply);
  CHECK(meet({answer(200, whole.substr(0, whole.size() / 2)), completion(good_reply)}).result.ok());
  auto const out = meet({answer(200, whole.substr(0, whole.size() / 2))}, impatient());
  CHECK(contains(out.result.failure, "the server's answer (of type application/json) is JSON that ends too early"));
}

TEST_CASE("hostile: a wrong content type") {
  CHECK(meet({answer(200, completion_text(good_reply), "Content-Type: image/png\r\n")}).result.ok());  // the content decides
  auto const out = meet({answer(200, "<html>Log in</html>", "Content-Type: text/html; charset=utf-8\r\n")});
  CHECK(contains(out.result.failure, "(of type text/html; charset=utf-8) is not valid JSON"));
  CHECK(contains(out.result.failure, "check the server's address"));
  CHECK(out.requests == 1);
}

TEST_CASE("hostile: stalls end with the call's timeout") {
  auto const stall = [](test_server::connection& to, test_server::request const&) { to.stall(); };
  auto const halfway = [](test_server::connection& to, test_server::request const&) {
    to.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"choices\": [");
    to.stall();
  };
  for (auto const& behaviour : {test_server::behaviour(stall), test_server::behaviour(halfway)}) {
    auto const out = meet({behaviour}, impatient());
    CHECK(contains(out.result.failure, "the connection failed: "));
    CHECK(contains(out.result.failure, "timed out"));
    CHECK(out.requests == 2);
    CHECK(out.took < 10'000);
  }
  CHECK(meet({stall, completion(good_reply)}, impatient()).result.ok());
}

TEST_CASE("hostile: connections that break off in the middle of a body") {
  auto const part = [](bool reset) {
    return [=](test_server::connection& to, test_server::request const&) {
      to.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"choices\": [");
      reset ? to.reset() : to.close();
    };
  };
  auto const chunk = [](test_server::connection& to, test_server::request const&) {
    to.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"choices\": [");
    to.close();
  };
  CHECK(meet({part(true), part(false), chunk, completion(good_reply)}).result.failure == "");
  CHECK(contains(meet({part(true)}, impatient()).result.failure, "the connection failed: "));
  auto const garbage = [](test_server::connection& to, test_server::request const&) {
    to.send("\x16\x03\x01 what?\r\n\r\n");
    to.close();
  };
  CHECK(contains(meet({garbage}, impatient()).result.failure, "the connection failed: "));
}

TEST_CASE("hostile: a body of a gigabyte is cut off") {
  for (bool const announced : {true, false}) {
    std::size_t sent = 0;  // written before the server is gone, read after
    auto const flood = [&](test_server::connection& to, test_server::request const&) {
      to.send(announced ? "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n" : "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
      std::string const block(1 << 20, ' ');
      while (sent < 1024 && to.send(block)) ++sent;
      to.close();
    };
    auto const out = meet({flood});
    CHECK(contains(out.result.failure, "the server's answer has more than 8388608 bytes"));
    CHECK(out.requests == 1);
    CHECK(sent < 64);  // what the sockets hold, not a gigabyte
  }
}

TEST_CASE("hostile: redirects are not followed, whereto ever") {
  for (std::string const target : {"file:///etc/passwd", "http://127.0.0.1:1/v1/chat/completions", "ftp://127.0.0.1/x"}) {
    auto const out = meet({answer(302, "", "Location: " + target + "\r\n")});
    CHECK(contains(out.error, "the server answered 302; redirects are not followed, give the server's final address"));
    CHECK(out.requests == 1);
  }
}

TEST_CASE("hostile: invalid UTF-8") {
  std::string bad = completion_text(R"({"attributes": ["round"]})");
  bad.replace(bad.find("round"), 5, "ro\xFF\xC0nd");
  CHECK(meet({answer(200, bad), completion(good_reply)}).result.ok());
  auto const out = meet({answer(200, bad)}, impatient());
  CHECK(contains(out.result.failure, "is not UTF-8"));
  auto const error = meet({answer(400, "\x1B[31mbad \xFF\xFE\n bytes")});
  CHECK(contains(error.result.failure, "'[31mbad ?? bytes'"));  // fit for a terminal
}

TEST_CASE("hostile: answers without an answer") {
  for (std::string const body : {"", "null", "[]", "17", R"({"choices": null})", R"({"choices": []})", R"({"choices": [7]})",
                                 R"({"choices": [{"message": null}]})", R"({"choices": [{"message": {"content": null}}]})",
                                 R"({"error": {"message": "in the middle of 200"}})", R"({"usage": {"prompt_tokens": -3}})"}) {
    auto const out = meet({answer(200, body)}, impatient());
    CHECK(out.error == "");
    CHECK_FALSE(out.result.ok());
    CHECK(out.requests == 2);
  }
  CHECK(meet({answer(200, std::string(1 << 20, '['))}, impatient()).requests == 2);
  auto const parts = R"({"choices": [{"message": {"content": [{"type": "text", "text": "{\"attributes\": [\"a\"]}"}]}}]})";
  CHECK(meet({answer(200, parts)}).result.ok());
  auto const reasoning = R"({"choices": [{"message": {"content": "", "reasoning_content": "{\"attributes\": [\"a\"]}"}}]})";
  CHECK(meet({answer(200, reasoning)}).result.ok());
}
