// Convolutions as tensor-core products that gather their left operand: pixels x (taps x channels), with 16-byte copies from the
// image and zeros where a tap lies outside, times filters x (taps x channels). For channels that are a multiple of a chunk.
//
// A patch convolution (the kernel is the stride, no padding) is the same product; so is its input gradient, where a pixel of dy
// gives one row of taps of its patch at a time: a run of kernel_w * channels elements of dx.
#pragma once

#include <climits>
#include <cstddef>

#include <dvla/kernels/conv_geometry.hpp>
#include <dvla/kernels/cuda/conv_mma.cuh>
#include <dvla/kernels/cuda/conv_weights.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// The product of every pixel (i, j) of a rows x columns grid in every image: its patch starts at row top + i step and column
/// left + j step of the source, and the result goes to row and column i pitch and j pitch of the target. There are `parts`
/// products (groups, or rows of taps) whose operands lie *_part elements apart.
struct gemm_pass {
  int pixels, rows, columns;
  int source_height, source_width, source_channels, depth, taps_h, taps_w, top, left, step;  // depth: channels of a tap
  int outputs, target_height, target_width, target_channels, pitch;
  int parts;
  std::size_t source_part, weight_part, target_part;

  /// y from x.
  static gemm_pass forward(conv_geometry const& g) {
    auto const of = [](std::size_t n) { return static_cast<int>(n); };
    return {of(g.batch * g.out_height() * g.out_width()), of(g.out_height()), of(g.out_width()), of(g.height), of(g.width),
            of(g.in_channels), of(g.group_in()), of(g.kernel_h), of(g.kernel_w), -of(g.padding), -of(g.padding), of(g.stride),
            of(g.group_out()), of(g.out_height()), of(g.out_width()), of(g.out_channels), 1,
            of(g.groups), g.group_in(), g.group_out() * g.taps(), g.group_out()};
  }
  /// dx from dy for stride 1: a convolution with filters that are turned round by channel.
  static gemm_pass backward(conv_geometry const& g) {
    conv_geometry const turned{g.batch, g.out_height(), g.out_width(), g.out_channels, g.in_channels,
                               g.kernel_h, g.kernel_w, 1, 0, g.groups};
    gemm_pass pass = forward(turned);  // but for its padding, which may be negative
    pass.rows = pass.target_height = static_cast<int>(g.height), pass.columns = pass.target_width = static_cast<int>(g.width);
    pass.pixels = static_cast<int>(g.batch * g.height * g.width);
    pass.top = static_cast<int>(g.padding) + 1 - static_cast<int>(g.kernel_h);
    pass.left = static_cast<int>(g.padding) + 1 - static_cast<int>(g.kernel_w);
    return pass;
  }
  /// dx from dy for patches: a part is a row of taps.
  static gemm_pass backward_patches(conv_geometry const& g) {
    std::size_t const run = g.kernel_w * g.in_channels;
    conv_geometry const pointwise{g.batch, g.out_height(), g.out_width(), g.out_channels, run, 1, 1, 1, 0, 1};
    gemm_pass pass = forward(pointwise);
    pass.target_height = static_cast<int>(g.height), pass.target_width = static_cast<int>(g.width);
    pass.target_channels = static_cast<int>(g.in_channels), pass.pitch = static_cast<int>(g.stride);
    pass.parts = static_cast<int>(g.kernel_h);
    pass.source_part = 0, pass.weight_part = run * g.out_channels, pass.target_part = g.width * g.in_channels;
    return pass;
  }
};

/// A block's tile of the product: 128 pixels x N outputs, 64 bytes of a patch at a time, by 4 x 2 warps.
template <class E, int N>
struct gemm_tile {
  static constexpr int threads = 256, pixels = 128, depth_chunks = 4, stages = 4;
  static constexpr int warp_tiles = 2, warp_octets = N / 16;  // of 16 pixels and 8 outputs
  static constexpr int stage_bytes = (pixels + N) * depth_chunks * 16, bytes = stages * stage_bytes;
};

/// Where chunk c of row r lies in a tile of rows of four chunks: eight rows' c-th chunks are in different banks.
__device__ DVLA_INLINE unsigned tile_offset(int r, int c) { return static_cast<unsigned>(r * 4 + (c ^ ((r >> 1) & 3))) * 16; }

/// The row of output j in a tile of filters: the outputs of a lane in two neighbouring octets are then four neighbours.
__device__ DVLA_INLINE int filter_slot(int j) { return (j & ~15) | ((j & 2) << 2) | ((j & 12) >> 1) | (j & 1); }

