// A generator that answers from a file: what was once written about each class, by whatever model or person.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/core/sha256.hpp>
#include <dvla/io/mapped_file.hpp>
#include <dvla/semantics/generation.hpp>
#include <dvla/semantics/generator/schema.hpp>
#include <dvla/semantics/generator/text.hpp>

namespace dvla::inline DVLA_ABI {

/// Answers from {"generator": text, "classes": {folder: {"name": text, "attributes": [text, ...], "description": text, ...}}}: the
/// attributes and the description as recorded. "generator" and "name" may be absent.
class recorded_generator {
 public:
  /// Reads the recording. Throws where the file cannot be read or is none.
  explicit recorded_generator(std::filesystem::path path) : path_(std::move(path)) {
    mapped_file const file(path_);
    std::string_view const text(reinterpret_cast<char const*>(file.bytes().data()), file.bytes().size());
    json_reading reading = detail::read_json(text);
    constexpr std::string_view expected = R"(; expected {"classes": {folder: {"attributes": [...], "description": "..."}}})";
    expect(reading.ok(), path_.string(), " is no recording: it ", reading.problem, expected);
    bool const formed = reading.value.is_object() && reading.value.contains("classes") && reading.value["classes"].is_object();
    expect(formed, path_.string(), " is no recording: it has no classes", expected);
    classes_ = std::move(reading.value["classes"]);
    if (reading.value.contains("generator") && reading.value["generator"].is_string())
      by_ = reading.value["generator"].get<std::string>();
    for (auto const& [folder, entry] : classes_.items()) {
      expect(entry.is_object(), path_.string(), ": class '", folder, "' is no object", expected);
      auto const name = entry.find("name");
      if (name != entry.end() && name->is_string()) by_name_.emplace(name->get<std::string>(), folder);
    }
    hash_ = sha256_hex(file.bytes());
  }

  /// The recording by its content.
  [[nodiscard]] std::string identity() const { return nlohmann::json{{"generator", "recorded"}, {"sha256", hash_}}.dump(); }

  /// See `generator`. A class is found by its folder, otherwise by its name; one that is missing is a failure.
  [[nodiscard]] std::vector<generation_result> generate(std::span<generation_request const> requests,
                                                        generation_progress const& progress = {}) {
    std::vector<generation_result> results;
    results.reserve(requests.size());
    for (auto const& request : requests) {
      results.push_back(answer(request));
      if (progress) progress(results.size() - 1, results.back());
    }
    return results;
  }

 private:
  generation_result answer(generation_request const& request) const {
    nlohmann::json const provenance{{"generator", "recorded"},
                                    {"file", path_.filename().string()},
                                    {"sha256", hash_},
                                    {"recorded_by", by_},
                                    {"prompt_id", request.prompt_id}};
    auto const failure = [&](std::string_view why) {
      return generation_result{{}, concat(detail::request_name(request), ": ", path_.string(), " ", why), provenance, {}};
    };
    auto found = classes_.find(request.folder);
    if (found == classes_.end())
      if (auto const other = by_name_.find(request.name); other != by_name_.end()) found = classes_.find(other->second);
    if (found == classes_.end()) return failure("has no such class; add it to the recording, or rename the folder");
    std::string const level(detail::level_name(request.level));
    if (!found->contains(level)) return failure(concat("has no ", level, " of this class; add it to the recording"));
    nlohmann::json reply{{level, (*found)[level]}};
    if (std::string const problem = check_schema(reply, request.schema); !problem.empty())
      return failure(concat("does not hold what was asked for: ", problem));
    std::string raw = reply.dump();
    return {std::move(reply), {}, provenance, std::move(raw)};
  }

  std::filesystem::path path_;
  std::string hash_{}, by_{};
  nlohmann::json classes_{};
  std::map<std::string, std::string> by_name_{};
};

static_assert(generator<recorded_generator>);

}  // namespace dvla::inline DVLA_ABI
