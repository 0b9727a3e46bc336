// What the client's tests share: a question, a client that does not wait.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <dvla/semantics/generator/chat_generator.hpp>

#include "support/temporary_folder.hpp"

namespace dvla_test {

inline nlohmann::json attributes_schema() {
  return nlohmann::json::parse(R"({"type": "object", "properties": {"attributes": {"type": "array", "items": {"type": "string"}}},
    "required": ["attributes"], "additionalProperties": false})");
}

inline dvla::generation_request question(std::string const& folder = "apple") {
  return {dvla::meaning_level::attributes,
          folder,
          folder,
          "attributes-1",
          "What are the attributes of the " + folder + "?",
          attributes_schema(),
          {}};
}

inline std::string const good_reply = R"({"attributes": ["round", "red skin"]})";

/// Waits pass at once and are added up.
struct quick_clock {
  std::shared_ptr<std::atomic<std::int64_t>> waited = std::make_shared<std::atomic<std::int64_t>>(0);

  [[nodiscard]] dvla::retry_clock clock() const {
    return {[waited = waited] { return std::chrono::steady_clock::now() + std::chrono::milliseconds(*waited); },
            [waited = waited](std::chrono::milliseconds how_long) { *waited += how_long.count(); }};
  }
};

inline dvla::chat_options client_options(std::string url) {
  dvla::chat_options options;
  options.base_url = std::move(url);
  options.model = "some-model";
  options.parallel = 1;
  options.call_timeout = std::chrono::milliseconds(5'000);
  options.deadline = std::chrono::milliseconds(600'000);
  return options;
}

/// The error's sentence; empty where none is thrown.
template <class Work>
std::string error_of(Work work) {
  try {
    work();
  } catch (dvla::error const& problem) {
    return problem.what();
  }
  return {};
}

inline bool contains(std::string const& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace dvla_test
