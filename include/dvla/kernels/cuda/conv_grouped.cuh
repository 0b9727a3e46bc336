// 3x3 convolutions in small groups on the tensor cores: an image's band of rows is read once into shared memory, with the rows
// above and below, and every group of channels is a product of pixels x 9 taps x channels with a filter that fits beside it.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/expr/operations.hpp>
#include <dvla/kernels/conv_geometry.hpp>
#include <dvla/kernels/cuda/conv_mma.cuh>
#include <dvla/kernels/cuda/conv_weights.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>
#include <dvla/kernels/cuda/packet.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// The geometry (kernel 3, stride 1, padding 1, as many channels in as out) and how images are cut into bands.
struct grouped_sizes {
  int height, width, channels, groups, band_rows, bands, items;  // an item is a band of an image

  grouped_sizes(conv_geometry const& g, int rows)
      : height(static_cast<int>(g.height)),
        width(static_cast<int>(g.width)),
        channels(static_cast<int>(g.in_channels)),
        groups(static_cast<int>(g.groups)),
        band_rows(std::min(rows, height)),
        bands((height + band_rows - 1) / band_rows),
        items(static_cast<int>(g.batch) * bands) {
    band_rows = (height + bands - 1) / bands;  // as even as can be
  }
};

/// How a block with D channels a group works: on `groups` groups, a slice of the channels, each by `parts` warps.
template <class E, int D>
struct grouped_tile {
  static constexpr int warps = 8, threads = 32 * warps, groups = sizeof(E) == 2 ? 4 : 2, parts = warps / groups;
  static constexpr int group_chunks = D / chunk<E>, slice_chunks = groups * group_chunks;
  static constexpr int tiles = 4, part_pixels = 16 * tiles, pixels = parts * part_pixels;  // of the forward pass
  static constexpr int pitch = slice_chunks | 1;                                           // chunks from pixel to pixel
  static constexpr int row_chunks = 3 * group_chunks, filter_chunks = 3 * row_chunks, filter_pitch = filter_chunks | 1;
  static constexpr int filter_bytes = groups * D * filter_pitch * 16;
};

/// Starts copying rows [first - 1, first + rows + 1) of an image's slice, with a column of zeros on either side, to
/// [row][width + 2][Pitch] chunks. `valid` chunks of the slice exist, the others are zeros.
template <class E, int Chunks, int Pitch>
__device__ void load_band(grouped_sizes const& s, E const* image, int first, int rows, int valid, unsigned to) {
  int const row_chunks = (s.width + 2) * Chunks;
  int row = thread_number() / row_chunks, at = thread_number() % row_chunks;
  while (row < rows + 2) {
    int const pixel = at / Chunks, c = at % Chunks, y = first + row - 1, x = pixel - 1;
    bool const inside = static_cast<unsigned>(y) < static_cast<unsigned>(s.height) &&
                        static_cast<unsigned>(x) < static_cast<unsigned>(s.width) && c < valid;
    copy_async(to + static_cast<unsigned>((row * (s.width + 2) + pixel) * Pitch + c) * 16,
               inside ? image + (y * s.width + x) * s.channels + c * chunk<E> : image, inside);
    for (at += static_cast<int>(blockDim.x); at >= row_chunks; ++row) at -= row_chunks;
  }
}

/// Starts copying the filters of the slice's groups: a row of filter_pitch chunks for every output channel.
template <class E, int D>
__device__ void load_filters(E const* weight, int valid_channels, unsigned to) {
  using tile = grouped_tile<E, D>;
  for (int i = static_cast<int>(threadIdx.x); i < tile::groups * D * tile::filter_chunks; i += tile::threads) {
    int const channel = i / tile::filter_chunks, c = i % tile::filter_chunks;
    bool const inside = channel < valid_channels;
    copy_async(to + static_cast<unsigned>(channel * tile::filter_pitch + c) * 16, inside ? weight + i * chunk<E> : weight, inside);
  }
}

