// Where keys come from, to whom they go, and that they turn up nowhere else.
#include <doctest/doctest.h>

#include <dvla/semantics/generator/cached_generator.hpp>
#include <dvla/semantics/generator/dry_run.hpp>

#include "fixture.hpp"
#include "test_server.hpp"

using namespace dvla_test;

namespace {

std::string const secret = "sk-test/0123456789+abcdef";

std::string variable_for(std::string const& url, std::string const& named = {}) {
  dvla::chat_options options;
  options.key_variable = named;
  return dvla::key_variable(options, dvla::read_base_url(url));
}

/// Every file of a folder, one after the other.
std::string all_text(std::filesystem::path const& folder) {
  std::string out;
  for (auto const& entry : std::filesystem::recursive_directory_iterator(folder)) {
    out += entry.path().string() + "\n";
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    out.append(std::istreambuf_iterator<char>(file), {});
  }
  return out;
}

}  // namespace

TEST_CASE("key: only for the server that it belongs to, unless the user names it") {
  CHECK(variable_for("https://api.openai.com/v1") == "OPENAI_API_KEY");
  CHECK(variable_for("https://API.OpenAI.com/v1") == "OPENAI_API_KEY");
  CHECK(variable_for("https://dashscope-intl.aliyuncs.com/compatible-mode/v1") == "DASHSCOPE_API_KEY");
  CHECK(variable_for("http://api.openai.com/v1") == "");
  CHECK(variable_for("https://api.openai.com.evil.example/v1") == "");
  CHECK(variable_for("https://dashscope.evil.example/v1") == "");
  CHECK(variable_for("http://localhost:8000/v1") == "");
  CHECK(variable_for("http://gpu-box:8000/v1", "MY_KEY") == "MY_KEY");
}

TEST_CASE("key: a variable that holds none is named") {
  auto options = client_options("http://127.0.0.1:1/v1");
  options.key_variable = "DVLA_TEST_NO_KEY";
  ::unsetenv("DVLA_TEST_NO_KEY");
  dvla::chat_generator client(options);
  CHECK(contains(client.identity(), "some-model"));  // nothing before generate() needs it
  std::vector const questions{question()};
  CHECK(contains(error_of([&] { static_cast<void>(client.generate(questions)); }), "DVLA_TEST_NO_KEY holds no key"));
  ::setenv("DVLA_TEST_NO_KEY", "two\r\nHost: lines", 1);
  auto const problem = error_of([&] { static_cast<void>(client.generate(questions)); });
  CHECK(contains(problem, "a line break"));
  CHECK_FALSE(contains(problem, "Host"));
}

TEST_CASE("key: sent in one header, and in no error, result, cache or dry run, even where the server repeats it") {
  ::setenv("DVLA_TEST_KEY", secret.c_str(), 1);
  std::string const escaped = R"(sk-test\/0123456789+abcd\u0065f)";  // the same in other JSON
  for (std::string const& echo : {secret, escaped}) {
    std::string const error = R"({"error": {"message": "Incorrect API key provided: )" + echo + R"(", "code": ")" + echo + "\"}}";
    std::string const good = R"({"model": ")" + echo + R"(", "system_fingerprint": ")" + echo +
                             R"(", "choices": [{"finish_reason": "stop", "message": {"content": "{\"attributes\": [\"key )" +
                             secret + R"(\"]}"}}]})";
    std::string const prose = R"({"choices": [{"message": {"content": "Your key is )" + echo + "\"}}]}";
    for (auto const& behaviour :
         {answer(401, error), answer(404, error), answer(400, error), answer(500, error), answer(302, error), answer(200, error),
          answer(200, good), answer(200, prose), answer(400, secret), answer(400, "{\"detail\": \"" + echo + "\"}")}) {
      temporary_folder const folder;
      test_server server({behaviour});
      auto options = client_options(server.url());
      options.key_variable = "DVLA_TEST_KEY";
      options.retry.tries = 2;
      dvla::cached_generator cached(dvla::chat_generator(options, quick_clock().clock()), {folder.path()});
      std::vector const questions{question()};
      std::string seen = cached.identity() + dvla::dry_run(options, questions).dump();
      seen += error_of([&] {
        for (auto const& result : cached.generate(questions))
          seen += result.reply.dump() + result.failure + result.provenance.dump() + result.raw;
      });
      seen += all_text(folder.path());
      CHECK_FALSE(contains(seen, "sk-test"));
      CHECK_FALSE(contains(seen, "0123456789+"));
      auto const sent = server.requests();
      REQUIRE_FALSE(sent.empty());
      CHECK(contains(sent[0].head, "Authorization: Bearer " + secret));
      CHECK_FALSE(contains(sent[0].body, secret));
    }
  }
  ::unsetenv("DVLA_TEST_KEY");
}

TEST_CASE("key: the word that a local server wants for one is no secret") {
  ::setenv("DVLA_TEST_KEY", "ollama", 1);
  auto const key = dvla::api_key::from_environment("DVLA_TEST_KEY");
  CHECK(key.header() == "Authorization: Bearer ollama");
  CHECK(key.hide("an ollama is no llama") == "an ollama is no llama");
  ::setenv("DVLA_TEST_KEY", secret.c_str(), 1);
  CHECK(dvla::api_key::from_environment("DVLA_TEST_KEY").hide(secret + secret + ".") == "[key][key].");
  ::unsetenv("DVLA_TEST_KEY");
}