/// Copies tile after tile of both operands; a thread copies chunk threadIdx.x % 4 of every 64th row.
template <class E, int N>
class gemm_loader {
  using tile = gemm_tile<E, N>;

 public:
  __device__ gemm_loader(gemm_pass const& p, E const* source, E const* weight, int first_pixel, int first_output)
      : weight_(weight), left_(p.outputs - first_output) {
    int const thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      int const pixel = first_pixel + thread / 4 + 64 * i, in_image = pixel % (p.rows * p.columns);
      bool const inside = pixel < p.pixels;
      std::size_t const image = inside ? pixel / (p.rows * p.columns) : 0;
      image_[i] = source + image * p.source_height * p.source_width * p.source_channels;
      y_[i] = inside ? p.top + in_image / p.columns * p.step : INT_MIN / 2;
      x_[i] = p.left + in_image % p.columns * p.step;
    }
    channel_ = thread % 4 * chunk<E>;
    settle(p);
  }

  /// Starts copying the next tile to `to`.
  __device__ void copy_tile(gemm_pass const& p, unsigned to) {
    int const row = static_cast<int>(threadIdx.x) / 4, c = static_cast<int>(threadIdx.x) % 4;
    bool const inside = tap_row_ < p.taps_h;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      int const y = y_[i] + tap_row_, x = x_[i] + tap_column_;
      bool const taken = inside && static_cast<unsigned>(y) < static_cast<unsigned>(p.source_height) &&
                         static_cast<unsigned>(x) < static_cast<unsigned>(p.source_width);
      copy_async(to + tile_offset(row + 64 * i, c), taken ? image_[i] + (y * p.source_width + x) * p.source_channels + channel_ : image_[i],
                 taken);
    }
    int const filter_size = p.taps_h * p.taps_w * p.depth, at = (tap_row_ * p.taps_w + tap_column_) * p.depth + channel_;
#pragma unroll
    for (int j = row; j < N; j += 64) {
      bool const taken = inside && j < left_;
      copy_async(to + tile::pixels * 64 + tile_offset(filter_slot(j), c),
                 taken ? weight_ + static_cast<std::size_t>(j) * filter_size + at : weight_, taken);
    }
    channel_ += 4 * chunk<E>;
    settle(p);
  }

 private:
  /// Moves on to the tap that holds channel_.
  __device__ void settle(gemm_pass const& p) {
    for (; channel_ >= p.depth; channel_ -= p.depth)
      if (++tap_column_ == p.taps_w) tap_column_ = 0, ++tap_row_;
  }

  E const* image_[2];
  int y_[2], x_[2];  // of the patch's first pixel; far outside for a pixel past the last
  E const* weight_;
  int left_;  // outputs from this tile's first
  int tap_row_ = 0, tap_column_ = 0, channel_;
};

/// sums += one tile of pixels times one of filters.
template <class E, int N>
__device__ DVLA_INLINE void multiply_tile(float (&sums)[2][N / 16][4], unsigned tile_address) {
  using tile = gemm_tile<E, N>;
  int const lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  int const pixel = warp / 2 * 32 + lane % 16, output = warp % 2 * (N / 2) + lane % 8 + lane / 16 * 8;
#pragma unroll
  for (int step = 0; step < tile::depth_chunks; step += 2) {
    unsigned a[tile::warp_tiles][4], b[tile::warp_octets / 2][4];
#pragma unroll
    for (int i = 0; i < tile::warp_tiles; ++i) {
      load_matrices(a[i], tile_address + tile_offset(pixel + 16 * i, step + lane / 16));
      round_operand<E>(a[i]);
    }
#pragma unroll
    for (int n = 0; n < tile::warp_octets / 2; ++n) {
      load_matrices(b[n], tile_address + tile::pixels * 64 + tile_offset(output + 16 * n, step + lane / 8 % 2));
      round_operand<E>(b[n]);
    }
#pragma unroll
    for (int i = 0; i < tile::warp_tiles; ++i)
#pragma unroll
      for (int n = 0; n < tile::warp_octets; ++n) {
        unsigned const pair[2] = {b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]};
        multiply<E>(sums[i][n], a[i], pair);
      }
  }
}

