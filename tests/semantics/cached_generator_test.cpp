// The cache of answers: what a key depends on, what is kept, and that damage and company do no harm.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>

#include <doctest/doctest.h>

#include <dvla/semantics/generator/any_generator.hpp>
#include <dvla/semantics/generator/cached_generator.hpp>

#include "generator_fixture.hpp"

using namespace dvla_test;

namespace {

/// Answers with a count of the questions it got; fails or throws where told to.
struct counting_generator {
  int* asked;
  std::string name = "counting";
  std::string fail_on{}, throw_on{};

  [[nodiscard]] std::string identity() const { return name; }
  std::vector<dvla::generation_result> generate(std::span<dvla::generation_request const> requests,
                                                dvla::generation_progress const& progress) {
    std::vector<dvla::generation_result> out;
    for (auto const& request : requests) {
      dvla::expect(request.folder != throw_on, "the budget is spent");
      std::string const text = dvla::concat(request.folder, " ", ++*asked);
      bool const low = request.level == dvla::meaning_level::attributes;
      dvla::generation_result result;
      if (request.folder == fail_on) {
        result.failure = "no";
      } else {
        result.reply = low ? nlohmann::json{{"attributes", {text}}} : nlohmann::json{{"description", text}};
        result.raw = "raw " + text;
        result.provenance["model"] = "m";
      }
      out.push_back(result);
      if (progress) progress(out.size() - 1, out.back());
    }
    return out;
  }
};

using cached = dvla::cached_generator<counting_generator>;

std::vector<std::filesystem::path> files_of(std::filesystem::path const& folder) {
  std::vector<std::filesystem::path> out;
  for (auto const& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) out.push_back(entry.path());
  return out;
}

std::string error_of(std::function<void()> const& work) {
  try {
    work();
  } catch (dvla::error const& e) {
    return e.what();
  }
  return {};
}

}  // namespace

TEST_CASE("cache: an answer is asked for once, whoever asks") {
  temporary_folder const folder;
  int asked = 0;
  std::vector const questions{question("apple"), question("pear"), question("apple"),
                              question("apple", dvla::meaning_level::description)};
  cached first(counting_generator{&asked}, {folder.path() / "new" / "cache"});
  CHECK(first.missing(questions) == std::vector<std::size_t>{0, 1, 2, 3});
  std::vector<std::size_t> seen;
  auto const results = first.generate(questions, [&](std::size_t i, auto const& result) {
    CHECK(result.ok());
    seen.push_back(i);
  });
  CHECK(asked == 3);
  CHECK(seen == std::vector<std::size_t>{0, 2, 1, 3});
  CHECK(results[2].reply == results[0].reply);
  CHECK(results[0].provenance["cached"] == false);

  cached second(counting_generator{&asked}, {folder.path() / "new" / "cache", true});
  auto const again = second.generate(questions);
  CHECK(asked == 3);
  for (std::size_t i = 0; i < questions.size(); ++i) {
    CHECK(again[i].reply == results[i].reply);
    CHECK(again[i].raw == results[i].raw);
    CHECK(again[i].provenance["model"] == "m");
    CHECK(again[i].provenance["key"] == results[i].provenance["key"]);
    CHECK(again[i].provenance["cached"] == true);
  }
  auto const entry = nlohmann::json::parse(std::ifstream(files_of(folder.path()).front()));
  for (char const* const name : {"format", "key", "identity", "request", "raw", "reply", "provenance", "time"})
    CHECK(entry.contains(name));
}

TEST_CASE("cache: the key is made of everything that an answer depends on") {
  temporary_folder const folder;
  auto const key = [](dvla::generation_request const& request, std::string const& identity = "i") {
    return dvla::answer_cache::key_of(identity, request).hash;
  };
  auto base = question("apple");
  base.images = {folder.write("a.jpg", "one"), folder.write("b.jpg", "two")};
  std::string const of_base = key(base);
  CHECK(of_base.size() == 64);
  CHECK(key(base) == of_base);
  CHECK(key(base, "j") != of_base);
  auto const differs = [&](auto change) {
    auto other = base;
    change(other);
    return key(other) != of_base;
  };
  CHECK(differs([](auto& r) { r.level = dvla::meaning_level::description; }));
  CHECK(differs([](auto& r) { r.folder = "pear"; }));
  CHECK(differs([](auto& r) { r.name = "pear"; }));
  CHECK(differs([](auto& r) { r.prompt += " "; }));
  CHECK(differs([](auto& r) { r.prompt_id = "test-2"; }));
  CHECK(differs([](auto& r) { r.schema["required"] = nlohmann::json::array(); }));
  CHECK(differs([](auto& r) { r.images.pop_back(); }));
  CHECK(differs([](auto& r) { std::swap(r.images[0], r.images[1]); }));
  std::filesystem::rename(folder.path() / "a.jpg", folder.path() / "moved.jpg");
  base.images[0] = folder.path() / "moved.jpg";
  CHECK(key(base) == of_base);  // the content counts, not the name
  folder.write("moved.jpg", "other");
  CHECK(key(base) != of_base);
}

