// An encoder that keeps its vectors on disk: what was encoded once is read.
#pragma once

#include <algorithm>
#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <dvla/semantics/text_encoder.hpp>
#include <dvla/semantics/vector_cache.hpp>

namespace dvla::inline DVLA_ABI {

/// An encoder with a cache in a folder that any number of processes may share; see vector_cache. May be called from several threads.
template <text_encoder Encoder>
class cached_encoder {
 public:
  /// Creates the folder where it is missing. Throws where it cannot, and for a file in it that is no cache's.
  cached_encoder(Encoder encoder, std::filesystem::path const& folder)
      : encoder_(std::move(encoder)),
        identity_(encoder_.identity()),
        state_(std::make_unique<state>(folder, identity_, encoder_.width())) {}

  [[nodiscard]] std::size_t width() const { return encoder_.width(); }
  [[nodiscard]] std::string identity() const { return identity_; }

  /// Unit rows, one a text; see text_encoder. Texts that the cache lacks are encoded, each once, and written within seconds, or when
  /// the encoder goes.
  [[nodiscard]] std::vector<float> encode(std::span<std::string const> texts) const {
    std::lock_guard const lock(state_->mutex);
    auto& cache = state_->cache;
    std::vector<key> keys;
    keys.reserve(texts.size());
    for (auto const& text : texts) keys.push_back(vector_cache::key_of(text));
    auto const known = [&](key const& k) { return cache.contains(k); };
    if (!std::all_of(keys.begin(), keys.end(), known)) cache.read_new_files();
    std::vector<std::string> missing;
    std::vector<key> missing_keys;
    std::set<key> seen;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (known(keys[i]) || !seen.insert(keys[i]).second) continue;
      missing.push_back(texts[i]);
      missing_keys.push_back(keys[i]);
    }
    state_->encoded += missing.size();
    if (!missing.empty()) cache.add(missing_keys, encoder_.encode(missing));
    std::vector<float> out;
    out.reserve(texts.size() * width());
    for (auto const& k : keys) {
      auto const row = cache.row(k);
      out.insert(out.end(), row.begin(), row.end());
    }
    return out;
  }

  /// How many texts were encoded here rather than read.
  [[nodiscard]] std::size_t encoded() const {
    std::lock_guard const lock(state_->mutex);
    return state_->encoded;
  }
  [[nodiscard]] Encoder const& encoder() const { return encoder_; }

 private:
  using key = vector_cache::key;
  struct state {
    state(std::filesystem::path const& folder, std::string const& identity, std::size_t width) : cache(folder, identity, width) {}
    std::mutex mutex;
    vector_cache cache;
    std::size_t encoded = 0;
  };

  Encoder encoder_;
  std::string identity_;
  std::unique_ptr<state> state_;
};

}  // namespace dvla::inline DVLA_ABI
