// How a chat-completions server is asked.
#pragma once

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/semantics/generator/budget.hpp>
#include <dvla/semantics/generator/retry.hpp>
#include <dvla/semantics/generator/text.hpp>

namespace dvla::inline DVLA_ABI {

/// How the form of a reply is asked for. A server that refuses one is asked by the next from then on.
enum class chat_rung { json_schema, json_object, plain };

[[nodiscard]] constexpr std::string_view to_string(chat_rung rung) {
  return rung == chat_rung::json_schema ? "json_schema" : rung == chat_rung::json_object ? "json_object" : "plain";
}

struct chat_options {
  std::string provider = "openai-compatible";         ///< a label for keys of caches and provenance; the address is in neither
  std::string base_url = "http://localhost:8000/v1";  ///< /chat/completions is put behind it
  std::string model{};                                ///< as the server names it
  /// The environment variable with the key. Without one, OPENAI_API_KEY goes to api.openai.com and DASHSCOPE_API_KEY to DashScope's
  /// hosts, by https only; other servers get no key.
  std::string key_variable{};
  std::string ca_file{};  ///< certificate authorities to trust instead of the system's

  std::string system{};  ///< a system message; none by default
  double temperature = 0, top_p = 1;
  std::uint32_t seed = 0;        ///< below 2^31
  std::size_t max_tokens = 512;  ///< of a reply; doubled once where a reply is cut
  chat_rung rung = chat_rung::json_schema;
  /// Merged into every body (RFC 7396: null takes a key out), for what a server has of its own, such as top_k. Part of cache keys.
  nlohmann::json extra_body = nlohmann::json::object();

  std::size_t parallel = 4;  ///< requests at once
  retry_policy retry{};
  std::chrono::milliseconds connect_timeout{10'000}, call_timeout{300'000};
  std::chrono::milliseconds deadline{1'800'000};          ///< of one request, with all its tries
  std::size_t max_image_bytes = std::size_t{10} << 20;    ///< of one image
  std::size_t max_response_bytes = std::size_t{8} << 20;  ///< of one answer
  generation_limits limits{};
};

/// Throws for values that no server takes. The address is checked where it is used.
inline void check(chat_options const& o) {
  expect(!o.model.empty(), "no model is named; give the name that the server knows it by (it lists them at /models)");
  expect(std::isfinite(o.temperature) && o.temperature >= 0, "a temperature of ", o.temperature, " cannot be; give 0 or more");
  expect(o.top_p > 0 && o.top_p <= 1, "a top_p of ", o.top_p, " cannot be; give a number above 0, at most 1");
  expect(o.seed < 0x80000000u, "a seed of ", o.seed, " is too large for some servers; give one below 2147483648");
  expect(o.max_tokens > 0 && o.parallel > 0 && o.retry.tries > 0, "max_tokens, parallel requests and tries must be at least 1");
  expect(o.parallel <= 256, o.parallel, " requests at once are too many; give at most 256");
  expect(o.extra_body.is_object(), "the extra body must be a JSON object");
  for (char const* const name : {"messages", "stream", "model", "response_format"})
    expect(!o.extra_body.contains(name), "the extra body must not have '", name, "'; the client sets it");
  expect(o.connect_timeout.count() > 0 && o.call_timeout.count() > 0 && o.deadline.count() > 0, "timeouts must be above zero");
}

/// What answers depend on beside the request, as canonical JSON: equal options give equal texts.
[[nodiscard]] inline std::string chat_identity(chat_options const& o) {
  nlohmann::json const identity{{"generator", "chat"},
                                {"provider", o.provider},
                                {"model", o.model},
                                {"system", o.system},
                                {"temperature", o.temperature},
                                {"top_p", o.top_p},
                                {"seed", o.seed},
                                {"max_tokens", o.max_tokens},
                                {"rung", std::string(to_string(o.rung))},
                                {"extra", o.extra_body},
                                {"images", "source bytes without metadata"}};
  return detail::canonical_text(identity, "an option of the generator");
}

}  // namespace dvla::inline DVLA_ABI
