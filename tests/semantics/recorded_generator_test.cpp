// Answers from a recording, and any generator behind one type.
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <doctest/doctest.h>

#include <dvla/semantics/generator/any_generator.hpp>
#include <dvla/semantics/generator/recorded_generator.hpp>

#include "generator_fixture.hpp"

using namespace dvla_test;

TEST_CASE("recorded: attributes and descriptions as they were written") {
  temporary_folder const folder;
  auto const path = folder.write("bank.json", R"({"generator": "someone", "classes": {
    "apple": {"attributes": ["round", "red"], "description": "The apple is a fruit.", "intrinsic": {}},
    "n01": {"name": "king crab", "attributes": ["spiny"]}, "odd": {"attributes": "round"}}})");
  dvla::recorded_generator source(path);
  std::vector const questions{question("apple"),     question("apple", dvla::meaning_level::description),
                              question("king crab"), question("n01", dvla::meaning_level::description),
                              question("pear"),      question("odd")};
  std::vector<std::size_t> seen;
  auto const results = source.generate(questions, [&](std::size_t i, auto const&) { seen.push_back(i); });
  CHECK(seen == std::vector<std::size_t>{0, 1, 2, 3, 4, 5});
  CHECK(results[0].reply == nlohmann::json{{"attributes", {"round", "red"}}});
  CHECK(results[0].provenance["recorded_by"] == "someone");
  CHECK(results[1].reply == nlohmann::json{{"description", "The apple is a fruit."}});
  CHECK(results[2].reply["attributes"][0] == "spiny");  // by its name
  CHECK(results[3].failure.ends_with("has no description of this class; add it to the recording"));
  CHECK(results[4].failure ==
        "class 'pear', attributes: " + path.string() + " has no such class; add it to the recording, or rename the folder");
  CHECK(results[5].failure.ends_with("the reply.attributes must be an array, it is a string"));

  std::string const identity = source.identity();
  dvla::any_generator any(std::move(source));
  CHECK(any.identity() == identity);
  CHECK(any.generate(questions).front().reply == results[0].reply);
  folder.write("bank.json", R"({"classes": {}})");
  CHECK(dvla::recorded_generator(path).identity() != identity);
}

TEST_CASE("recorded: what a real server's model said of ten classes") {
  // Made by scripts/llama_server.sh --ten-classes.
  auto const tests = std::filesystem::path(__FILE__).parent_path().parent_path();
  dvla::recorded_generator source(tests / "semantics_client" / "transcripts" / "smollm2_ten_classes.json");
  for (char const* const name :
       {"apple", "bee", "bicycle", "clock", "crab", "fox", "leopard", "oak_tree", "pickup_truck", "shark"}) {
    std::vector const questions{question(name), question(name, dvla::meaning_level::description)};
    for (auto const& result : source.generate(questions)) {
      CHECK(result.failure == "");
      CHECK(result.provenance["recorded_by"] == "smollm2-135m-instruct");
    }
  }
}

TEST_CASE("recorded: what is no recording is refused") {
  temporary_folder const folder;
  auto const problem = [&](std::string const& text) {
    auto const path = folder.write("bad.json", text);
    try {
      dvla::recorded_generator const source(path);
    } catch (dvla::error const& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(problem("{\"classes\": ").find("ends too early") != std::string::npos);
  CHECK(problem("[]").find("it has no classes; expected {\"classes\"") != std::string::npos);
  CHECK(problem(R"({"classes": []})").find("it has no classes") != std::string::npos);
  CHECK(problem(R"({"classes": {"a": 1}})").find("class 'a' is no object") != std::string::npos);
  CHECK(problem(std::string(100000, '[')).find("nested deeper") != std::string::npos);
}
