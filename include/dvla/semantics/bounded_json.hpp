// JSON of unknown origin: nested no deeper than a bank is, so that nothing that walks it can run out of stack.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

/// Parses a text; `source` names it in errors. Of keys that occur twice the last holds. Throws for what is no JSON.
[[nodiscard]] inline nlohmann::json parse_bounded(std::string const& source, std::string_view text, int depth = 24) {
  auto const watch = [&](int at, nlohmann::json::parse_event_t, nlohmann::json&) {
    expect(at <= depth, source, ": the JSON is nested deeper than ", depth, " levels; this is no file of semantics");
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), watch);
  } catch (nlohmann::json::exception const& problem) {
    fail(source, " is no JSON (", problem.what(), "); the file is damaged or of another kind");
  }
}

/// The text of a file. Throws where it cannot be read.
[[nodiscard]] inline std::string read_text(std::filesystem::path const& path) {
  std::ifstream file(path, std::ios::binary);
  expect(file.good() && std::filesystem::is_regular_file(path), path.string(), ": the file cannot be read; check the path");
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace dvla::inline DVLA_ABI
