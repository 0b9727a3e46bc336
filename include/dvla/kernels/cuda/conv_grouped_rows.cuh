// The way of images' rows through shared memory, for 3x3 convolutions in small groups: how the work is cut, and a team's ring of rows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <dvla/kernels/conv_geometry.hpp>
#include <dvla/kernels/cuda/conv_mma.cuh>
#include <dvla/kernels/cuda/conv_weights.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/divisor.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// How a team of four warps works on D channels a group: on `groups` groups, a slice of the channels, each by `parts` warps.
template <class E, int D>
struct grouped_tile {
  static constexpr int team = 128, most_teams = 4;  // threads of a team, teams of a block
  static constexpr int groups = sizeof(E) == 2 ? 4 : 2, parts = 4 / groups;
  static constexpr int group_chunks = D / chunk<E>, slice_chunks = groups * group_chunks;
  static constexpr int tiles = 4 / parts, part_pixels = 16 * tiles, pixels = parts * part_pixels;  // of a step
  static constexpr int pitch = slice_chunks | 1;                                                   // chunks from pixel to pixel
  // Two tiles share their pixels in turn, so that what one reads for a tap the other reads for the next; each tap has whole products.
  static constexpr bool paired = group_chunks % 2 == 0;
  static constexpr int row_chunks = 3 * group_chunks, filter_chunks = 3 * row_chunks, filter_pitch = filter_chunks | 1;
  static constexpr int filter_bytes = (groups * D * filter_pitch + 1) * 16;  // a last single chunk is read with what follows it

  /// Of columns, with one that does not exist where pairs are left with one.
  [[nodiscard]] DVLA_HD static constexpr int padded(int columns) { return paired ? (columns + 1) / 2 * 2 : columns; }
  /// Where a pixel of a ring's row lies, in chunks: every other one of 16 in a row meets in no bank.
  [[nodiscard]] DVLA_HD static constexpr unsigned place(unsigned pixel) { return pixel * pitch + (paired ? pixel / 8 % 2 : 0); }
  /// Which of its tile pair's, or its part's, pixels a row of a tile is.
  [[nodiscard]] DVLA_HD static constexpr unsigned pixel_of(unsigned tile, unsigned row) {
    return paired ? tile / 2 * 32 + 2 * row + tile % 2 : tile * 16 + row;
  }
};

/// The geometry (kernel 3, stride 1, padding 1, as many channels in as out) and a team's way through it: `rows` rows a step, down
/// one image after the other. Between images there is a row of zeros, the last one's lower and the next one's upper neighbour. So
/// there is one pile of rows: row v of it is row v % (height + 1) - 1 of image v / (height + 1). Images that are wider than a step's
/// pixels are cut into strips of columns; then each strip of an image counts as one.
struct grouped_walk {
  int height, width, channels, groups, batch, strips = 1, columns = 0, rows = 1, steps = 0;  // steps: down an image
  detail::divisor by_columns;  // padded

  template <class Tile>
  grouped_walk(conv_geometry const& g, Tile)
      : height(static_cast<int>(g.height)), width(static_cast<int>(g.width)), channels(static_cast<int>(g.in_channels)),
        groups(static_cast<int>(g.groups)), batch(static_cast<int>(g.batch)) {
    auto const fits = [&] {
      return Tile::padded(columns) <= Tile::pixels && Tile::filter_bytes + ring_bytes<Tile>() <= int{shared_budget};
    };
    for (columns = width; !fits(); ++strips) columns = (width + strips - 1) / strips;
    strips = (width + columns - 1) / columns;
    for (rows = std::clamp(Tile::pixels / Tile::padded(columns), 1, height); rows > 1 && !fits();) --rows;
    steps = (height + rows - 1) / rows;
    rows = (height + steps - 1) / steps;  // as even as can be
    by_columns = detail::divisor(static_cast<std::uint32_t>(Tile::padded(columns)));
  }

  /// One row a step, strips of `columns`.
  grouped_walk(conv_geometry const& g, int strip_columns)
      : height(static_cast<int>(g.height)), width(static_cast<int>(g.width)), channels(static_cast<int>(g.in_channels)),
        groups(static_cast<int>(g.groups)), batch(static_cast<int>(g.batch)), strips((width + strip_columns - 1) / strip_columns),
        columns(strip_columns), steps(height), by_columns(static_cast<std::uint32_t>(strip_columns)) {}

  DVLA_HD int images() const { return strips * batch; }
  /// Rows that a step and the next one read, the next one perhaps in another image.
  DVLA_HD int ring_rows() const { return 2 * rows + 3; }
  template <class Tile>
  DVLA_HD int slices() const {
    return (groups + Tile::groups - 1) / Tile::groups;
  }
  template <class Tile>
  DVLA_HD int row_bytes() const {
    return (columns + 2) * Tile::pitch * 16;
  }
  template <class Tile>
  DVLA_HD int ring_bytes() const {
    return ring_rows() * row_bytes<Tile>();
  }
};

/// A step of a team: output rows [row, row + rows) of an image of the pile.
struct grouped_step {
  int image, row;

  __device__ static grouped_step of(grouped_walk const& s, int number) { return {number / s.steps, number % s.steps * s.rows}; }
  [[nodiscard]] __device__ grouped_step next(grouped_walk const& s) const {
    return row + s.rows < s.height ? grouped_step{image, row + s.rows} : grouped_step{image + 1, 0};
  }
  /// The row of the pile above the first one, which is the first one that is read.
  [[nodiscard]] __device__ int first_read(grouped_walk const& s) const { return image * (s.height + 1) + row; }
};

