// The weight gradient of every geometry and type without tensor cores: dy, transposed, times patches gathered element by element,
// in tiles in shared memory and 4 x 4 results a thread. Parts of the pixels are summed apart, each in the order of its pixels.
#pragma once

#include <algorithm>
#include <climits>
#include <cstddef>

#include <dvla/kernels/cuda/conv_direct.cuh>
#include <dvla/kernels/cuda/conv_weights.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// Block: tile of the elements of a group's filters, fastest, then of its outputs, then the group, then the part of the pixels.
template <int Outputs, class X>
__global__ void __launch_bounds__(256)
    direct_weight_kernel(direct_pass const p, X const* source, X const* dy, int part_pixels, arithmetic_t<X>* parts) {
  detail::await_predecessors();
  using A = arithmetic_t<X>;
  constexpr int elements = 4096 / Outputs, columns = elements / 4;  // columns of threads
  __shared__ direct_operand<A, Outputs> gradients;
  __shared__ direct_operand<A, elements> patches;
  __shared__ X const* images[16];
  __shared__ int tops[16], lefts[16];
  int const thread = static_cast<int>(threadIdx.x), size = p.taps_h * p.taps_w * p.depth;
  int const element_tiles = (size + elements - 1) / elements, output_tiles = (p.outputs + Outputs - 1) / Outputs;
  int block = static_cast<int>(blockIdx.x);
  int const first_element = block % element_tiles * elements;
  block /= element_tiles;
  int const first_output = block % output_tiles * Outputs;
  block /= output_tiles;
  int const group = block % p.groups, part = block / p.groups;
  int const begin = part * part_pixels, end = ::min(p.pixels, begin + part_pixels);
  int const element = first_element + thread % elements, c = element % p.depth, tap = element / p.depth;
  int const r = tap / p.taps_w, q = tap % p.taps_w, row = thread / columns * 4, column = thread % columns * 4;
  A sums[4][4] = {};
  for (int first = begin; first < end; first += 16) {
    if (thread < 16) {
      int const pixel = first + thread;
      bool const inside = pixel < end;
      std::size_t const image = inside ? pixel / p.columns / p.rows : 0;
      images[thread] = source + image * p.source_height * p.source_width * p.source_channels + group * p.depth;
      tops[thread] = inside ? p.top + pixel / p.columns % p.rows * p.step : INT_MIN / 2;
      lefts[thread] = p.left + pixel % p.columns * p.step;
    }
    __syncthreads();  // the pixels are known, and the last tile has been used
#pragma unroll 4
    for (int k = thread / elements; k < 16; k += 256 / elements) {
      int const y = tops[k] + r, x = lefts[k] + q;
      bool const inside = element < size && static_cast<unsigned>(y) < static_cast<unsigned>(p.source_height) &&
                          static_cast<unsigned>(x) < static_cast<unsigned>(p.source_width);
      patches.at[k][thread % elements] = inside ? static_cast<A>(images[k][(y * p.source_width + x) * p.source_channels + c]) : A(0);
    }
    for (int k = thread / Outputs, o = first_output + thread % Outputs; k < 16; k += 256 / Outputs) {
      std::size_t const at = static_cast<std::size_t>(first + k) * p.target_channels + group * p.outputs + o;
      gradients.at[k][thread % Outputs] = first + k < end && o < p.outputs ? static_cast<A>(dy[at]) : A(0);
    }
    __syncthreads();
    multiply_direct(sums, gradients, patches, row, column);
  }
  A* const out = parts + (static_cast<std::size_t>(part) * p.groups + group) * p.outputs * size;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (first_output + row + i < p.outputs && first_element + column + j < size)
        out[static_cast<std::size_t>(first_output + row + i) * size + first_element + column + j] = sums[i][j];
}

template <int Outputs, precision P, class X>
void run_direct_weight_tiles(basic_cuda<P> const& device, conv_geometry const& g, X const* x, X const* dy, arithmetic_t<X>* dweight,
                             bool accumulate) {
  constexpr std::size_t elements = 4096 / Outputs, most_pixels = 4096, most_sums = std::size_t{1} << 25;
  direct_pass const p = direct_pass::forward(g);
  std::size_t const tiles = ((g.taps() + elements - 1) / elements) * ((g.group_out() + Outputs - 1) / Outputs) * g.groups;
  std::size_t const pixels = g.batch * g.out_height() * g.out_width(), size = g.out_channels * g.taps();
  // enough blocks for the card, sums that are not too long for a float, and not too much memory
  std::size_t wanted = std::max<std::size_t>(4 * weight_blocks / tiles, (pixels + most_pixels - 1) / most_pixels);
  wanted = std::clamp<std::size_t>(std::min(wanted, most_sums / size), 1, (pixels + 15) / 16);
  std::size_t const part_pixels = ((pixels + wanted - 1) / wanted + 15) / 16 * 16, parts = (pixels + part_pixels - 1) / part_pixels;
  sum_parts(device, size, static_cast<int>(parts), dweight, accumulate, [&](arithmetic_t<X>* sums) {
    unsigned const blocks = detail::blocks_of(tiles * parts, 1);
    detail::start(*device.queue, "running the weight gradient of a convolution", direct_weight_kernel<Outputs, X>, blocks, 256, 0, p, x, dy,
                  static_cast<int>(part_pixels), sums);
  });
}

/// dweight = (accumulate ? dweight : 0) + the gradient of the weight.
template <precision P, class X>
void run_direct_weight(basic_cuda<P> const& device, conv_geometry const& g, X const* x, X const* dy, arithmetic_t<X>* dweight,
                       bool accumulate) {
  if (g.group_out() <= 16)
    run_direct_weight_tiles<16>(device, g, x, dy, dweight, accumulate);
  else if (g.group_out() <= 32)
    run_direct_weight_tiles<32>(device, g, x, dy, dweight, accumulate);
  else
    run_direct_weight_tiles<64>(device, g, x, dy, dweight, accumulate);
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
