// The weight gradient of 3x3 convolutions in small groups on the tensor cores: bands of x and dy pass through shared memory, and
// a warp multiplies some pixels of a row of x with the three rows of dy that saw them, into sums for all filters of its group,
// which stay in registers until a block has seen all its bands.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include <dvla/kernels/cuda/conv_grouped.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// What a block takes: a slice of Groups groups, each by Splits warps that share the pixels, in bands of Rows rows of x, of which
/// Stages are in shared memory; Residents blocks share a multiprocessor.
template <int Groups, int Splits, int Rows, int Stages, int Residents>
struct grouped_weight_choice {
  static constexpr int groups = Groups, splits = Splits, rows = Rows, stages = Stages, residents = Residents;
};

/// The fastest found on an H100 (bench/results/cuda_kernels.md).
template <class E, int D>
struct grouped_weight_best : grouped_weight_choice<sizeof(E) == 2 ? 2 : 1, 4, 4, 3, sizeof(E) == 2 ? 1 : 2> {};

/// The filters of a group are (9 taps x D) x D numbers. A row of taps is row_octets octets of 8 inputs of one tap, two of which are
/// the 16 rows of a product.
template <class E, int D, class Choice>
struct grouped_weight_tile : Choice {
  using choice = Choice;
  static constexpr int warps = choice::groups * choice::splits, threads = 32 * warps;
  static constexpr int slice_chunks = choice::groups * D / chunk<E>, pitch = pixel_pitch<E>(slice_chunks);
  static constexpr int row_octets = 3 * D / 8, row_tiles = (row_octets + 1) / 2, octets = D / 8;
  static constexpr int numbers = 3 * row_tiles * octets * 4, sums_bytes = choice::groups * numbers * 32 * 4;  // sums of a lane; of warps

  /// Bytes of a row of x with a column on either side, and of one of dy.
  [[nodiscard]] DVLA_HD static constexpr int x_bytes(int width) { return (width + 2) * pitch * 16; }
  [[nodiscard]] DVLA_HD static constexpr int dy_bytes(int width) { return width * pitch * 16; }
  /// A band has a row more of dy on either side.
  [[nodiscard]] DVLA_HD static constexpr int stage_bytes(int width) {
    return choice::rows * x_bytes(width) + (choice::rows + 2) * dy_bytes(width);
  }
  /// Stages and a pixel of zeros; the sums that warps add up take their place.
  [[nodiscard]] DVLA_HD static constexpr int bytes(int width) {
    int const bands = choice::stages * stage_bytes(width) + pitch * 16;
    return bands > sums_bytes ? bands : sums_bytes;
  }
};

/// Starts copying a band's rows of x and, one more above and below, of dy.
template <int D, class Tile, class E>
__device__ DVLA_INLINE void load_gradient_band(grouped_sizes const& s, E const* x, E const* dy, int strip, int first, int rows, int valid,
                                               unsigned to) {
  int const left = s.left_of(strip), width = s.strip_width;
  for (int i = 0; i < rows; ++i, to += static_cast<unsigned>(Tile::x_bytes(width)))
    load_row<E, Tile::slice_chunks, Tile::pitch, Tile::threads>(s, x + s.start_of(strip, first + i), false, left - 1, width + 2, valid, to);
  to += static_cast<unsigned>((Tile::rows - rows) * Tile::x_bytes(width));
  for (int row = first - 1; row <= first + rows; ++row, to += static_cast<unsigned>(Tile::dy_bytes(width))) {
    bool const outside = row < 0 || row >= s.height;
    load_row<E, Tile::slice_chunks, Tile::pitch, Tile::threads>(s, dy + s.start_of(strip, outside ? first : row), outside, left, width,
                                                                valid, to);
  }
}

