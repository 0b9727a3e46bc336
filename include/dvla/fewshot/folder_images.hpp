// The images of a folder as episodes take them: prepared, and in training augmented.
#pragma once

#include <dvla/data/loader.hpp>

namespace dvla::inline DVLA_ABI {

/// Images by their position in the source, which must outlive this. Augmentations are functions of (seed, step, place).
struct folder_images {
  image_source const* source;
  preprocessing how{};
  augmentation what{};
  std::uint64_t seed = 0;
  executor* pool = nullptr;

  [[nodiscard]] std::vector<std::size_t> images_per_class() const {
    auto const& first = source->folder().first_of_class;
    std::vector<std::size_t> out;
    for (std::size_t i = 0; i + 1 < first.size(); ++i) out.push_back(first[i + 1] - first[i]);
    return out;
  }

  /// Prepared floats of the images, one after the other. Throws naming a file that cannot be decoded.
  void load(std::span<std::uint32_t const> indices, std::uint64_t step, std::span<float> out) const {
    load_batch(*source, indices, step, how, what, seed, pool, out);
  }
};

}  // namespace dvla::inline DVLA_ABI
