// A text encoder that shows how far it is with many texts.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <dvla/semantics/any_text_encoder.hpp>

#include "console.hpp"

namespace cli {

/// Encodes as the encoder within does, some hundred texts at a time, and shows how many are done. With a cache in it, a command that is
/// stopped goes on from there.
class watched_encoder {
 public:
  explicit watched_encoder(dvla::any_text_encoder encoder) : encoder_(std::move(encoder)) {}

  [[nodiscard]] std::size_t width() const { return encoder_.width(); }
  [[nodiscard]] std::string identity() const { return encoder_.identity(); }
  [[nodiscard]] std::vector<float> encode(std::span<std::string const> texts) const {
    constexpr std::size_t together = 512;  // enough of one length for full batches
    progress_line line;
    std::vector<float> out;
    out.reserve(texts.size() * width());
    for (std::size_t done = 0; done < texts.size();) {
      std::size_t const count = std::min(together, texts.size() - done);
      auto const rows = encoder_.encode(texts.subspan(done, count));
      out.insert(out.end(), rows.begin(), rows.end());
      done += count;
      double const fraction = static_cast<double>(done) / static_cast<double>(texts.size());
      if (line.due(fraction)) line.show(fraction, dvla::concat(done, " of ", texts.size(), " texts encoded"));
    }
    return out;
  }

 private:
  dvla::any_text_encoder encoder_;
};

}  // namespace cli
