// Vectors of texts on disk.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#include <dvla/core/sha256.hpp>
#include <dvla/io/safetensors.hpp>
#include <dvla/semantics/folder_files.hpp>

namespace dvla::inline DVLA_ABI {

/// A folder of vectors by the hashes of their texts: a sub-folder an encoder (by its identity), and in it files of many vectors each. A
/// file a text would cost a flush to the device for each of thousands of texts, one growing file would need locks. What is added
/// waits until `pause` has passed since the last file, or until the end: so what took long is kept at once, and quick calls share a
/// file. Files are written whole under a name made of their texts and never changed, so processes that share a folder cannot harm
/// each other; each sees what the others have written. Deleting the folder loses nothing but time. One thread at a time.
class vector_cache {
 public:
  using key = sha256::digest;

  /// Creates the folder where it is missing. Throws where it cannot, and for a file in it that is no cache's of this encoder.
  vector_cache(std::filesystem::path const& folder, std::string identity, std::size_t width,
               std::chrono::milliseconds pause = std::chrono::seconds(2))
      : identity_(std::move(identity)), width_(width), folder_(folder / sha256_hex(identity_).substr(0, 16)), pause_(pause) {
    std::error_code problem;
    std::filesystem::create_directories(folder_, problem);
    expect(!problem, folder_.string(), ": the cache's folder cannot be made: ", problem.message(), "; name a folder that can be written");
    read_new_files();
  }
  vector_cache(vector_cache const&) = delete;
  vector_cache& operator=(vector_cache const&) = delete;
  /// Writes what waits. Where that fails, those texts are encoded again another time.
  ~vector_cache() {
    try {
      write();
    } catch (...) {
    }
  }

  [[nodiscard]] static key key_of(std::string const& text) {
    sha256 hash;
    hash.update(text);
    return hash.finish();
  }

  [[nodiscard]] bool contains(key const& k) const { return rows_.contains(k); }

  /// The vector of a text that is there.
  [[nodiscard]] std::span<float const> row(key const& k) const { return rows_.at(k); }

  /// Reads what has come into the folder since the last time. Throws for a file that is no cache's of this encoder.
  void read_new_files() {
    for (auto const& path : files_of(folder_)) {
      auto const name = path.filename().string();
      if (path.extension() != ".safetensors" || files_.contains(name)) continue;
      read(path);
      files_.insert(name);
    }
  }

  /// Adds vectors, one a key; of those that are there already, the earlier stay. Throws where a file is due and cannot be written.
  void add(std::span<key const> keys, std::span<float const> rows) {
    for (std::size_t i = 0; i < keys.size(); ++i) {
      auto const row = rows.subspan(i * width_, width_);
      if (rows_.try_emplace(keys[i], row.begin(), row.end()).second) waiting_.push_back(keys[i]);
    }
    if (!written_ || clock::now() - *written_ >= pause_) write();
  }

  /// Writes what waits. Throws where it cannot.
  void write() {
    if (waiting_.empty()) return;
    std::vector<std::uint8_t> bytes;
    std::vector<float> vectors;
    for (auto const& k : waiting_) {
      auto const& row = rows_.at(k);
      bytes.insert(bytes.end(), k.begin(), k.end());
      vectors.insert(vectors.end(), row.begin(), row.end());
    }
    safetensors_writer writer;
    writer.add("keys", {waiting_.size(), key{}.size()}, std::span<std::uint8_t const>(bytes));
    writer.add("vectors", {waiting_.size(), width_}, std::span<float const>(vectors));
    writer.metadata("encoder", identity_);
    std::string const name = sha256_hex(std::as_bytes(std::span(bytes))).substr(0, 32) + ".safetensors";
    writer.write(folder_ / name);
    files_.insert(name);
    waiting_.clear();
    written_ = clock::now();
  }

 private:
  using clock = std::chrono::steady_clock;

  struct key_hash {
    std::size_t operator()(key const& k) const {
      std::size_t h;
      std::memcpy(&h, k.data(), sizeof h);
      return h;
    }
  };

  [[nodiscard]] static safetensors_file opened(std::filesystem::path const& path) {
    try {
      return safetensors_file(path);
    } catch (error const& problem) {
      fail(problem.what(), "; it belongs to a cache of vectors, delete it and its texts are encoded again");
    }
  }

  void read(std::filesystem::path const& path) {
    auto const archive = opened(path);
    auto const& keys = archive.find("keys");
    auto const& vectors = archive.find("vectors");
    bool const fits = archive.metadata("encoder") == identity_ && keys.type == dtype::u8 && vectors.type == dtype::f32 &&
                      keys.shape.size() == 2 && vectors.shape == std::vector<std::size_t>{keys.shape[0], width_} &&
                      keys.shape[1] == key{}.size();
    expect(fits, path.string(), " is no cache of the encoder '", identity_, "'; delete the file");
    auto const numbers = read_as<float>(vectors);
    for (std::size_t i = 0; i < keys.shape[0]; ++i) {
      key k;
      std::memcpy(k.data(), keys.bytes.data() + i * k.size(), k.size());
      auto const begin = numbers.begin() + static_cast<std::ptrdiff_t>(i * width_);
      rows_.try_emplace(k, begin, begin + static_cast<std::ptrdiff_t>(width_));
    }
  }

  std::string identity_;
  std::size_t width_;
  std::filesystem::path folder_;
  std::chrono::milliseconds pause_;
  std::unordered_map<key, std::vector<float>, key_hash> rows_;
  std::set<std::string> files_;  // those that have been read or written
  std::vector<key> waiting_;     // those of rows_ that no file of this cache has yet
  std::optional<clock::time_point> written_;
};

}  // namespace dvla::inline DVLA_ABI
