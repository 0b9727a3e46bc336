// The only file of the tool that compiles the encoders.
#include "text_encoders.hpp"

#include <dvla/core/thread_pool.hpp>
#include <dvla/semantics/open_text_encoder.hpp>

namespace cli {

dvla::any_text_encoder open_encoder(encoder_options const& o) {
  static dvla::thread_pool pool;  // the encoder, which outlives this call, works on it
  dvla::text_encoder_options how;
  how.pool = &pool;
  how.longer = dvla::parse_long_text(o.long_text);
  return dvla::open_text_encoder(o.encoder, how);
}

}  // namespace cli
