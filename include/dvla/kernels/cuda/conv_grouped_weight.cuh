// The weight gradient of 3x3 convolutions in small groups on the tensor cores: bands of x and dy in shared memory, products over
// their pixels, sums in registers until a block has seen all its bands.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/kernels/cuda/conv_grouped.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// The geometry (kernel 3, stride 1, padding 1, as many channels in as out) and how images are cut into bands.
struct band_sizes {
  int height, width, channels, groups, band_rows, bands, items;  // an item is a band of an image

  band_sizes(conv_geometry const& g, int rows)
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

/// Starts copying rows [first - 1, first + rows + 1) of an image's slice, with a column of zeros on either side, to
/// [row][width + 2][Pitch] chunks. `valid` chunks of the slice exist, the others are zeros.
template <class E, int Chunks, int Pitch>
__device__ void load_band(band_sizes const& s, E const* image, int first, int rows, int valid, unsigned to) {
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

/// How a block works on the filters of `groups` groups, (9 taps x D) x D numbers each: by octets of 8 inputs of one tap, two to a
/// tile of the tensor cores' 16 rows, which are divided among `parts` warps.
template <class E, int D>
struct grouped_weight_tile {
  static constexpr int warps = 8, threads = 32 * warps, groups = sizeof(E) == 2 ? 4 : 2, parts = warps / groups;
  static constexpr int slice_chunks = groups * D / chunk<E>, pitch = pixel_pitch<E>(slice_chunks);
  static constexpr int octets = 9 * D / 8, tiles = ((octets + 1) / 2 + parts - 1) / parts;
  static constexpr int band_pixels = 128;  // about as many as a band has
  [[nodiscard]] static std::size_t x_bytes(std::size_t rows, std::size_t width) { return (rows + 2) * (width + 2) * pitch * 16; }
  [[nodiscard]] static std::size_t dy_bytes(std::size_t rows, std::size_t width) { return (rows * width + 15) / 16 * 16 * pitch * 16; }
};

/// Starts copying `pixels` pixels of a slice of dy to [pixel][pitch]; zeros follow up to a multiple of 16.
template <class E, int D>
__device__ void load_gradient(E const* dy, int channels, int pixels, int valid, unsigned to) {
  using tile = grouped_weight_tile<E, D>;
  for (int i = thread_number(); i < (pixels + 15) / 16 * 16 * tile::slice_chunks; i += tile::threads) {
    int const pixel = i / tile::slice_chunks, c = i % tile::slice_chunks;
    bool const inside = pixel < pixels && c < valid;
    copy_async(to + static_cast<unsigned>(pixel * tile::pitch + c) * 16, inside ? dy + pixel * channels + c * chunk<E> : dy, inside);
  }
}

/// Which octets of which group a warp sums, and from where its lanes read.
template <class E, int D>
struct weight_share {
  using tile = grouped_weight_tile<E, D>;
  using operand = pixel_operand<E>;
  int lane, group, first;                        // first octet
  unsigned octet[tile::tiles][operand::slots];   // bytes from a pixel's patch to the octets of a tile

  __device__ explicit weight_share(int width) {
    int const warp = static_cast<int>(threadIdx.x) / 32;
    lane = static_cast<int>(threadIdx.x) % 32, group = warp % tile::groups, first = warp / tile::groups * tile::tiles * 2;
#pragma unroll
    for (int i = 0; i < tile::tiles; ++i)
#pragma unroll
      for (int slot = 0; slot < operand::slots; ++slot) {
        int const j = ::min(first + 2 * i + operand::a_octet(lane, slot), tile::octets - 1);  // a last tile may have one octet only
        int const tap = j * 8 / D, channel = group * D + j * 8 % D;
        octet[i][slot] = static_cast<unsigned>((tap / 3 * (width + 2) + tap % 3) * tile::pitch * 16 + channel * int{sizeof(E)} +
                                               operand::within_octet(lane));
      }
  }
};

/// sums += the products over all pixels of the band, [tile][octet of outputs].
template <class E, int D>
__device__ DVLA_INLINE void multiply_pixels(float (&sums)[grouped_weight_tile<E, D>::tiles][D / 8][4], weight_share<E, D> const& share,
                                            unsigned x, unsigned dy, int width, int pixels) {
  using tile = grouped_weight_tile<E, D>;
  using operand = pixel_operand<E>;
  unsigned const outputs = static_cast<unsigned>(share.group * D) * sizeof(E) + static_cast<unsigned>(operand::within_octet(share.lane));
  unsigned const last = x + static_cast<unsigned>(((pixels - 1) / width * (width + 2) + (pixels - 1) % width) * tile::pitch) * 16;
  int row[operand::slots], column[operand::slots];
#pragma unroll
  for (int slot = 0; slot < operand::slots; ++slot) {
    row[slot] = operand::a_pixel(share.lane, slot) / width;
    column[slot] = operand::a_pixel(share.lane, slot) % width;
  }
  for (int pixel = 0; pixel < pixels; pixel += operand::step) {
    unsigned patch[operand::slots], gradient[operand::slots];
#pragma unroll
    for (int slot = 0; slot < operand::slots; ++slot) {
      // past the end dy is 0, and x must be a number: that of the last pixel
      patch[slot] = ::min(last, x + static_cast<unsigned>((row[slot] * (width + 2) + column[slot]) * tile::pitch) * 16);
      gradient[slot] = dy + static_cast<unsigned>((pixel + operand::b_pixel(share.lane, slot)) * tile::pitch) * 16;
      for (column[slot] += operand::step; column[slot] >= width; ++row[slot]) column[slot] -= width;
    }
    unsigned b[D / 8][2];
#pragma unroll
    for (int n = 0; n < D / 8; ++n) operand::load_b(b[n], gradient, outputs + static_cast<unsigned>(n * 8) * sizeof(E));
#pragma unroll
    for (int i = 0; i < tile::tiles; ++i) {
      unsigned a[4];
      operand::load_a(a, patch, share.octet[i]);
#pragma unroll
      for (int n = 0; n < D / 8; ++n) multiply<E>(sums[i][n], a, b[n]);
    }
  }
}

/// Writes a warp's sums to the filters (output, 9 taps x D) of its group.
template <class E, int D>
__device__ DVLA_INLINE void write_filters(float const (&sums)[grouped_weight_tile<E, D>::tiles][D / 8][4],
                                          weight_share<E, D> const& share, float* filters) {
  using tile = grouped_weight_tile<E, D>;
#pragma unroll
  for (int i = 0; i < tile::tiles; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int const octet = share.first + 2 * i + half;
      if (octet >= tile::octets) continue;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        float* const to = filters + (8 * n + share.lane % 4 * 2) * 9 * D + octet * 8 + share.lane / 4;
        to[0] = sums[i][n][2 * half];
        to[9 * D] = sums[i][n][2 * half + 1];
      }
    }
}

template <class E, int D>
__global__ void __launch_bounds__(256, 2) grouped_weight_kernel(band_sizes const s, E const* x, E const* dy, float* parts) {
  detail::await_predecessors();
  using tile = grouped_weight_tile<E, D>;
  extern __shared__ uint4 grouped_memory[];
  unsigned const x_band = shared_address(grouped_memory);
  unsigned const dy_band = x_band + static_cast<unsigned>((s.band_rows + 2) * (s.width + 2) * tile::pitch) * 16;
  int const slices = (s.groups + tile::groups - 1) / tile::groups, slice = static_cast<int>(blockIdx.x) % slices;
  int const part = static_cast<int>(blockIdx.x) / slices, part_count = static_cast<int>(gridDim.x) / slices;
  int const first_channel = slice * tile::groups * D, valid = ::min(tile::groups * D, s.channels - first_channel) / chunk<E>;
  weight_share<E, D> const share(s.width);
  float sums[tile::tiles][D / 8][4] = {};
  for (int item = part; item < s.items; item += part_count) {
    int const image = item / s.bands, first = item % s.bands * s.band_rows, rows = ::min(s.band_rows, s.height - first);
    std::size_t const image_start = static_cast<std::size_t>(image) * s.height * s.width * s.channels + first_channel;
    load_band<E, tile::slice_chunks, tile::pitch>(s, x + image_start, first, rows, valid, x_band);
    load_gradient<E, D>(dy + image_start + first * s.width * s.channels, s.channels, rows * s.width, valid, dy_band);
    copies_commit();
    copies_wait<0>();
    __syncthreads();
    multiply_pixels<E, D>(sums, share, x_band, dy_band, s.width, rows * s.width);
    __syncthreads();
  }
  int const group = slice * tile::groups + share.group;
  if (group < s.groups)
    write_filters<E, D>(sums, share, parts + (static_cast<std::size_t>(part) * s.groups + group) * D * 9 * D);
}

/// dweight = (accumulate ? dweight : 0) + the gradient of the weight (channels, 3, 3, D).
template <int D, precision P, class E>
void run_grouped_weight(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* dy, float* dweight, bool accumulate) {
  using tile = grouped_weight_tile<E, D>;
  std::size_t rows = std::clamp<std::size_t>(tile::band_pixels / g.width, 1, g.height);
  while (rows > 1 && tile::x_bytes(rows, g.width) + tile::dy_bytes(rows, g.width) > shared_budget) --rows;
  band_sizes const s(g, static_cast<int>(rows));
  std::size_t const bytes = tile::x_bytes(static_cast<std::size_t>(s.band_rows), g.width) +
                            tile::dy_bytes(static_cast<std::size_t>(s.band_rows), g.width);
  int const slices = (s.groups + tile::groups - 1) / tile::groups;
  int const parts = parts_of(static_cast<std::size_t>(s.items), static_cast<std::size_t>(slices));
  allow_shared(grouped_weight_kernel<E, D>, bytes);
  sum_parts(device, g.out_channels * g.taps(), parts, dweight, accumulate, [&](float* sums) {
    detail::start(*device.queue, "running the weight gradient of a grouped convolution", grouped_weight_kernel<E, D>,
                  static_cast<unsigned>(slices * parts), tile::threads, bytes, s, x, dy, sums);
  });
}

/// Whether run_grouped_weight does it, given operands aligned to 16 bytes.
template <int D, class E>
[[nodiscard]] bool grouped_weight_fits(conv_geometry const& g) {
  using tile = grouped_weight_tile<E, D>;
  return grouped_fits<D>(g) && tile::x_bytes(1, g.width) + tile::dy_bytes(1, g.width) <= shared_budget;
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
