// How 3x3 convolutions in small groups are divided among blocks and warps, and how rows of images come into shared memory.
//
// Images are cut into strips of at most 28 columns, and what has to be computed is the rows of all strips, one below the other. A
// row of x is brought to shared memory once and serves three rows of y (or of dy) while it is there.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/kernels/conv_geometry.hpp>
#include <dvla/kernels/cuda/conv_mma.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// The geometry (kernel 3, stride 1, padding 1, as many channels in as out) and how images are cut.
struct grouped_sizes {
  static constexpr int widest = 28;  // columns of a strip; at most two tiles of 16

  int height, width, channels, groups;
  int strips, strip_width;  // of an image; its last strip may be narrower
  int all_strips;           // of all images

  explicit grouped_sizes(conv_geometry const& g)
      : height(static_cast<int>(g.height)),
        width(static_cast<int>(g.width)),
        channels(static_cast<int>(g.in_channels)),
        groups(static_cast<int>(g.groups)),
        strips((width + widest - 1) / widest),
        strip_width((width + strips - 1) / strips),
        all_strips(static_cast<int>(g.batch) * strips) {}

  /// The first column of a strip.
  [[nodiscard]] DVLA_HD int left_of(int strip) const { return strip % strips * strip_width; }
  /// Elements from the beginning of the images to a row of a strip's image.
  [[nodiscard]] DVLA_HD std::size_t start_of(int strip, int row) const {
    return (static_cast<std::size_t>(strip / strips) * static_cast<std::size_t>(height) + static_cast<std::size_t>(row)) *
           static_cast<std::size_t>(width) * static_cast<std::size_t>(channels);
  }
};

/// Starts copying `pixels` pixels of a row of an image's slice of Chunks chunks, from column `left` (may be -1), to [pixel][Pitch]
/// chunks; zeros for what lies outside the image or, with outside, for all. `valid` chunks of the slice exist, the others are zeros.
template <class E, int Chunks, int Pitch, int Threads>
__device__ DVLA_INLINE void load_row(grouped_sizes const& s, E const* row, bool outside, int left, int pixels, int valid, unsigned to) {
  for (int i = thread_number(); i < pixels * Chunks; i += Threads) {
    int const pixel = i / Chunks, c = i % Chunks, column = left + pixel;
    bool const inside = !outside && static_cast<unsigned>(column) < static_cast<unsigned>(s.width) && c < valid;
    copy_async(to + static_cast<unsigned>(pixel * Pitch + c) * 16, inside ? row + column * s.channels + c * chunk<E> : row, inside);
  }
}

/// Rounds what this thread's load_row of as many pixels has copied to tf32, where the copies have arrived.
template <int Chunks, int Pitch, int Threads>
__device__ DVLA_INLINE void round_row(int pixels, uint4* row) {
  for (int i = thread_number(); i < pixels * Chunks; i += Threads) {
    uint4& at = row[i / Chunks * Pitch + i % Chunks];
    uint4 const in = at;
    at = make_uint4(as_tf32(in.x), as_tf32(in.y), as_tf32(in.z), as_tf32(in.w));
  }
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