/// sums += the patches of this warp's 64 pixels of the band times the filters of its group, one row of three taps after the other.
template <class E, int D>
__device__ DVLA_INLINE void multiply_band(float (&sums)[4][D / 8][4], unsigned filters, unsigned band, int width, int pixels) {
  using tile = grouped_tile<E, D>;
  int const thread = thread_number(), lane = thread % 32, warp = thread / 32;
  int const group = warp % tile::groups, part = warp / tile::groups;
  bool const upper = lane >= 16;  // these lanes give the addresses of the second chunk of a pair
  unsigned const row_bytes = static_cast<unsigned>((width + 2) * tile::pitch) * 16;
  unsigned const next_tap = upper ? (tile::pitch - tile::group_chunks) * 16 : 0;
  unsigned patch[tile::tiles];
#pragma unroll
  for (int i = 0; i < tile::tiles; ++i) {
    int const pixel = ::min(part * tile::part_pixels + 16 * i + lane % 16, pixels - 1);
    patch[i] = band + static_cast<unsigned>(pixel / width) * row_bytes +
               static_cast<unsigned>(pixel % width * tile::pitch + group * tile::group_chunks + (upper ? 1 : 0)) * 16;
  }
  unsigned filter = filters + static_cast<unsigned>((group * D + lane % 8) * tile::filter_pitch + lane / 8 % 2) * 16;
#pragma unroll 1
  for (int row = 0; row < 3; ++row) {
#pragma unroll
    for (int j = 0; j < tile::row_chunks; j += 2) {
      int const tap = j / tile::group_chunks, c = j % tile::group_chunks;
      bool const pair = j + 1 < tile::row_chunks;  // else what the upper lanes read is not used
      unsigned const offset =
          static_cast<unsigned>(tap * tile::pitch + c) * 16 + (c + 1 < tile::group_chunks || !pair ? 0 : next_tap);
      unsigned b[D / 8][2];
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        load_matrices(b[n], filter + static_cast<unsigned>(n * 8 * tile::filter_pitch + j) * 16);
        round_operand<E>(b[n]);
      }
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
    filter += tile::row_chunks * 16;
#pragma unroll
    for (int i = 0; i < tile::tiles; ++i) patch[i] += row_bytes;
  }
}

/// Adds the bias and, to accumulate, what `y` holds at the band's first pixel and the group's first channel; puts the results
/// in shared memory at `staged`, [pixel][pitch].
template <class E, int D>
__device__ DVLA_INLINE void stage_results(float (&sums)[4][D / 8][4], float const* bias, E const* y, int channels, int pixels,
                                          E* staged) {
  using tile = grouped_tile<E, D>;
  int const thread = thread_number(), lane = thread % 32, part = thread / 32 / tile::groups;
#pragma unroll
  for (int i = 0; i < tile::tiles; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int const pixel = part * tile::part_pixels + 16 * i + 8 * half + lane / 4;
      if (pixel >= pixels) continue;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        int const channel = 8 * n + lane % 4 * 2;
        float result[2] = {sums[i][n][2 * half], sums[i][n][2 * half + 1]};
        if (bias != nullptr) result[0] += bias[channel], result[1] += bias[channel + 1];
        if (y != nullptr) {
          E const* const old = y + pixel * channels + channel;
          result[0] += static_cast<float>(old[0]), result[1] += static_cast<float>(old[1]);
        }
        store_pair(staged + pixel * tile::pitch * chunk<E> + channel, result[0], result[1]);
      }
    }
}

/// What becomes of a finished result, beside being stored: its GELU is stored too, or it is a GELU's gradient on the way to what is
/// before the GELU. Null pointers ask for nothing.
template <class E>
struct gelu_finish {
  E* gelu = nullptr;          // where gelu(y) goes; y itself may be null then
  E const* before = nullptr;  // z of y = d gelu(z): y gelu'(z) is stored instead

  /// Stores 16 bytes of results at an offset of y.
  __device__ void store(E* y, std::size_t offset, uint4 const* results) const {
    constexpr int n = chunk<E>;
    if (gelu == nullptr && before == nullptr) {
      *reinterpret_cast<uint4*>(y + offset) = *results;
      return;
    }
    auto value = load_packet<float, n>(reinterpret_cast<E const*>(results));
    if (before != nullptr) value = op::gelu::derivative<0>(value, value, load_packet<float, n>(before + offset));
    if (y != nullptr) store_packet(y + offset, value);
    if (gelu != nullptr) store_packet(gelu + offset, op::gelu::apply(value));
  }
};

