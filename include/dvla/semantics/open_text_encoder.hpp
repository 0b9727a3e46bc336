// Text encoders by name: "hashed", "minilm:FOLDER", "clip:FOLDER".
#pragma once

#include <dvla/semantics/any_text_encoder.hpp>
#include <dvla/semantics/cached_encoder.hpp>
#include <dvla/semantics/clip_encoder.hpp>
#include <dvla/semantics/hashed_encoder.hpp>
#include <dvla/semantics/sentence_encoder.hpp>

namespace dvla::inline DVLA_ABI {

/// What an encoder is to do beside its kind; the hashed one takes any text as it is.
struct text_encoder_options {
  long_text longer = long_text::truncate;
  clip_cleaning cleaning = clip_cleaning::openai;  ///< of CLIP's texts
  std::filesystem::path cache{};  ///< a folder that keeps vectors (cached_encoder); none if empty, and none for the hashed encoder
  executor* pool = nullptr;  ///< texts are spread over its threads; it must outlive the encoder
};

/// What the specifications look like, for the help of a tool.
inline constexpr char const* text_encoder_specifications =
    "hashed (no weights), minilm:FOLDER or bert:FOLDER (sentence encoders such as all-MiniLM-L6-v2), clip:FOLDER (CLIP's text tower)";

/// Opens the encoder that a specification names. Throws for an unknown kind and for files that are missing or do not fit.
[[nodiscard]] inline any_text_encoder open_text_encoder(std::string const& specification, text_encoder_options const& options = {}) {
  std::size_t const colon = specification.find(':');
  std::string const kind = specification.substr(0, colon);
  std::string const path = colon == std::string::npos ? std::string() : specification.substr(colon + 1);
  if (kind == "hashed" && colon == std::string::npos) return hashed_encoder{};
  bool const bert = kind == "minilm" || kind == "bert";
  expect(bert || kind == "clip", "text encoder '", specification, "': the kind is not known; give ", text_encoder_specifications);
  expect(!path.empty(), "text encoder '", specification, "': give the model's folder behind the colon, ", kind, ":FOLDER");
  any_text_encoder encoder = bert ? any_text_encoder(sentence_encoder(path, {options.longer, options.pool}))
                                  : any_text_encoder(clip_encoder(path, {options.cleaning, options.longer, {}, options.pool}));
  if (options.cache.empty()) return encoder;
  return cached_encoder<any_text_encoder>(std::move(encoder), options.cache);
}

}  // namespace dvla::inline DVLA_ABI
