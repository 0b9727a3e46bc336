// 3x3 convolutions in small groups on the tensor cores: every group of channels is a product of pixels x 9 taps x channels with a
// filter. A block keeps the filters of a slice of the channels in shared memory. Each of its teams of four warps walks down images by
// itself, whose rows pass through a ring: so some teams compute while others wait for memory, and the rows of a step are on their
// way while the step before it is computed and stored.
#pragma once

#include <cstddef>
#include <type_traits>

#include <dvla/kernels/conv_geometry.hpp>
#include <dvla/kernels/cuda/conv_grouped_finish.cuh>
#include <dvla/kernels/cuda/conv_grouped_results.cuh>
#include <dvla/kernels/cuda/conv_grouped_rows.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// Starts copying the filters of the slice's groups: a row of filter_pitch chunks for every output channel.
template <class E, int D>
__device__ void load_filters(E const* weight, int valid_channels, unsigned to) {
  using tile = grouped_tile<E, D>;
  for (int i = static_cast<int>(threadIdx.x); i < tile::groups * D * tile::filter_chunks; i += static_cast<int>(blockDim.x)) {
    int const channel = i / tile::filter_chunks, c = i % tile::filter_chunks;
    bool const inside = channel < valid_channels;
    copy_async(to + static_cast<unsigned>(channel * tile::filter_pitch + c) * 16, inside ? weight + i * chunk<E> : weight, inside);
  }
}

/// Rounds the filters to tf32, once for all their uses.
template <class E, int D>
__device__ void round_filters(unsigned filters) {
  if constexpr (std::is_same_v<E, float>)
    for (unsigned i = threadIdx.x; i < grouped_tile<E, D>::filter_bytes / 16; i += blockDim.x) round_words(filters + 16 * i);
}

/// This lane's places in the patches of its warp's pixels, and its place in the filters; both go down the three rows of taps.
template <class E, int D>
struct tap_rows {
  using tile = grouped_tile<E, D>;
  unsigned row_bytes, ring_bytes, ring_end;

  __device__ DVLA_INLINE tap_rows(grouped_walk const& s, unsigned ring)
      : row_bytes(static_cast<unsigned>(s.row_bytes<tile>())), ring_bytes(static_cast<unsigned>(s.ring_bytes<tile>())),
        ring_end(ring + ring_bytes) {}

  /// For the left operand, of the pixel that is the lane's row of a tile, `right` columns further on; lanes from 16 on, the second
  /// chunk of a pair. `slot`: of the first row that is read.
  [[nodiscard]] __device__ DVLA_INLINE unsigned patch(grouped_walk const& s, unsigned ring, int slot, unsigned i, unsigned right) const {
    unsigned const lane = lane_number(), group = team_warp() % tile::groups, part = team_warp() / tile::groups;
    unsigned const padded = s.by_columns.value, last = static_cast<unsigned>(s.rows) * padded - (tile::paired ? 2 : 1);
    unsigned const pixel = ::min(part * tile::part_pixels + tile::pixel_of(i, lane % 16), last);
    unsigned const row = s.by_columns.quotient(pixel);
    unsigned column = pixel - row * padded + right;
    if constexpr (tile::paired) column = ::min(column, static_cast<unsigned>(s.columns + 1));
    unsigned const at = ring + (static_cast<unsigned>(slot) + row) * row_bytes +
                        (tile::place(column) + group * tile::group_chunks + lane / 16) * 16;
    return at < ring_end ? at : at - ring_bytes;
  }
  [[nodiscard]] __device__ DVLA_INLINE static unsigned filter(unsigned filters) {
    unsigned const lane = lane_number(), group = team_warp() % tile::groups;
    return filters + ((group * D + lane % 8) * tile::filter_pitch + lane / 8 % 2) * 16;
  }
  template <int Count>
  __device__ DVLA_INLINE void go_down(unsigned (&patch)[Count], unsigned& filter) const {
    filter += tile::row_chunks * 16;
#pragma unroll
    for (int i = 0; i < Count; ++i) {
      patch[i] += row_bytes;
      if (patch[i] >= ring_end) patch[i] -= ring_bytes;
    }
  }
  /// The right operand: a pair of chunks of all outputs' filters.
  __device__ DVLA_INLINE static void load_filters(unsigned (&b)[D / 8][2], unsigned filter, int chunk) {
#pragma unroll
    for (int n = 0; n < D / 8; ++n) load_matrices(b[n], filter + static_cast<unsigned>(n * 8 * tile::filter_pitch + chunk) * 16);
  }
};

