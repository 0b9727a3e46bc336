// The images of a data set by number: decoded whenever asked for, or once and kept in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/core/parallel.hpp>
#include <dvla/data/decode.hpp>
#include <dvla/data/image_folder.hpp>

namespace dvla::inline DVLA_ABI {

/// Where decoded images live: nowhere (each use decodes the file), or in memory.
enum class image_storage { on_demand, in_memory };

/// A folder's images by their position in folder().images. Reading is safe from several threads.
class image_source {
 public:
  /// With in_memory all files are decoded here, in parallel over the executor; the first failing file's error is thrown.
  explicit image_source(image_folder folder, image_storage storage = image_storage::on_demand, executor* pool = nullptr)
      : folder_(std::move(folder)) {
    if (storage == image_storage::on_demand) return;
    decoded_.resize(folder_.images.size());
    parallel_for(pool, decoded_.size(), 64, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) decoded_[i] = read_image(folder_.images[i].file);
    });
    for (auto const& picture : decoded_) bytes_ += picture.pixels.size();
  }

  [[nodiscard]] image_folder const& folder() const { return folder_; }
  [[nodiscard]] std::size_t size() const { return folder_.images.size(); }
  /// Bytes of decoded pixels held in memory (0 on demand).
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

  [[nodiscard]] std::uint32_t label(std::size_t i) const { return entry(i).label; }

  /// Image i: the one in memory, or the file decoded into `scratch`. Throws naming the file, or for a number out of range.
  [[nodiscard]] image const& read(std::size_t i, image& scratch) const {
    auto const& file = entry(i).file;
    if (!decoded_.empty()) return decoded_[i];
    scratch = read_image(file);
    return scratch;
  }

 private:
  [[nodiscard]] image_folder::entry const& entry(std::size_t i) const {
    expect(i < size(), "image_source ", folder_.root.string(), ": image ", i, " asked for, there are ", size());
    return folder_.images[i];
  }

  image_folder folder_;
  std::vector<image> decoded_;
  std::size_t bytes_ = 0;
};

}  // namespace dvla::inline DVLA_ABI
