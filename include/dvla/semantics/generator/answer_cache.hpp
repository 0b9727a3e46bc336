// Answers of language models on disk, one file each, named by everything that the answer depends on.
#pragma once

#include <chrono>
#include <cstddef>
#include <ctime>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/core/sha256.hpp>
#include <dvla/io/atomic_file.hpp>
#include <dvla/io/mapped_file.hpp>
#include <dvla/semantics/generation.hpp>
#include <dvla/semantics/generator/schema.hpp>
#include <dvla/semantics/generator/text.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// The format's version: part of every key, so that a new one starts anew.
inline constexpr int answer_format = 1;

/// A request with its images by the hashes of their files: what a key is made of, and what an entry tells of itself. Throws for an
/// image that cannot be read.
[[nodiscard]] inline nlohmann::json request_text(generation_request const& request) {
  nlohmann::json images = nlohmann::json::array();
  for (auto const& path : request.images) {
    mapped_file const file(path);
    images.push_back({{"sha256", sha256_hex(file.bytes())}, {"bytes", file.bytes().size()}});
  }
  return {{"level", std::string(level_name(request.level))},
          {"folder", request.folder},
          {"name", request.name},
          {"prompt_id", request.prompt_id},
          {"prompt", request.prompt},
          {"schema", request.schema},
          {"images", images}};
}

/// 2026-11-24T22:53:44Z
[[nodiscard]] inline std::string utc_now() {
  std::time_t const now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

}  // namespace detail

/// A folder of answers, folder/ab/ab12....json. Any number of processes may use it at once: entries appear whole, by a rename, and
/// of two for the same key one stays.
class answer_cache {
 public:
  /// What names an answer: sha256 of the canonical JSON of format, generator's identity and request. Addresses, keys, timeouts,
  /// retries and the number of requests at once are no part of it.
  struct entry_key {
    std::string hash{};
    nlohmann::json request{};  ///< with hashes for images
  };

  explicit answer_cache(std::filesystem::path folder) : folder_(std::move(folder)) {}

  [[nodiscard]] static entry_key key_of(std::string const& identity, generation_request const& request) {
    entry_key key{{}, detail::request_text(request)};
    nlohmann::json const whole{{"format", detail::answer_format}, {"identity", identity}, {"request", key.request}};
    key.hash = sha256_hex(detail::canonical_text(whole, detail::request_name(request)));
    return key;
  }

  [[nodiscard]] std::filesystem::path path_of(entry_key const& key) const {
    return folder_ / key.hash.substr(0, 2) / (key.hash + ".json");
  }

  /// The answer; nothing where there is none, or what is there is damaged or does not satisfy the schema.
  [[nodiscard]] std::optional<generation_result> find(entry_key const& key) const {
    auto const path = path_of(key);
    std::error_code problem;
    if (!std::filesystem::is_regular_file(path, problem)) return std::nullopt;
    json_reading entry;
    try {
      mapped_file const file(path);
      entry = detail::read_json({reinterpret_cast<char const*>(file.bytes().data()), file.bytes().size()});
    } catch (error const&) {
      return std::nullopt;  // gone meanwhile, or not ours to read: as if it were not there
    }
    nlohmann::json& value = entry.value;
    bool const whole = entry.ok() && value.is_object() && value.contains("reply") && value.contains("provenance") &&
                       value["provenance"].is_object() && value.contains("raw") && value["raw"].is_string() &&
                       value.contains("key") && value["key"] == key.hash && value.contains("request") &&
                       value["request"] == key.request;
    if (!whole || value["reply"].is_null() || !check_schema(value["reply"], key.request["schema"]).empty()) return std::nullopt;
    generation_result result{std::move(value["reply"]), {}, std::move(value["provenance"]), value["raw"].get<std::string>()};
    mark(result, key, true);
    return result;
  }

  /// Makes the folder and tries it, before anything is paid for. Throws where it cannot be written.
  void prepare() const {
    make(folder_);
    atomic_file const trial(folder_ / "trial");
  }

  /// Keeps an answer, and notes its key in the provenance. Throws where the folder cannot be written.
  void keep(entry_key const& key, std::string const& identity, generation_result& result) const {
    nlohmann::json const entry{{"format", detail::answer_format}, {"key", key.hash},          {"identity", identity},
                               {"request", key.request},          {"raw", result.raw},        {"reply", result.reply},
                               {"provenance", result.provenance}, {"time", detail::utc_now()}};
    auto const path = path_of(key);
    make(path.parent_path());
    write_atomically(path, entry.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    mark(result, key, false);
  }

  static void mark(generation_result& result, entry_key const& key, bool cached) {
    if (!result.provenance.is_object()) result.provenance = nlohmann::json::object();
    result.provenance["key"] = key.hash;
    result.provenance["cached"] = cached;
  }

 private:
  static void make(std::filesystem::path const& folder) {
    std::error_code problem;
    std::filesystem::create_directories(folder, problem);
    expect(!problem, "the cache's folder ", folder.string(), " cannot be made: ", problem.message(), "; give another folder");
  }

  std::filesystem::path folder_;
};

}  // namespace dvla::inline DVLA_ABI
