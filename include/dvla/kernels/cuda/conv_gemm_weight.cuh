// Weight gradients as tensor-core products over pixels: dy, transposed, times the patches that are gathered from the image. For
// channels that are a multiple of a chunk.
#pragma once

#include <cstddef>

#include <dvla/kernels/cuda/conv_gemm.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// A block's tile: `Outputs` output channels x 128 elements of their filters, summed over some pixels at a time by 2 x 4 warps.
template <class E, int Outputs>
struct gemm_weight_tile {
  using operand = pixel_operand<E>;
  static constexpr int threads = 256, elements = 128, pixels = 2 * operand::step, stages = 4;
  static constexpr int dy_chunks = Outputs / chunk<E>, dy_pitch = pixel_pitch<E>(dy_chunks) * 16;  // pitches in bytes
  static constexpr int x_chunks = elements / chunk<E>, x_pitch = pixel_pitch<E>(x_chunks) * 16;
  static constexpr int x_rows = threads / x_chunks, x_copies = pixels / x_rows;  // pixels copied at once; copies of a thread
  static constexpr int dy_bytes = pixels * dy_pitch, stage_bytes = dy_bytes + pixels * x_pitch, bytes = stages * stage_bytes;
  static constexpr int warp_tiles = Outputs / 32, warp_octets = elements / 32;  // of 16 outputs and of 8 elements
};

/// Copies tile after tile of dy and of the patches; a thread copies the same chunk of the patch of every x_rows-th pixel.
template <class E, int Outputs>
class gemm_weight_loader {
  using tile = gemm_weight_tile<E, Outputs>;

 public:
  /// For pixels [begin, end), with dy at the tile's first output and as many outputs as there are from there.
  __device__ gemm_weight_loader(gemm_pass const& p, E const* source, E const* dy, int outputs, int first_element, int begin, int end)
      : source_(source), dy_(dy), outputs_(outputs), next_(begin), end_(end) {
    int const thread = static_cast<int>(threadIdx.x), element = first_element + thread % tile::x_chunks * chunk<E>;
    int const tap = element / p.depth, tap_row = tap / p.taps_w, tap_column = tap % p.taps_w;
    exists_ = tap_row < p.taps_h;
    top_ = p.top + tap_row, left_ = p.left + tap_column, channel_ = element % p.depth;
#pragma unroll
    for (int i = 0; i < tile::x_copies; ++i) {
      int const pixel = begin + thread / tile::x_chunks + i * tile::x_rows;
      column_[i] = pixel % p.columns, row_[i] = pixel / p.columns % p.rows, image_[i] = pixel / p.columns / p.rows;
    }
  }

  /// Starts copying the next tile to `to`.
  __device__ void copy_tile(gemm_pass const& p, unsigned to) {
    int const thread = static_cast<int>(threadIdx.x);
    for (int i = thread; i < tile::pixels * tile::dy_chunks; i += tile::threads) {
      int const pixel = i / tile::dy_chunks, c = i % tile::dy_chunks;
      bool const taken = next_ + pixel < end_ && c * chunk<E> < outputs_;
      copy_async(to + static_cast<unsigned>(pixel * tile::dy_pitch + c * 16),
                 taken ? dy_ + static_cast<std::size_t>(next_ + pixel) * p.target_channels + c * chunk<E> : dy_, taken);
    }
#pragma unroll
    for (int i = 0; i < tile::x_copies; ++i) {
      int const pixel = thread / tile::x_chunks + i * tile::x_rows;
      int const y = top_ + row_[i] * p.step, x = left_ + column_[i] * p.step;
      bool const taken = exists_ && next_ + pixel < end_ && static_cast<unsigned>(y) < static_cast<unsigned>(p.source_height) &&
                         static_cast<unsigned>(x) < static_cast<unsigned>(p.source_width);
      std::size_t const at = (static_cast<std::size_t>(image_[i]) * p.source_height + y) * p.source_width + x;
      copy_async(to + static_cast<unsigned>(tile::dy_bytes + pixel * tile::x_pitch + thread % tile::x_chunks * 16),
                 taken ? source_ + at * p.source_channels + channel_ : source_, taken);
      for (column_[i] += tile::pixels; column_[i] >= p.columns; column_[i] -= p.columns)
        if (++row_[i] == p.rows) row_[i] = 0, ++image_[i];
    }
    next_ += tile::pixels;
  }

 private:
  E const *source_, *dy_;
  int outputs_, next_, end_;
  bool exists_;  // the thread's chunk lies in the filter
  int top_, left_, channel_;
  int image_[tile::x_copies], row_[tile::x_copies], column_[tile::x_copies];
};