/// sums += the products over `operand::step` pixels of a row of x with three rows of dy: [row of taps][tile][octet of outputs].
/// `patch` and `gradient` are the addresses of the lane's pixels in x and in the rows of dy, at its octet.
template <int D, class Tile, class E>
__device__ DVLA_INLINE void multiply_gradient(float (&sums)[3][Tile::row_tiles][Tile::octets][4],
                                              unsigned const (&patch)[pixel_operand<E>::slots],
                                              unsigned const (&gradient)[3][pixel_operand<E>::slots]) {
  using operand = pixel_operand<E>;
  unsigned b[3][Tile::octets][2];
#pragma unroll
  for (int r = 0; r < 3; ++r)
#pragma unroll
    for (int n = 0; n < Tile::octets; ++n) operand::load_b(b[r][n], gradient[r], static_cast<unsigned>(n * 8) * sizeof(E));
  int const lane = thread_number() % 32;
#pragma unroll
  for (int i = 0; i < Tile::row_tiles; ++i) {
    unsigned octet[operand::slots], a[4];
    auto const offset = [](int j) {  // of an octet from the patch; a last tile may have one octet only
      int const o = j < Tile::row_octets ? j : Tile::row_octets - 1;
      return static_cast<unsigned>(o * 8 / D * Tile::pitch * 16 + o * 8 % D * int{sizeof(E)});
    };
#pragma unroll
    for (int slot = 0; slot < operand::slots; ++slot)
      octet[slot] = operand::a_octet(lane, slot) == 0 ? offset(2 * i) : offset(2 * i + 1);
    operand::load_a(a, patch, octet);
#pragma unroll
    for (int r = 0; r < 3; ++r)
#pragma unroll
      for (int n = 0; n < Tile::octets; ++n) multiply<E>(sums[r][i][n], a, b[r][n]);
  }
}

/// sums += a warp's share of a band's products.
template <int D, class Tile, class E>
__device__ DVLA_INLINE void multiply_gradient_band(float (&sums)[3][Tile::row_tiles][Tile::octets][4], int width, int rows, int group,
                                                   int split, unsigned band, unsigned zeros) {
  using operand = pixel_operand<E>;
  int const lane = thread_number() % 32, steps = (width + operand::step - 1) / operand::step;
  auto const channel = static_cast<unsigned>(group * D * int{sizeof(E)} + operand::within_octet(lane));
  auto const dy_bytes = static_cast<unsigned>(Tile::dy_bytes(width));
  unsigned const dy = band + static_cast<unsigned>(Tile::rows * Tile::x_bytes(width)) + channel;
#pragma unroll 1
  for (int unit = split; unit < rows * steps; unit += Tile::splits) {
    int const row = unit / steps, first = unit % steps * operand::step;
    unsigned patch[operand::slots], gradient[3][operand::slots];
#pragma unroll
    for (int slot = 0; slot < operand::slots; ++slot) {
      // past the row's end dy is 0, and x must be a number: that of the last pixel
      int const a_column = ::min(first + operand::a_pixel(lane, slot), width - 1), b_column = first + operand::b_pixel(lane, slot);
      patch[slot] = band + static_cast<unsigned>(row * Tile::x_bytes(width) + a_column * Tile::pitch * 16) + channel;
      unsigned const at = dy + static_cast<unsigned>(row) * dy_bytes + static_cast<unsigned>(b_column * Tile::pitch) * 16;
#pragma unroll
      for (int r = 0; r < 3; ++r)  // row i of x is under tap r of row i + 1 - r of y
        gradient[r][slot] = b_column < width ? at + static_cast<unsigned>(2 - r) * dy_bytes : zeros + channel;
    }
    multiply_gradient<D, Tile, E>(sums, patch, gradient);
  }
}

/// Adds up the sums of a group's warps, one after the other, by way of `total` [number][lane]; those of the last are then whole.
template <class Tile>
__device__ DVLA_INLINE void add_splits(float (&sums)[3][Tile::row_tiles][Tile::octets][4], int split, float* total) {
  int const lane = thread_number() % 32;
#pragma unroll 1
  for (int turn = 0; turn < Tile::splits; ++turn) {
    if (split == turn) {
#pragma unroll
      for (int i = 0; i < Tile::numbers; ++i) {
        float& sum = sums[i / 4 / Tile::octets / Tile::row_tiles][i / 4 / Tile::octets % Tile::row_tiles][i / 4 % Tile::octets][i % 4];
        if (turn > 0) sum += total[i * 32 + lane];
        if (turn + 1 < Tile::splits) total[i * 32 + lane] = sum;
      }
    }
    __syncthreads();
  }
}

/// Writes a warp's sums to the filters (output, 9 taps x D) of its group.
template <int D, class Tile>
__device__ DVLA_INLINE void write_filters(float const (&sums)[3][Tile::row_tiles][Tile::octets][4], float* filters) {
  int const lane = thread_number() % 32;
#pragma unroll
  for (int r = 0; r < 3; ++r)
#pragma unroll
    for (int octet = 0; octet < Tile::row_octets; ++octet)
#pragma unroll
      for (int n = 0; n < Tile::octets; ++n) {
        float* const to = filters + (8 * n + lane % 4 * 2) * 9 * D + r * 3 * D + octet * 8 + lane / 4;
        to[0] = sums[r][octet / 2][n][octet % 2 * 2];
        to[9 * D] = sums[r][octet / 2][n][octet % 2 * 2 + 1];
      }
}