/// This thread's number in its team, in its warp, and its warp's in the team; computed anew wherever it is used, to spare registers.
[[nodiscard]] __device__ DVLA_INLINE unsigned team_thread() { return static_cast<unsigned>(thread_number()) % 128; }
[[nodiscard]] __device__ DVLA_INLINE unsigned lane_number() { return static_cast<unsigned>(thread_number()) % 32; }
[[nodiscard]] __device__ DVLA_INLINE unsigned team_warp() { return static_cast<unsigned>(thread_number()) / 32 % 4; }

/// What a team of a kernel does: `left` steps from `step` on with the channels from first_channel on, of which valid_channels exist
/// in the block's slice. A slice's blocks share its steps.
struct team_work {
  int first_channel, valid_channels, left;
  grouped_step step;

  /// The steps of the team that has most; a team has that many or one less.
  template <class Tile>
  __device__ static int most_steps(grouped_walk const& s) {
    int const walkers = static_cast<int>(gridDim.x) / s.slices<Tile>() * static_cast<int>(blockDim.x) / Tile::team;
    return (s.images() * s.steps + walkers - 1) / walkers;
  }

  template <class Tile>
  __device__ static team_work of(grouped_walk const& s, int dim) {
    int const teams = static_cast<int>(blockDim.x) / Tile::team, team = static_cast<int>(threadIdx.x) / Tile::team;
    int const slices = s.slices<Tile>(), first_channel = static_cast<int>(blockIdx.x) % slices * Tile::groups * dim;
    int const walkers = static_cast<int>(gridDim.x) / slices * teams, walker = static_cast<int>(blockIdx.x) / slices * teams + team;
    auto const first_of = [&](int w) { return static_cast<int>(static_cast<long long>(s.images()) * s.steps * w / walkers); };
    return {first_channel, ::min(Tile::groups * dim, s.channels - first_channel), first_of(walker + 1) - first_of(walker),
            grouped_step::of(s, first_of(walker))};
  }
};

/// How many blocks a slice has, and teams a block: as many as there is shared memory and work for.
struct team_plan {
  int blocks, teams;

  template <class Tile>
  static team_plan of(cuda_queue const& queue, grouped_walk const& s, Tile, int block_bytes, int team_bytes) {
    int const steps = s.images() * s.steps, most_blocks = std::max(1, queue.multiprocessors() / s.slices<Tile>());
    int const fitting = (static_cast<int>(queue.shared_memory()) - block_bytes) / team_bytes;
    int const teams = std::clamp((steps + most_blocks - 1) / most_blocks, 1, std::clamp(fitting, 1, Tile::most_teams));
    return {std::min(most_blocks, (steps + teams - 1) / teams), teams};
  }
};

/// Some columns of a line of an image: `count` from `first` on, of which those from 0 to `width` exist.
struct column_range {
  int first, count;
  unsigned width;
};

/// Calls f(pixel, chunk) for this thread's chunks of a row of pixels.
template <class Tile, class F>
__device__ DVLA_INLINE void for_chunks(int pixels, F f) {
  auto const chunks = static_cast<unsigned>(pixels) * Tile::slice_chunks;
#pragma unroll 1
  for (unsigned at = team_thread(); at < chunks; at += Tile::team) f(at / Tile::slice_chunks, at % Tile::slice_chunks);
}

/// Starts copying columns of a line to [column][pitch] chunks. `valid` chunks of the slice exist; zeros stand for what does not.
template <class Tile, class E>
__device__ DVLA_INLINE void copy_columns(E const* line, column_range const& columns, int channels, unsigned valid, unsigned to) {
  for_chunks<Tile>(columns.count, [&](unsigned pixel, unsigned c) {
    unsigned const column = static_cast<unsigned>(columns.first) + pixel;
    auto const offset = static_cast<int>(column) * channels + static_cast<int>(c * chunk<E>);
    copy_async(to + (Tile::place(pixel) + c) * 16, line + offset, column < columns.width && c < valid);
  });
}

/// Copies rows of the pile, one after the other, to a team's ring: [row][columns + 2][pitch] chunks with a column on either side.
/// Outside the image are zeros.
template <class E, class Tile>
class row_ring {
 public:
  __device__ row_ring(E const* x, int valid, unsigned ring, grouped_step const& first)
      : x_(x), ring_(ring), valid_(static_cast<unsigned>(valid)), image_(first.image), y_(first.row - 1) {}

  /// Starts copying all rows before row `until` that have not been copied.
  __device__ void copy(grouped_walk const& s, int until) {
    for (int left = until - (image_ * (s.height + 1) + y_ + 1); left > 0; --left) {
      int const strip = s.strips == 1 ? 0 : image_ / s.batch;
      auto const line = static_cast<unsigned>((image_ - strip * s.batch) * s.height + y_);
      auto const row_size = static_cast<unsigned>(s.width * s.channels);
      bool const is_image = y_ >= 0 && image_ < s.images();
      column_range const columns{strip * s.columns - 1, s.columns + 2, is_image ? static_cast<unsigned>(s.width) : 0};
      copy_columns<Tile>(x_ + static_cast<std::uint64_t>(line) * row_size, columns, s.channels, valid_,
                         ring_ + static_cast<unsigned>(slot_ * s.row_bytes<Tile>()));
      if (++slot_ == s.ring_rows()) slot_ = 0;
      if (++y_ == s.height) y_ = -1, ++image_;
    }
  }

 private:
  E const* x_;
  unsigned ring_, valid_;
  int slot_ = 0, image_, y_;  // of the next row to copy: its place in the ring, its image and its row there
};

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
