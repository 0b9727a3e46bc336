// What a chat generator would send, without sending it: bodies with hashes in place of images, and what they would cost.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/semantics/generation.hpp>
#include <dvla/semantics/generator/base_url.hpp>
#include <dvla/semantics/generator/chat_body.hpp>
#include <dvla/semantics/generator/chat_options.hpp>
#include <dvla/semantics/generator/image_part.hpp>
#include <dvla/semantics/generator/text.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// Qwen2.5-VL's count, one token for 28 x 28 pixels; 1024 for an image of unknown size.
[[nodiscard]] inline std::size_t image_tokens(image_part const& image) {
  if (image.width == 0 || image.height == 0) return 1024;
  return ((std::size_t{image.width} + 27) / 28) * ((std::size_t{image.height} + 27) / 28);
}

/// Four bytes a token, about right for English.
[[nodiscard]] inline std::size_t text_tokens(std::size_t bytes) { return (bytes + 3) / 4; }

}  // namespace detail

/// {"url", "requests": [{"class", "level", "body", "images", "prompt_tokens"}], "prompt_tokens", "max_completion_tokens"}: the
/// first try of each request. Image parts show "sha256:... (n bytes of image/jpeg)". Token counts are estimates. Reads image files,
/// sends nothing and needs no key. Throws for images that cannot be sent.
[[nodiscard]] inline nlohmann::json dry_run(chat_options const& options, std::span<generation_request const> requests) {
  check(options);
  nlohmann::json out{{"url", read_base_url(options.base_url).text + "/chat/completions"}, {"requests", nlohmann::json::array()}};
  std::size_t total = 0;
  for (auto const& request : requests) {
    std::vector<std::string> urls;
    nlohmann::json images = nlohmann::json::array();
    std::size_t tokens = detail::text_tokens(request.prompt.size() + options.system.size() +
                                             detail::canonical_text(request.schema, "a schema").size());
    for (auto const& path : request.images) {
      image_part const image = read_image_part(path, options.max_image_bytes);
      urls.push_back(concat("sha256:", image.sha256, " (", image.bytes.size(), " bytes of ", image.media_type, ")"));
      images.push_back(
          {{"file", image.file}, {"sha256", image.sha256}, {"bytes", image.bytes.size()}, {"media_type", image.media_type}});
      tokens += detail::image_tokens(image);
    }
    out["requests"].push_back({{"class", request.folder},
                               {"level", std::string(detail::level_name(request.level))},
                               {"body", chat_body(options, request, urls, {options.rung, false, false}, options.max_tokens)},
                               {"images", images},
                               {"prompt_tokens", tokens}});
    total += tokens;
  }
  out["prompt_tokens"] = total;
  out["max_completion_tokens"] = options.max_tokens * requests.size();
  return out;
}

}  // namespace dvla::inline DVLA_ABI
