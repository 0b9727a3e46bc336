// Vectors of texts kept on disk: what was encoded once is read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <dvla/core/sha256.hpp>
#include <dvla/io/safetensors.hpp>
#include <dvla/semantics/folder_files.hpp>
#include <dvla/semantics/text_encoder.hpp>

namespace dvla::inline DVLA_ABI {

/// An encoder with a cache. The folder has one sub-folder an encoder (by its identity), and in it one file for what each call added: a file
/// a text would cost a flush to the device for each of thousands of texts, one growing file would need locks. Files are written
/// whole under a name made of their texts and never changed, so processes that share a folder cannot harm each other; each sees
/// what the others have finished. Deleting the folder loses nothing but time. May be called from several threads.
template <text_encoder Encoder>
class cached_encoder {
 public:
  /// Creates the folder where it is missing. Throws where it cannot, and for a file in it that is no cache's.
  cached_encoder(Encoder encoder, std::filesystem::path const& folder)
      : encoder_(std::move(encoder)),
        identity_(encoder_.identity()),
        folder_(folder / sha256_hex(identity_).substr(0, 16)),
        state_(std::make_unique<state>()) {
    std::error_code problem;
    std::filesystem::create_directories(folder_, problem);
    expect(!problem, folder_.string(), ": the cache's folder cannot be made: ", problem.message(), "; name a folder that can be written");
    read_new_files();
  }

  [[nodiscard]] std::size_t width() const { return encoder_.width(); }
  [[nodiscard]] std::string identity() const { return identity_; }

  /// Unit rows, one a text; see text_encoder. Texts that the cache lacks are encoded, each once, and written before this returns.
  [[nodiscard]] std::vector<float> encode(std::span<std::string const> texts) const {
    std::lock_guard const lock(state_->mutex);
    std::vector<key> keys;
    keys.reserve(texts.size());
    for (auto const& text : texts) keys.push_back(key_of(text));
    auto const known = [&](key const& k) { return state_->rows.contains(k); };
    if (!std::all_of(keys.begin(), keys.end(), known)) read_new_files();
    std::vector<std::string> missing;
    std::vector<key> missing_keys;
    std::set<key> seen;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (known(keys[i]) || !seen.insert(keys[i]).second) continue;
      missing.push_back(texts[i]);
      missing_keys.push_back(keys[i]);
    }
    state_->encoded += missing.size();
    if (!missing.empty()) add(missing_keys, encoder_.encode(missing));
    std::vector<float> out;
    out.reserve(texts.size() * width());
    for (auto const& k : keys) {
      auto const& row = state_->rows.at(k);
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
  using key = sha256::digest;
  struct key_hash {
    std::size_t operator()(key const& k) const {
      std::size_t h;
      std::memcpy(&h, k.data(), sizeof h);
      return h;
    }
  };
  struct state {
    std::mutex mutex;
    std::unordered_map<key, std::vector<float>, key_hash> rows;
    std::set<std::string> files;  // those that have been read
    std::size_t encoded = 0;
  };

  static key key_of(std::string const& text) {
    sha256 hash;
    hash.update(text);
    return hash.finish();
  }

  /// Reads what has come into the folder since the last time.
  void read_new_files() const {
    for (auto const& path : files_of(folder_)) {
      auto const name = path.filename().string();
      if (path.extension() != ".safetensors" || state_->files.contains(name)) continue;
      read(path);
      state_->files.insert(name);
    }
  }

  [[nodiscard]] static safetensors_file opened(std::filesystem::path const& path) {
    try {
      return safetensors_file(path);
    } catch (error const& problem) {
      fail(problem.what(), "; it belongs to a cache of vectors, delete it and its texts are encoded again");
    }
  }

  void read(std::filesystem::path const& path) const {
    auto const archive = opened(path);
    auto const& keys = archive.find("keys");
    auto const& vectors = archive.find("vectors");
    bool const fits = archive.metadata("encoder") == identity_ && keys.type == dtype::u8 && vectors.type == dtype::f32 &&
                      keys.shape.size() == 2 && vectors.shape == std::vector<std::size_t>{keys.shape[0], width()} &&
                      keys.shape[1] == key{}.size();
    expect(fits, path.string(), " is no cache of the encoder '", identity_, "'; delete the file");
    auto const numbers = read_as<float>(vectors);
    for (std::size_t i = 0; i < keys.shape[0]; ++i) {
      key k;
      std::memcpy(k.data(), keys.bytes.data() + i * k.size(), k.size());
      auto const begin = numbers.begin() + static_cast<std::ptrdiff_t>(i * width());
      state_->rows.try_emplace(k, begin, begin + static_cast<std::ptrdiff_t>(width()));
    }
  }

  void add(std::vector<key> const& keys, std::vector<float> const& rows) const {
    std::vector<std::uint8_t> bytes;
    for (auto const& k : keys) bytes.insert(bytes.end(), k.begin(), k.end());
    safetensors_writer writer;
    writer.add("keys", {keys.size(), key{}.size()}, std::span<std::uint8_t const>(bytes));
    writer.add("vectors", {keys.size(), width()}, std::span<float const>(rows));
    writer.metadata("encoder", identity_);
    std::string const name = sha256_hex(std::as_bytes(std::span(bytes))).substr(0, 32) + ".safetensors";
    writer.write(folder_ / name);
    state_->files.insert(name);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      auto const begin = rows.begin() + static_cast<std::ptrdiff_t>(i * width());
      state_->rows.try_emplace(keys[i], begin, begin + static_cast<std::ptrdiff_t>(width()));
    }
  }

  Encoder encoder_;
  std::string identity_;
  std::filesystem::path folder_;
  std::unique_ptr<state> state_;
};

}  // namespace dvla::inline DVLA_ABI
