// The way of a grouped convolution's results from the tensor cores' registers to memory: a team gathers them in shared memory, from
// where each thread takes 16 bytes at a time to the finish (conv_grouped_finish.cuh).
#pragma once

#include <cstddef>
#include <cstdint>

#include <dvla/kernels/cuda/access.cuh>
#include <dvla/kernels/cuda/conv_grouped_rows.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// The results of a team's step on their way to memory. They are gathered in rows of the ring that nobody reads any more: those above
/// each row of results.
template <class E, int D>
struct step_results {
  using tile = grouped_tile<E, D>;
  grouped_walk const& s;
  unsigned slot;           // of the ring's row above the first row of results
  unsigned rows, columns;  // that exist
  std::size_t start;       // of the first pixel's slice in y

  __device__ step_results(grouped_walk const& walk, grouped_step const& step, int first_slot, int first_channel)
      : s(walk), slot(static_cast<unsigned>(first_slot)), rows(static_cast<unsigned>(::min(walk.rows, walk.height - step.row))) {
    int const strip = s.strips == 1 ? 0 : step.image / s.batch, first_column = strip * s.columns;
    columns = static_cast<unsigned>(::min(s.columns, s.width - first_column));
    auto const pixel = static_cast<unsigned>(((step.image - strip * s.batch) * s.height + step.row) * s.width + first_column);
    start = static_cast<std::uint64_t>(pixel) * static_cast<unsigned>(s.channels) + static_cast<unsigned>(first_channel);
  }

  /// Calls f(place in the ring, in chunks, of a pixel of the step; offset from `start` in y) if it exists.
  template <class F>
  __device__ DVLA_INLINE void with_pixel(unsigned pixel, F f) const {
    unsigned const row = s.by_columns.quotient(pixel), column = pixel - row * s.by_columns.value;
    auto const ring_rows = static_cast<unsigned>(s.ring_rows());
    unsigned const at = slot + row < ring_rows ? slot + row : slot + row - ring_rows;
    if (row < rows && column < columns)
      f((at * static_cast<unsigned>(s.columns + 2) + column) * tile::pitch,
        (row * static_cast<unsigned>(s.width) + column) * static_cast<unsigned>(s.channels));
  }

  /// Has what `finish` will read of the step's results brought near: two lines of 128 bytes a pixel, each by one thread.
  template <class Finish>
  __device__ DVLA_INLINE void prefetch(Finish const& finish) const {
    static_assert(tile::slice_chunks <= 16 && 2 * tile::pixels <= tile::team);
    unsigned const chunk_of_line = ::min(team_thread() % 2 * 8, static_cast<unsigned>(tile::slice_chunks - 1));
    with_pixel(team_thread() / 2, [&](unsigned, unsigned offset) { finish.prefetch(start + offset + chunk_of_line * chunk<E>); });
  }

  /// Gathers the sums, completed by `complete`, which gets the channel and the offset of both in y.
  template <class Complete>
  __device__ DVLA_INLINE void gather(float (&sums)[tile::tiles][D / 8][4], Complete const& complete, int first_channel, uint4* ring) const {
    unsigned const lane = lane_number(), group = team_warp() % tile::groups, first = team_warp() / tile::groups * tile::part_pixels;
    E* const own = reinterpret_cast<E*>(ring + group * tile::group_chunks) + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < tile::tiles; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        unsigned const row = static_cast<unsigned>(8 * half) + lane / 4;  // of the tile
        with_pixel(first + tile::pixel_of(static_cast<unsigned>(i), row), [&](unsigned place, unsigned offset) {
#pragma unroll
          for (int n = 0; n < D / 8; ++n) {
            float result[2] = {sums[i][n][2 * half], sums[i][n][2 * half + 1]};
            unsigned const channel = group * D + static_cast<unsigned>(8 * n) + lane % 4 * 2;  // of the slice
            complete.add_to(result, static_cast<unsigned>(first_channel) + channel, start + offset + channel);
            store_pair(own + place * chunk<E> + 8 * n, result[0], result[1]);
          }
        });
      }
  }
};

/// The thread's chunks of a step's results: their places in the ring, and offsets from the step's start.
template <class E, int D>
struct result_chunks {
  using tile = grouped_tile<E, D>;
  static constexpr unsigned count = (tile::pixels * tile::slice_chunks + tile::team - 1) / tile::team, none = ~0u;
  unsigned place[count], offset[count];

  __device__ DVLA_INLINE result_chunks(step_results<E, D> const& results, int valid) {
#pragma unroll
    for (unsigned i = 0; i < count; ++i) {
      unsigned const number = team_thread() + i * tile::team, c = number % tile::slice_chunks;
      place[i] = none;
      if (c < static_cast<unsigned>(valid))
        results.with_pixel(number / tile::slice_chunks, [&](unsigned at, unsigned from_start) {
          place[i] = at + c;
          offset[i] = from_start + c * chunk<E>;
        });
    }
  }
  /// f(i) for the chunks that exist.
  template <class F>
  __device__ DVLA_INLINE void for_each(F f) const {
#pragma unroll
    for (unsigned i = 0; i < count; ++i)
      if (place[i] != none) f(i);
  }
};

/// What a finish reads of the thread's chunks, if anything.
template <class E, int D, class Finish, bool = Finish::reads>
struct read_chunks {
  __device__ read_chunks(Finish const&, result_chunks<E, D> const&, std::size_t) {}
};
template <class E, int D, class Finish>
struct read_chunks<E, D, Finish, true> {
  raw_packet<E, chunk<E>> at[result_chunks<E, D>::count];

  __device__ DVLA_INLINE read_chunks(Finish const& finish, result_chunks<E, D> const& chunks, std::size_t start) {
    chunks.for_each([&](unsigned i) { at[i] = finish.template load<chunk<E>>(start + chunks.offset[i]); });
  }
};

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
