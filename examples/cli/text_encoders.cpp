// The only file of the tool that compiles the encoders.
#include "text_encoders.hpp"

#include <dvla/core/thread_pool.hpp>
#include <dvla/semantics/cached_encoder.hpp>
#include <dvla/semantics/open_text_encoder.hpp>

namespace cli {
namespace {

/// An encoder that is not to be run: what is not in the cache in front of it is an error.
struct silent_encoder {
  dvla::any_text_encoder encoder;

  [[nodiscard]] std::size_t width() const { return encoder.width(); }
  [[nodiscard]] std::string identity() const { return encoder.identity(); }
  [[nodiscard]] std::vector<float> encode(std::span<std::string const> texts) const {
    dvla::fail("the text '", texts.front(), "' has no kept vector; leave out --offline to encode it");
  }
};

}  // namespace

dvla::any_text_encoder open_encoder(encoder_options const& o) {
  static dvla::thread_pool pool;  // the encoder, which outlives this call, works on it
  dvla::text_encoder_options how;
  how.pool = &pool;
  how.longer = dvla::parse_long_text(o.long_text);
  if (!o.offline || o.encoder == "hashed") {
    how.cache = o.cache;
    return dvla::open_text_encoder(o.encoder, how);
  }
  dvla::expect(!o.cache.empty(), "--offline takes vectors from --encoder-cache alone; give --encoder-cache FOLDER");
  return dvla::cached_encoder<silent_encoder>(silent_encoder{dvla::open_text_encoder(o.encoder, how)}, o.cache);
}

}  // namespace cli
