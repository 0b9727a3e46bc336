// Who answers the questions of `dvla semantics generate`.
#pragma once

#include <dvla/semantics/generator/any_generator.hpp>

#include "semantics_options.hpp"

namespace cli {

/// A recording, or a language model behind a cache where one is given; offline the cache alone. Throws where options contradict each
/// other, and where a model is to be asked by a build without libcurl.
[[nodiscard]] dvla::any_generator open_generator(generate_options const& options);

/// What would be sent for these requests, with hashes in place of images, and an estimate of tokens.
[[nodiscard]] nlohmann::json plan_of(generate_options const& options, std::span<dvla::generation_request const> requests);

}  // namespace cli