TEST_CASE("cache: failures are not kept; what was finished before a job ended is") {
  temporary_folder const folder;
  int asked = 0;
  std::vector const questions{question("apple"), question("pear"), question("plum")};
  cached failing(counting_generator{&asked, "counting", "pear", "plum"}, {folder.path()});
  CHECK(error_of([&] { static_cast<void>(failing.generate(questions)); }) == "the budget is spent");
  CHECK(files_of(folder.path()).size() == 1);
  cached fit(counting_generator{&asked}, {folder.path()});
  CHECK(fit.missing(questions) == std::vector<std::size_t>{1, 2});
  asked = 0;
  for (auto const& result : fit.generate(questions)) CHECK(result.ok());
  CHECK(asked == 2);
}

TEST_CASE("cache: a folder that cannot be is found before anything is asked") {
  temporary_folder const folder;
  dvla::write_atomically(folder.path() / "file", "x");
  int asked = 0;
  cached source(counting_generator{&asked}, {folder.path() / "file"});
  CHECK(error_of([&] { (void)source.generate(std::vector{question("apple")}); }).find("file cannot be made") != std::string::npos);
  CHECK(asked == 0);
}

TEST_CASE("cache: offline names what is missing, refresh asks anew") {
  temporary_folder const folder;
  int asked = 0;
  std::vector const questions{question("apple"), question("pear", dvla::meaning_level::description)};
  cached online(counting_generator{&asked}, {folder.path()});
  static_cast<void>(online.generate(std::span(questions).first(1)));
  cached offline(counting_generator{&asked}, {folder.path(), true});
  auto const problem = error_of([&] { static_cast<void>(offline.generate(questions)); });
  CHECK(problem.starts_with("class 'pear', description: no answer is kept in "));
  CHECK(asked == 1);
  cached anew(counting_generator{&asked}, {folder.path(), false, true});
  CHECK(anew.generate(questions)[0].reply["attributes"][0] == "apple 2");
  CHECK(online.generate(questions)[0].reply["attributes"][0] == "apple 2");
  CHECK(error_of([&] {
          cached both(counting_generator{&asked}, {folder.path(), true, true});
        }).starts_with("offline and refresh exclude"));
  std::vector missing_image{question("apple")};
  missing_image[0].images = {folder.path() / "none.jpg"};
  CHECK(online.generate(missing_image)[0].failure.starts_with("class 'apple', attributes: cannot open "));
}

TEST_CASE("cache: a damaged entry is as good as none, and is replaced") {
  temporary_folder const folder;
  int asked = 0;
  std::vector const questions{question("apple")};
  cached source(counting_generator{&asked}, {folder.path()});
  static_cast<void>(source.generate(questions));
  auto const path = files_of(folder.path()).front();
  auto const whole = nlohmann::json::parse(std::ifstream(path));
  auto changed = [&](auto change) {
    auto other = whole;
    change(other);
    return other.dump();
  };
  for (std::string const& text :
       {std::string(), std::string("{"), std::string("[]"), whole.dump().substr(0, 200), std::string(100000, '['),
        changed([](auto& e) { e["key"] = "0"; }), changed([](auto& e) { e["reply"] = nullptr; }),
        changed([](auto& e) { e.erase("raw"); }), changed([](auto& e) { e["reply"]["attributes"] = 7; }),
        changed([](auto& e) { e["request"]["prompt"] = "other"; })}) {
    std::ofstream(path, std::ios::binary) << text;
    asked = 0;
    CHECK(source.generate(questions)[0].ok());
    CHECK(asked == 1);
    CHECK(source.missing(questions).empty());
  }
  CHECK(files_of(folder.path()).size() == 1);
}

TEST_CASE("cache: two processes fill it at once, and read the same from it") {
  temporary_folder const folder;
  std::vector<dvla::generation_request> questions;
  for (int i = 0; i < 60; ++i) questions.push_back(question(dvla::concat("class ", i)));
  std::vector<pid_t> children;
  for (int child = 0; child < 3; ++child) {
    pid_t const process = ::fork();
    REQUIRE(process >= 0);
    if (process == 0) {
      int asked = 1000 * child, bad = 0;
      cached source(counting_generator{&asked}, {folder.path()});
      for (auto const& result : source.generate(questions)) bad += !result.ok();
      ::_exit(bad == 0 ? 0 : 1);
    }
    children.push_back(process);
  }
  for (pid_t const process : children) {
    int status = -1;
    CHECK(::waitpid(process, &status, 0) == process);
    CHECK(status == 0);
  }
  CHECK(files_of(folder.path()).size() == 60);
  int asked = 0;
  cached reader(counting_generator{&asked}, {folder.path(), true});
  for (auto const& result : reader.generate(questions)) CHECK(result.ok());
}