template <int D, class Choice, class E>
__global__ void __launch_bounds__((grouped_weight_tile<E, D, Choice>::threads), Choice::residents)
    grouped_weight_kernel(grouped_sizes const s, E const* x, E const* dy, float* parts) {
  detail::await_predecessors();
  using tile = grouped_weight_tile<E, D, Choice>;
  extern __shared__ uint4 grouped_memory[];
  unsigned const memory = shared_address(grouped_memory), stage_bytes = static_cast<unsigned>(tile::stage_bytes(s.strip_width));
  unsigned const zeros = memory + tile::stages * stage_bytes;
  int const slices = (s.groups + tile::groups - 1) / tile::groups, slice = static_cast<int>(blockIdx.x) % slices;
  int const part = static_cast<int>(blockIdx.x) / slices, part_count = static_cast<int>(gridDim.x) / slices;
  int const first_channel = slice * tile::groups * D, valid = ::min(tile::groups * D, s.channels - first_channel) / chunk<E>;
  int const warp = static_cast<int>(threadIdx.x) / 32, in_slice = warp % tile::groups, split = warp / tile::groups;
  int const bands = (s.height + tile::rows - 1) / tile::rows, band_rows = (s.height + bands - 1) / bands, items = s.all_strips * bands;
  auto const rows_of = [&](int item) { return ::min(band_rows, s.height - item % bands * band_rows); };
  auto const load = [&](int item, unsigned to) {
    if (item < items)
      load_gradient_band<D, tile>(s, x + first_channel, dy + first_channel, item / bands, item % bands * band_rows, rows_of(item), valid,
                                  to);
    copies_commit();
  };
  if (static_cast<int>(threadIdx.x) < tile::pitch) grouped_memory[tile::stages * tile::stage_bytes(s.strip_width) / 16 + threadIdx.x] = {};
  for (int i = 0; i < tile::stages - 1; ++i) load(part + i * part_count, memory + static_cast<unsigned>(i) * stage_bytes);
  float sums[3][tile::row_tiles][tile::octets][4] = {};
  int stage = 0;
  for (int item = part; item < items; item += part_count) {
    copies_wait<tile::stages - 2>();
    __syncthreads();  // the band is there, and nobody reads the one before any more
    load(item + (tile::stages - 1) * part_count, memory + static_cast<unsigned>(stage == 0 ? tile::stages - 1 : stage - 1) * stage_bytes);
    multiply_gradient_band<D, tile, E>(sums, s.strip_width, rows_of(item), in_slice, split,
                                       memory + static_cast<unsigned>(stage) * stage_bytes, zeros);
    stage = stage + 1 == tile::stages ? 0 : stage + 1;
  }
  copies_wait<0>();
  __syncthreads();  // the bands have been read: their memory takes the sums
  add_splits<tile>(sums, split, reinterpret_cast<float*>(grouped_memory) + in_slice * tile::numbers * 32);
  int const group = slice * tile::groups + in_slice;
  if (group < s.groups && split == tile::splits - 1)
    write_filters<D, tile>(sums, parts + (static_cast<std::size_t>(part) * static_cast<std::size_t>(s.groups) + group) * D * 9 * D);
}

/// dweight = (accumulate ? dweight : 0) + the gradient of the weight (channels, 3, 3, D).
template <int D, class Given = void, precision P, class E>
void run_grouped_weight(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* dy, float* dweight, bool accumulate) {
  using choice = std::conditional_t<std::is_void_v<Given>, grouped_weight_best<E, D>, Given>;
  using tile = grouped_weight_tile<E, D, choice>;
  static_assert(!std::is_void_v<Given> || tile::bytes(grouped_sizes::widest) <= int{shared_budget});
  grouped_sizes const s(g);
  auto const bytes = static_cast<std::size_t>(tile::bytes(s.strip_width));
  int const slices = (s.groups + tile::groups - 1) / tile::groups, bands = (s.height + tile::rows - 1) / tile::rows;
  int const parts = parts_of(static_cast<std::size_t>(s.all_strips) * static_cast<std::size_t>(bands), static_cast<std::size_t>(slices),
                             weight_blocks / 2 * tile::residents);
  allow_shared(grouped_weight_kernel<D, choice, E>, bytes);
  sum_parts(device, g.out_channels * g.taps(), parts, dweight, accumulate, [&](float* sums) {
    detail::start(*device.queue, "running the weight gradient of a grouped convolution", grouped_weight_kernel<D, choice, E>,
                  static_cast<unsigned>(slices * parts), tile::threads, bytes, s, x, dy, sums);
  });
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