/// Adds the bias and, to accumulate, the target; stores a block's results.
template <class E, int N>
__device__ DVLA_INLINE void store_tile(gemm_pass const& p, float (&sums)[2][N / 16][4], float const* bias, E* target, int first_pixel,
                                       int first_output, bool accumulate) {
  int const lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int const pixel = first_pixel + warp / 2 * 32 + 16 * i + 8 * half + lane / 4;
      if (pixel >= p.pixels) continue;
      int const column = pixel % p.columns, row = pixel / p.columns % p.rows, image = pixel / p.columns / p.rows;
      E* const at = target + ((static_cast<std::size_t>(image) * p.target_height + row * p.pitch) * p.target_width + column * p.pitch) *
                                 p.target_channels;
#pragma unroll
      for (int n = 0; n < N / 16; n += 2) {
        int const output = first_output + warp % 2 * (N / 2) + 8 * n + lane % 4 * 4;
        if (output >= p.outputs) continue;
        float result[4] = {sums[i][n][2 * half], sums[i][n][2 * half + 1], sums[i][n + 1][2 * half], sums[i][n + 1][2 * half + 1]};
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          if (bias != nullptr) result[k] += bias[output + k];
          if (accumulate) result[k] += static_cast<float>(at[output + k]);
        }
        store_quad(at + output, result);
      }
    }
}

template <class E, int N>
__global__ void __launch_bounds__(256, 2)
    gemm_kernel(gemm_pass const p, E const* source, E const* weight, float const* bias, E* target, bool accumulate) {
  detail::await_predecessors();
  using tile = gemm_tile<E, N>;
  extern __shared__ uint4 gemm_memory[];
  unsigned const memory = shared_address(gemm_memory);
  int const output_tiles = (p.outputs + N - 1) / N, part = static_cast<int>(blockIdx.y);
  int const first_pixel = static_cast<int>(blockIdx.x) / output_tiles * tile::pixels;
  int const first_output = static_cast<int>(blockIdx.x) % output_tiles * N;
  int const count = (p.taps_h * p.taps_w * p.depth / chunk<E> + tile::depth_chunks - 1) / tile::depth_chunks;
  E const* const filters = weight + part * p.weight_part + static_cast<std::size_t>(first_output) * p.taps_h * p.taps_w * p.depth;
  gemm_loader<E, N> loader(p, source + part * p.source_part, filters, first_pixel, first_output);
  for (int i = 0; i < tile::stages - 1; ++i) {
    if (i < count) loader.copy_tile(p, memory + static_cast<unsigned>(i * tile::stage_bytes));
    copies_commit();
  }
  float sums[tile::warp_tiles][tile::warp_octets][4] = {};
  for (int i = 0; i < count; ++i) {
    copies_wait<tile::stages - 2>();
    __syncthreads();  // tile i is there, and nobody reads tile i - 1 any more
    int const next = i + tile::stages - 1;
    if (next < count) loader.copy_tile(p, memory + static_cast<unsigned>(next % tile::stages * tile::stage_bytes));
    copies_commit();
    multiply_tile<E, N>(sums, memory + static_cast<unsigned>(i % tile::stages * tile::stage_bytes));
  }
  store_tile<E, N>(p, sums, bias == nullptr ? nullptr : bias + part * p.outputs, target + part * p.target_part, first_pixel,
                   first_output, accumulate);
}

template <int N, precision P, class E>
void run_gemm_tiles(basic_cuda<P> const& device, gemm_pass const& p, E const* source, E const* weight, float const* bias, E* target,
                    bool accumulate) {
  using tile = gemm_tile<E, N>;
  auto const tiles = static_cast<std::size_t>((p.outputs + N - 1) / N);
  unsigned const blocks = detail::blocks_of(detail::blocks_of(static_cast<std::size_t>(p.pixels), tile::pixels) * tiles, 1);
  allow_shared(gemm_kernel<E, N>, tile::bytes);
  detail::start(*device.queue, "running a convolution as a matrix product", gemm_kernel<E, N>,
                dim3(blocks, static_cast<unsigned>(p.parts)), tile::threads, tile::bytes, p, source, weight, bias, target, accumulate);
}

/// target = (accumulate ? target : 0) + the products of a pass, plus bias (one for every output of every part) unless that is null.
template <precision P, class E>
void run_gemm(basic_cuda<P> const& device, gemm_pass const& p, E const* source, E const* weight, float const* bias, E* target,
              bool accumulate) {
  int const in_96 = (p.outputs + 95) / 96 * 96, in_64 = (p.outputs + 63) / 64 * 64;
  if (in_96 <= in_64)
    run_gemm_tiles<96>(device, p, source, weight, bias, target, accumulate);
  else
    run_gemm_tiles<64>(device, p, source, weight, bias, target, accumulate);
}

/// Whether run_gemm takes a pass, given operands aligned to 16 bytes: chunks of one tap, and results four at a time.
template <class E>
[[nodiscard]] bool gemm_fits(gemm_pass const& p) {
  return p.depth > 0 && p.depth % chunk<E> == 0 && p.source_channels % chunk<E> == 0 && p.outputs % 4 == 0 && p.target_channels % 4 == 0 &&
         p.parts <= 65535;
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
