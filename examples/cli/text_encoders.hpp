// The text encoder that a command line names.
#pragma once

#include <dvla/semantics/any_text_encoder.hpp>

#include "semantics_options.hpp"

namespace cli {

/// Opens "hashed", "clip:FOLDER" or "minilm:FOLDER", with its vectors kept where the options say.
[[nodiscard]] dvla::any_text_encoder open_encoder(encoder_options const& options);

}  // namespace cli