/// sums += the products over a tile's pixels.
template <class E, int Outputs>
__device__ DVLA_INLINE void multiply_pixel_tile(float (&sums)[Outputs / 32][4][4], unsigned tile_address) {
  using tile = gemm_weight_tile<E, Outputs>;
  using operand = pixel_operand<E>;
  int const lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  unsigned const dy = tile_address + static_cast<unsigned>(warp / 4 * (Outputs / 2) * int{sizeof(E)} + operand::within_octet(lane));
  unsigned const x = tile_address + static_cast<unsigned>(tile::dy_bytes + warp % 4 * 32 * int{sizeof(E)} + operand::within_octet(lane));
#pragma unroll
  for (int step = 0; step < tile::pixels; step += operand::step) {
    unsigned a_pixel[operand::slots], octet[operand::slots], b_pixel[operand::slots];
#pragma unroll
    for (int slot = 0; slot < operand::slots; ++slot) {
      a_pixel[slot] = dy + static_cast<unsigned>((step + operand::a_pixel(lane, slot)) * tile::dy_pitch);
      octet[slot] = static_cast<unsigned>(operand::a_octet(lane, slot) * 8 * int{sizeof(E)});
      b_pixel[slot] = x + static_cast<unsigned>((step + operand::b_pixel(lane, slot)) * tile::x_pitch);
    }
    unsigned b[tile::warp_octets][2];
#pragma unroll
    for (int n = 0; n < tile::warp_octets; ++n) operand::load_b(b[n], b_pixel, static_cast<unsigned>(n * 8 * int{sizeof(E)}));
#pragma unroll
    for (int i = 0; i < tile::warp_tiles; ++i) {
      unsigned a[4], at[operand::slots];
#pragma unroll
      for (int slot = 0; slot < operand::slots; ++slot) at[slot] = a_pixel[slot] + static_cast<unsigned>(i * 16 * int{sizeof(E)});
      operand::load_a(a, at, octet);
#pragma unroll
      for (int n = 0; n < tile::warp_octets; ++n) multiply<E>(sums[i][n], a, b[n]);
    }
  }
}

/// Block x: tile of the filters, fastest that of their elements, then of the outputs, then the part of the pixels; y: the group.
template <class E, int Outputs>
__global__ void __launch_bounds__(256, 2)
    gemm_weight_kernel(gemm_pass const p, E const* source, E const* dy, int part_pixels, float* sums_of_parts) {
  detail::await_predecessors();
  using tile = gemm_weight_tile<E, Outputs>;
  extern __shared__ uint4 gemm_memory[];
  unsigned const memory = shared_address(gemm_memory);
  int const filter_size = p.taps_h * p.taps_w * p.depth, element_tiles = (filter_size + tile::elements - 1) / tile::elements;
  int const output_tiles = (p.outputs + Outputs - 1) / Outputs, block = static_cast<int>(blockIdx.x), group = static_cast<int>(blockIdx.y);
  int const first_element = block % element_tiles * tile::elements, first_output = block / element_tiles % output_tiles * Outputs;
  int const part = block / element_tiles / output_tiles, begin = part * part_pixels, end = ::min(p.pixels, begin + part_pixels);
  int const count = (end - begin + tile::pixels - 1) / tile::pixels, outputs = p.outputs - first_output;
  gemm_weight_loader<E, Outputs> loader(p, source + group * p.source_part, dy + group * p.target_part + first_output, outputs,
                                        first_element, begin, end);
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
    multiply_pixel_tile<E, Outputs>(sums, memory + static_cast<unsigned>(i % tile::stages * tile::stage_bytes));
  }
  int const lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  float* const out = sums_of_parts + (static_cast<std::size_t>(part) * p.parts + group) * p.weight_part;
#pragma unroll
  for (int i = 0; i < tile::warp_tiles; ++i)
#pragma unroll
    for (int n = 0; n < tile::warp_octets; ++n)
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        int const output = first_output + warp / 4 * (Outputs / 2) + 16 * i + lane / 4 + k / 2 * 8;
        int const element = first_element + warp % 4 * 32 + 8 * n + lane % 4 * 2 + k % 2;
        if (output < p.outputs && element < filter_size) out[static_cast<std::size_t>(output) * filter_size + element] = sums[i][n][k];
      }
}

template <int Outputs, precision P, class E>
void run_gemm_weight_tiles(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* dy, float* dweight, bool accumulate) {
  using tile = gemm_weight_tile<E, Outputs>;
  gemm_pass const p = gemm_pass::forward(g);
  std::size_t const element_tiles = (g.taps() + tile::elements - 1) / tile::elements;
  std::size_t const tiles = element_tiles * ((g.group_out() + Outputs - 1) / Outputs);
  std::size_t const pixel_tiles = detail::blocks_of(static_cast<std::size_t>(p.pixels), tile::pixels);
  int const parts = parts_of(pixel_tiles, tiles * g.groups);
  int const part_pixels = (static_cast<int>(pixel_tiles) + parts - 1) / parts * tile::pixels;
  dim3 const grid(detail::blocks_of(tiles * static_cast<std::size_t>(parts), 1), static_cast<unsigned>(p.parts));
  allow_shared(gemm_weight_kernel<E, Outputs>, tile::bytes);
  sum_parts(device, g.out_channels * g.taps(), parts, dweight, accumulate, [&](float* sums) {
    detail::start(*device.queue, "running a weight gradient as a matrix product", gemm_weight_kernel<E, Outputs>, grid, tile::threads,
                  tile::bytes, p, x, dy, part_pixels, sums);
  });
}

/// dweight = (accumulate ? dweight : 0) + the gradient of the weight.
template <precision P, class E>
void run_gemm_weight(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* dy, float* dweight, bool accumulate) {
  std::size_t const outputs = g.group_out();
  if ((outputs + 95) / 96 * 96 <= (outputs + 63) / 64 * 64)
    run_gemm_weight_tiles<96>(device, g, x, dy, dweight, accumulate);
  else
    run_gemm_weight_tiles<64>(device, g, x, dy, dweight, accumulate);
}

/// Whether run_gemm_weight does it, given operands aligned to 16 bytes: chunks of one tap and of one group's outputs.
template <class E>
[[nodiscard]] bool gemm_weight_fits(conv_geometry const& g) {
  return g.group_in() % chunk<E> == 0 && g.group_out() % chunk<E> == 0 && g.groups <= 65535;
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
