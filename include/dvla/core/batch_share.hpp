// Which images of a batch a process computes where several processes share it.
#pragma once

#include <cstddef>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// Process `rank` of `size` takes the images rank, rank + size, ... of the first half of the batch, and the mirror images of these
/// in the second half, because an image and its mirror image are mixed with each other (data/augment/mix.hpp). In a share, as in
/// the whole batch, mirror images mirror each other. Draws for an image go by its place in the whole batch, so they do not depend
/// on the number of processes.
struct batch_share {
  std::size_t rank = 0, size = 1;

  /// The place in the whole batch of image i of a share of `count`, which must be even where size > 1.
  [[nodiscard]] DVLA_HD constexpr std::size_t place(std::size_t i, std::size_t count) const {
    bool const mirrored = i >= count / 2;
    std::size_t const first = (mirrored ? count - 1 - i : i) * size + rank;
    return mirrored ? count * size - 1 - first : first;
  }
};

}  // namespace dvla::inline DVLA_ABI
