// The weight gradient of 3x3 convolutions in small groups on the tensor cores: products over pixels. As in conv_grouped.cuh, teams of
// four warps walk down images by themselves, and the rows of a step are on their way while the step before it is computed; a team's
// sums stay in registers until it has seen all its rows.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/kernels/cuda/conv_grouped.cuh>
#include <dvla/kernels/cuda/conv_grouped_rows.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// How a team works on the filters of `groups` groups, D x (9 taps x D) numbers each: by octets of 8 inputs of one tap, two to a tile
/// of the tensor cores' 16 rows, which are divided among `parts` warps. A step is a row of pixels, of x and of dy.
template <class E, int D>
struct grouped_weight_tile {
  static constexpr int team = 128, most_teams = 4, groups = 2, parts = 2;
  static constexpr int slice_chunks = groups * D / chunk<E>, pitch = pixel_pitch<E>(slice_chunks), pixel_bytes = pitch * 16;
  static constexpr int octets = 9 * D / 8, tiles = ((octets + 1) / 2 + parts - 1) / parts;
  static constexpr int filters_bytes = groups * D * 9 * D * static_cast<int>(sizeof(float));

  [[nodiscard]] DVLA_HD static constexpr unsigned place(unsigned pixel) { return pixel * pitch; }
  [[nodiscard]] DVLA_HD static int gradient_bytes(grouped_walk const& s) { return s.columns * pixel_bytes; }
  /// Of a team: its ring and two rows of dy, whose place its sums take at last.
  [[nodiscard]] DVLA_HD static int team_bytes(grouped_walk const& s) {
    int const rows = s.ring_bytes<grouped_weight_tile>() + 2 * gradient_bytes(s);
    return rows > filters_bytes ? rows : filters_bytes;
  }
  /// Strips of 16 or 32 columns, as many as products take.
  [[nodiscard]] static grouped_walk walk(conv_geometry const& g) { return {g, g.width <= 16 ? 16 : 32}; }
};

/// Starts copying a step's row of dy; columns of the strip outside the image are zeros.
template <class E, int D>
__device__ DVLA_INLINE void copy_gradient(grouped_walk const& s, grouped_step const& step, E const* dy, int valid, unsigned to) {
  int const strip = s.strips == 1 ? 0 : step.image / s.batch;
  auto const line = static_cast<unsigned>((step.image - strip * s.batch) * s.height + step.row);
  copy_columns<grouped_weight_tile<E, D>>(dy + static_cast<std::uint64_t>(line) * static_cast<unsigned>(s.width * s.channels),
                                          {strip * s.columns, s.columns, static_cast<unsigned>(s.width)}, s.channels,
                                          static_cast<unsigned>(valid), to);
}

/// sums += the products of a row's patches with its dy, for tiles of octets from `First` on. `rows` are the three rows of x above, at
/// and below dy's, `gradient` dy's, all from this lane's first pixel and its group's first channel on.
template <class E, int D, int First>
__device__ DVLA_INLINE void multiply_pixels(float (&sums)[grouped_weight_tile<E, D>::tiles][D / 8][4], unsigned const (&rows)[3],
                                            unsigned gradient, int columns) {
  using tile = grouped_weight_tile<E, D>;
  using operand = pixel_operand<E>;
  auto const lane = static_cast<int>(lane_number());
#pragma unroll 1
  for (int pixel = 0; pixel < columns; pixel += 16) {
    auto const octet_at = [&](int octet) {  // a last tile may have one octet only
      int const j = octet < tile::octets ? octet : tile::octets - 1, tap = j * 8 / D;
      return rows[tap / 3] + static_cast<unsigned>((pixel + tap % 3) * tile::pixel_bytes + j * 8 % D * int{sizeof(E)});
    };
#pragma unroll
    for (int step = 0; step < 16; step += operand::step) {
      unsigned patch[operand::slots], at[operand::slots], b[D / 8][2];
#pragma unroll
      for (int slot = 0; slot < operand::slots; ++slot) {
        patch[slot] = static_cast<unsigned>((step + operand::a_pixel(0, slot)) * tile::pixel_bytes);
        at[slot] = gradient + static_cast<unsigned>((pixel + step + operand::b_pixel(0, slot)) * tile::pixel_bytes);
      }
#pragma unroll
      for (int n = 0; n < D / 8; ++n) operand::load_b(b[n], at, static_cast<unsigned>(n * 8) * sizeof(E));
#pragma unroll
      for (int i = 0; i < tile::tiles; ++i) {
        unsigned octets[operand::slots], a[4];
#pragma unroll
        for (int slot = 0; slot < operand::slots; ++slot)
          octets[slot] = operand::a_octet(lane, slot) == 0 ? octet_at(First + 2 * i) : octet_at(First + 2 * i + 1);
        operand::load_a(a, patch, octets);
#pragma unroll
        for (int n = 0; n < D / 8; ++n) multiply<E>(sums[i][n], a, b[n]);
      }
    }
  }
}

/// Writes a warp's sums to its team's filters, [group][output][9 taps x D].
template <class E, int D>
__device__ DVLA_INLINE void write_filters(float const (&sums)[grouped_weight_tile<E, D>::tiles][D / 8][4], int group, int part,
                                          float* filters) {
  using tile = grouped_weight_tile<E, D>;
  auto const lane = static_cast<int>(lane_number());
#pragma unroll
  for (int i = 0; i < tile::tiles; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int const octet = 2 * (part * tile::tiles + i) + half;
      if (octet >= tile::octets) continue;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        float* const to = filters + (group * D + 8 * n + lane % 4 * 2) * 9 * D + octet * 8 + lane / 4;
        to[0] = sums[i][n][2 * half];
        to[9 * D] = sums[i][n][2 * half + 1];
      }
    }
}