/// sums += the patches of this warp's pixels times the filters of its group, one row of three taps after the other. `slot`: where the
/// first row that is read lies in the ring.
template <class E, int D>
__device__ DVLA_INLINE void multiply_rows(float (&sums)[grouped_tile<E, D>::tiles][D / 8][4], grouped_walk const& s, unsigned filters,
                                          unsigned ring, int slot) {
  using tile = grouped_tile<E, D>;
  tap_rows<E, D> const rows(s, ring);
  bool const upper = lane_number() >= 16;
  unsigned const next_tap = upper ? (tile::pitch - tile::group_chunks) * 16 : 0;
  unsigned patch[tile::tiles], filter = rows.filter(filters);
#pragma unroll
  for (int i = 0; i < tile::tiles; ++i) patch[i] = rows.patch(s, ring, slot, static_cast<unsigned>(i), 0);
#pragma unroll 1
  for (int row = 0; row < 3; ++row) {
#pragma unroll
    for (int j = 0; j < tile::row_chunks; j += 2) {
      int const tap = j / tile::group_chunks, c = j % tile::group_chunks;
      bool const pair = j + 1 < tile::row_chunks;  // else what the upper lanes read is not used
      unsigned const offset =
          static_cast<unsigned>(tap * tile::pitch + c) * 16 + (c + 1 < tile::group_chunks || !pair ? 0 : next_tap);
      unsigned b[D / 8][2];
      rows.load_filters(b, filter, j);
#pragma unroll
      for (int i = 0; i < tile::tiles; ++i) {
        unsigned a[4];
        load_matrices(a, patch[i] + offset);
        round_operand<E>(a);
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
          if (pair)
            multiply<E>(sums[i][n], a, b[n]);
          else
            multiply_chunk<E>(sums[i][n], a[0], a[1], b[n][0]);
      }
    }
    rows.go_down(patch, filter);
  }
}

/// The same for tiles in pairs, of every other pixel each: for the three taps of a row they read four columns in place of six.
template <class E, int D>
__device__ DVLA_INLINE void multiply_paired_rows(float (&sums)[grouped_tile<E, D>::tiles][D / 8][4], grouped_walk const& s,
                                                 unsigned filters, unsigned ring, int slot) {
  using tile = grouped_tile<E, D>;
  tap_rows<E, D> const rows(s, ring);
  unsigned patch[tile::tiles * 2], filter = rows.filter(filters);
#pragma unroll
  for (int i = 0; i < tile::tiles * 2; ++i)
    patch[i] = rows.patch(s, ring, slot, static_cast<unsigned>(i / 4 * 2), static_cast<unsigned>(i % 4));
#pragma unroll 1
  for (int row = 0; row < 3; ++row) {
#pragma unroll
    for (int c = 0; c < tile::group_chunks; c += 2) {
      unsigned a[tile::tiles * 2][4];
#pragma unroll
      for (int i = 0; i < tile::tiles * 2; ++i) {
        load_matrices(a[i], patch[i] + static_cast<unsigned>(c) * 16);
        round_operand<E>(a[i]);
      }
#pragma unroll
      for (int tap = 0; tap < 3; ++tap) {
        unsigned b[D / 8][2];
        rows.load_filters(b, filter, tap * tile::group_chunks + c);
#pragma unroll
        for (int i = 0; i < tile::tiles; ++i)
#pragma unroll
          for (int n = 0; n < D / 8; ++n) multiply<E>(sums[i][n], a[i / 2 * 4 + i % 2 + tap], b[n]);
      }
    }
    rows.go_down(patch, filter);
  }
}