template <class E, int D>
__global__ void __launch_bounds__(256, 2) grouped_kernel(grouped_sizes const s, E const* x, E const* weight, float const* bias,
                                                         E* y, bool accumulate, gelu_finish<E> const finish) {
  detail::await_predecessors();
  using tile = grouped_tile<E, D>;
  extern __shared__ uint4 grouped_memory[];
  uint4* const band_memory = grouped_memory + tile::filter_bytes / 16;
  unsigned const filters = shared_address(grouped_memory), band = filters + tile::filter_bytes;
  int const slices = (s.groups + tile::groups - 1) / tile::groups, slice = static_cast<int>(blockIdx.x) % slices;
  int const workers = static_cast<int>(gridDim.x) / slices, first_channel = slice * tile::groups * D;
  int const valid_channels = ::min(tile::groups * D, s.channels - first_channel), valid = valid_channels / chunk<E>;
  int const group_channel = static_cast<int>(threadIdx.x) / 32 % tile::groups * D;  // of this warp, in the slice
  bool const has_group = group_channel < valid_channels;
  load_filters<E, D>(weight + static_cast<std::size_t>(first_channel) * 9 * D, valid_channels, filters);
  for (int item = static_cast<int>(blockIdx.x) / slices; item < s.items; item += workers) {
    int const image = item / s.bands, first = item % s.bands * s.band_rows, rows = ::min(s.band_rows, s.height - first);
    int const pixels = rows * s.width;
    std::size_t const image_start = static_cast<std::size_t>(image) * s.height * s.width * s.channels + first_channel;
    load_band<E, tile::slice_chunks, tile::pitch>(s, x + image_start, first, rows, valid, band);
    copies_commit();
    copies_wait<0>();
    __syncthreads();
    float sums[tile::tiles][D / 8][4] = {};
    multiply_band<E, D>(sums, filters, band, s.width, pixels);
    __syncthreads();  // the band has been read: its memory takes the results
    std::size_t const start = image_start + first * s.width * s.channels;
    if (has_group)
      stage_results<E, D>(sums, bias == nullptr ? nullptr : bias + first_channel + group_channel,
                          accumulate ? y + start + group_channel : nullptr, s.channels, pixels,
                          reinterpret_cast<E*>(band_memory) + group_channel);
    __syncthreads();
    for (int i = thread_number(); i < pixels * tile::slice_chunks; i += tile::threads) {
      int const pixel = i / tile::slice_chunks, c = i % tile::slice_chunks;
      if (c < valid) finish.store(y, start + pixel * s.channels + c * chunk<E>, band_memory + pixel * tile::pitch + c);
    }
    __syncthreads();
  }
}

/// y = (accumulate ? y : 0) + the convolution of x with weight (channels, 3, 3, D), plus bias unless that is null.
template <int D, precision P, class E>
void run_grouped(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* weight, float const* bias, E* y,
                 bool accumulate, gelu_finish<E> const& finish = {}) {
  using tile = grouped_tile<E, D>;
  std::size_t const row_bytes = (g.width + 2) * tile::pitch * 16;
  std::size_t const rows = std::min(tile::pixels / g.width, (shared_budget - tile::filter_bytes) / row_bytes - 2);
  grouped_sizes const s(g, static_cast<int>(rows));
  std::size_t const bytes = tile::filter_bytes + static_cast<std::size_t>(s.band_rows + 2) * row_bytes;
  int const slices = (s.groups + tile::groups - 1) / tile::groups;
  int const workers = std::min(s.items, std::max(1, 2 * device.queue->multiprocessors() / slices));
  allow_shared(grouped_kernel<E, D>, bytes);
  detail::start(*device.queue, "running a grouped convolution", grouped_kernel<E, D>, static_cast<unsigned>(slices * workers),
                tile::threads, bytes, s, x, weight, bias, y, accumulate, finish);
}

/// Whether run_grouped does it, given operands aligned to 16 bytes: the filters and at least one row with its neighbours fit.
template <int D, class E>
[[nodiscard]] bool grouped_fits(conv_geometry const& g) {
  using tile = grouped_tile<E, D>;
  return g.groups > 1 && g.group_in() == D && g.group_out() == D && g.kernel_h == 3 && g.kernel_w == 3 && g.stride == 1 &&
         g.padding == 1 && g.width <= tile::pixels && tile::filter_bytes + 3 * (g.width + 2) * tile::pitch * 16 <= shared_budget;
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