/// Adds up the filters of the block's teams, which are there for the block, and writes them to the block's part.
template <class E, int D>
__device__ DVLA_INLINE void add_teams(grouped_walk const& s, team_work const& work, uint4 const* memory, float* parts) {
  using tile = grouped_weight_tile<E, D>;
  auto const filters_of = [&](int team) { return reinterpret_cast<float const*>(memory + team * tile::team_bytes(s) / 16); };
  auto const part = static_cast<std::size_t>(static_cast<int>(blockIdx.x) / s.slices<tile>());
  float* const to = parts + (part * s.channels + work.first_channel) * 9 * D;
  for (int i = static_cast<int>(threadIdx.x); i < work.valid_channels * 9 * D; i += static_cast<int>(blockDim.x)) {
    float sum = filters_of(0)[i];
    for (int team = 1; team < static_cast<int>(blockDim.x) / tile::team; ++team) sum += filters_of(team)[i];
    to[i] = sum;
  }
}

template <class E, int D>
__global__ void __launch_bounds__(grouped_weight_tile<E, D>::team* grouped_weight_tile<E, D>::most_teams, 1)
    grouped_weight_kernel(__grid_constant__ grouped_walk const s, E const* x, E const* dy, float* parts) {
  detail::await_predecessors();
  using tile = grouped_weight_tile<E, D>;
  using operand = pixel_operand<E>;
  extern __shared__ uint4 grouped_memory[];
  int const team = static_cast<int>(threadIdx.x) / tile::team, warp = static_cast<int>(team_warp());
  int const group = warp % tile::groups, part = warp / tile::groups, lane = static_cast<int>(lane_number());
  team_work work = team_work::of<tile>(s, D);
  int const first_channel = work.first_channel, valid = work.valid_channels / chunk<E>;
  int const row_bytes = s.row_bytes<tile>(), gradient_bytes = tile::gradient_bytes(s);
  unsigned const ring = shared_address(grouped_memory) + static_cast<unsigned>(team * tile::team_bytes(s));
  unsigned const gradients = ring + static_cast<unsigned>(s.ring_bytes<tile>());
  auto const channels = static_cast<unsigned>(group * D * int{sizeof(E)} + operand::within_octet(lane));
  unsigned const in_rows = ring + static_cast<unsigned>(operand::a_pixel(lane, 0) * tile::pixel_bytes) + channels;
  unsigned const in_gradients = gradients + static_cast<unsigned>(operand::b_pixel(lane, 0) * tile::pixel_bytes) + channels;

  row_ring<E, tile> ring_rows(x + first_channel, valid, ring, work.step);
  auto const copy = [&](grouped_step const& at, int place) {
    ring_rows.copy(s, at.first_read(s) + 3);
    copy_gradient<E, D>(s, at, dy + first_channel, valid, gradients + static_cast<unsigned>(place * gradient_bytes));
    copies_commit();
  };
  auto const await_copies = [&] {
    copies_wait<0>();
    instructions::await_threads<tile::team>(1 + team);
  };
  float sums[tile::tiles][D / 8][4] = {};
  int const steps = work.left;
  if (work.left > 0) copy(work.step, 0);
  await_copies();
  for (int slot = 0, place = 0; work.left > 0; --work.left, place ^= 1) {
    grouped_step const next = work.step.next(s);
    if (work.left > 1) copy(next, place ^ 1);
    unsigned rows[3];
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      int const at = slot + i < s.ring_rows() ? slot + i : slot + i - s.ring_rows();
      rows[i] = in_rows + static_cast<unsigned>(at * row_bytes);
    }
    unsigned const gradient = in_gradients + static_cast<unsigned>(place * gradient_bytes);
    if (part == 0)
      multiply_pixels<E, D, 0>(sums, rows, gradient, s.columns);
    else
      multiply_pixels<E, D, 2 * tile::tiles>(sums, rows, gradient, s.columns);
    await_copies();
    slot += next.first_read(s) - work.step.first_read(s);
    if (slot >= s.ring_rows()) slot -= s.ring_rows();
    work.step = next;
  }
  // All teams come to their barriers equally often. They need not, but compute-sanitizer's racecheck believes otherwise: it reports
  // reads behind the barrier of all, below.
  if (steps < team_work::most_steps<tile>(s)) instructions::await_threads<tile::team>(1 + team);
  write_filters<E, D>(sums, group, part, reinterpret_cast<float*>(grouped_memory + team * tile::team_bytes(s) / 16));
  __syncthreads();
  add_teams<E, D>(s, work, grouped_memory, parts);
}

/// dweight = (accumulate ? dweight : 0) + the gradient of the weight (channels, 3, 3, D).
template <int D, precision P, class E>
void run_grouped_weight(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* dy, float* dweight, bool accumulate) {
  using tile = grouped_weight_tile<E, D>;
  grouped_walk const s = tile::walk(g);
  team_plan const plan = team_plan::of(*device.queue, s, tile{}, 0, tile::team_bytes(s));
  auto const bytes = static_cast<std::size_t>(plan.teams * tile::team_bytes(s));
  allow_shared(grouped_weight_kernel<E, D>, bytes);
  sum_parts(device, g.out_channels * g.taps(), plan.blocks, dweight, accumulate, [&](float* sums) {
    detail::start(*device.queue, "running the weight gradient of a grouped convolution", grouped_weight_kernel<E, D>,
                  static_cast<unsigned>(s.slices<tile>() * plan.blocks), static_cast<unsigned>(plan.teams * tile::team), bytes, s, x, dy,
                  sums);
  });
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