template <class E, int D, class Complete, class Finish>
__global__ void __launch_bounds__(grouped_tile<E, D>::team* grouped_tile<E, D>::most_teams, 1)
    grouped_kernel(__grid_constant__ grouped_walk const s, E const* x, E const* weight,
                   __grid_constant__ Complete const complete, __grid_constant__ Finish const finish) {
  detail::await_predecessors();
  using tile = grouped_tile<E, D>;
  extern __shared__ uint4 grouped_memory[];
  int const team = static_cast<int>(threadIdx.x) / tile::team;
  uint4* const ring_memory = grouped_memory + (tile::filter_bytes + team * s.ring_bytes<tile>()) / 16;
  unsigned const filters = shared_address(grouped_memory), ring = shared_address(ring_memory);
  auto [first_channel, valid_channels, left, step] = team_work::of<tile>(s, D);
  int const valid = valid_channels / chunk<E>;
  bool const has_group = static_cast<int>(threadIdx.x) / 32 % tile::groups * D < valid_channels;  // this warp's exists
  load_filters<E, D>(weight + static_cast<std::size_t>(first_channel) * 9 * D, valid_channels, filters);

  row_ring<E, tile> rows(x + first_channel, valid, ring, step);
  if (left > 0) rows.copy(s, step.first_read(s) + s.rows + 2);
  copies_commit();
  copies_wait<0>();
  __syncthreads();
  round_filters<E, D>(filters);
  __syncthreads();
  auto const await_team = [&] { instructions::await_threads<tile::team>(1 + team); };
  for (int slot = 0; left > 0; --left) {
    grouped_step const next = step.next(s);
    if (left > 1) rows.copy(s, next.first_read(s) + s.rows + 2);
    copies_commit();
    step_results<E, D> const results(s, step, slot, first_channel);
    if constexpr (Finish::reads) results.prefetch(finish);
    float sums[tile::tiles][D / 8][4] = {};
    if constexpr (tile::paired)
      multiply_paired_rows<E, D>(sums, s, filters, ring, slot);
    else
      multiply_rows<E, D>(sums, s, filters, ring, slot);
    await_team();  // the rows above have been read: their memory takes the results
    if (has_group) results.gather(sums, complete, first_channel, ring_memory);
    result_chunks<E, D> const chunks(results, valid);
    read_chunks<E, D, Finish> const read(finish, chunks, results.start);
    await_team();
    chunks.for_each([&](unsigned i) {
      auto const values = load_raw<chunk<E>>(reinterpret_cast<E const*>(ring_memory + chunks.place[i]));
      if constexpr (Finish::reads) finish.template finish<chunk<E>>(results.start + chunks.offset[i], values, read.at[i]);
      else finish.template finish<chunk<E>>(results.start + chunks.offset[i], values);
    });
    copies_wait<0>();
    await_team();  // the next rows are there, and the results have left
    slot += next.first_read(s) - step.first_read(s);
    if (slot >= s.ring_rows()) slot -= s.ring_rows();
    step = next;
  }
}

/// The convolution of x with weight (channels, 3, 3, D), its sums completed by `complete` and stored by `finish`
/// (conv_grouped_finish.cuh).
template <int D, precision P, class E, class Complete, class Finish>
void run_grouped(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* weight, Complete const& complete,
                 Finish const& finish) {
  using tile = grouped_tile<E, D>;
  grouped_walk const s(g, tile{});
  team_plan const plan = team_plan::of(*device.queue, s, tile{}, tile::filter_bytes, s.ring_bytes<tile>());
  auto const bytes = static_cast<std::size_t>(tile::filter_bytes + plan.teams * s.ring_bytes<tile>());
  allow_shared(grouped_kernel<E, D, Complete, Finish>, bytes);
  detail::start(*device.queue, "running a grouped convolution", grouped_kernel<E, D, Complete, Finish>,
                static_cast<unsigned>(s.slices<tile>() * plan.blocks), static_cast<unsigned>(plan.teams * tile::team), bytes, s, x,
                weight, complete, finish);
}

/// Whether run_grouped does it, given operands aligned to 16 bytes.
template <int D>
[[nodiscard]] bool grouped_fits(conv_geometry const& g) {
  return g.groups > 1 && g.group_in() == D && g.group_out() == D && g.kernel_h == 3 && g.kernel_w == 3 && g.stride == 1 &&
         g.padding == 1;
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
