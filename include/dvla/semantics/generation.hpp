// What is asked of a generator of meanings, and what it answers.
#pragma once

#include <concepts>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// The two levels of a class's meaning: {"attributes": [text, ...]} and {"description": text} are their replies.
enum class meaning_level { attributes, description };

/// One question about one class.
struct generation_request {
  meaning_level level = meaning_level::attributes;
  std::string folder;                             ///< the class's folder: its key in banks and recordings
  std::string name;                               ///< the class's name in plain words
  std::string prompt_id;                          ///< names the wording, with its version
  std::string prompt;                             ///< the rendered question
  nlohmann::json schema;                          ///< JSON schema of the reply; objects, arrays and strings only
  std::vector<std::filesystem::path> images{};    ///< support images that go with the question
};

/// What came of a request.
struct generation_result {
  nlohmann::json reply{};       ///< satisfies the request's schema; null where there is none
  std::string failure{};        ///< why there is no reply, a sentence; empty where there is one
  nlohmann::json provenance{};  ///< generator, model, key of the request, usage, whether it came from a cache
  std::string raw{};            ///< the reply as it was written, where there is one to keep

  [[nodiscard]] bool ok() const { return failure.empty(); }
};

/// Called after each request with its index and result, from one thread at a time.
using generation_progress = std::function<void(std::size_t, generation_result const&)>;

/// Answers requests, several at once where it can; results in the order of the requests. A request that fails leaves a failure in its
/// result; what makes every further request pointless (no such model, a wrong key, a spent budget) throws dvla::error after finished
/// answers were kept. `identity` tells what answers depend on beside the request (provider, model, temperature, seed).
template <class G>
concept generator = requires(G& source, std::span<generation_request const> requests, generation_progress const& progress) {
  { source.identity() } -> std::convertible_to<std::string>;
  { source.generate(requests, progress) } -> std::same_as<std::vector<generation_result>>;
};

}  // namespace dvla::inline DVLA_ABI
