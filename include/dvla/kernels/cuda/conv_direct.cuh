// Convolutions of every geometry and type without tensor cores: products of patches, gathered element by element, with filters,
// in tiles in shared memory and 4 x 4 results a thread, each a sum in the order of its terms.
#pragma once

#include <algorithm>
#include <climits>
#include <cstddef>

#include <dvla/kernels/conv_geometry.hpp>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>
#include <dvla/kernels/cuda/packet.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// One such product: pixel (i, j) of a rows x columns grid in every image takes the taps_h x taps_w patch of the source that
/// begins at row top + i step and column left + j step, and goes to row first_row + i pitch, column first_column + j pitch of the
/// target. The weight that takes element c of tap (r, q) to an output lies at origin + group * group_stride + output *
/// output_stride + r * row_stride + q * column_stride + c * element_stride.
struct direct_pass {
  int pixels, rows, columns, groups;
  int source_height, source_width, source_channels, depth;  // depth: elements of a tap, the channels of a group
  int top, left, step, taps_h, taps_w;
  int target_height, target_width, target_channels, first_row, first_column, pitch, outputs;  // outputs of a group
  std::ptrdiff_t origin, group_stride, output_stride, row_stride, column_stride, element_stride;

  /// y from x.
  static direct_pass forward(conv_geometry const& g) {
    auto const of = [](std::size_t n) { return static_cast<int>(n); };
    auto const stride = [](std::size_t n) { return static_cast<std::ptrdiff_t>(n); };
    return {of(g.batch * g.out_height() * g.out_width()), of(g.out_height()), of(g.out_width()), of(g.groups),
            of(g.height), of(g.width), of(g.in_channels), of(g.group_in()),
            -of(g.padding), -of(g.padding), of(g.stride), of(g.kernel_h), of(g.kernel_w),
            of(g.out_height()), of(g.out_width()), of(g.out_channels), 0, 0, 1, of(g.group_out()),
            0, stride(g.group_out() * g.taps()), stride(g.taps()), stride(g.kernel_w * g.group_in()), stride(g.group_in()), 1};
  }
};

/// One direction of the pixels i = phase < size, phase + stride, ... of x: pixel phase + u stride meets tap first + t stride of the
/// kernel, t < count, at output u + top + (count - 1 - t).
struct direct_phase {
  int pixels, first, count, top;

  direct_phase(std::size_t phase, std::size_t size, std::size_t kernel, std::size_t stride, std::size_t padding)
      : pixels(static_cast<int>((size - phase + stride - 1) / stride)), first(static_cast<int>((phase + padding) % stride)),
        count(static_cast<int>((std::max(kernel, (phase + padding) % stride) - (phase + padding) % stride + stride - 1) / stride)),
        top(static_cast<int>((phase + padding) / stride) - count + 1) {}
};

/// A block's tile: 256 threads for 4096 results, Outputs of them of every pixel, 16 terms at a time.
template <int Outputs>
struct direct_tile {
  static constexpr int threads = 256, outputs = Outputs, pixels = 4096 / Outputs;
  static constexpr int columns = Outputs / 4;  // of threads
};

/// 16 terms of each of a tile's rows. The padding keeps threads that write one row's terms apart in the banks.
template <class A, int Rows>
struct alignas(16) direct_operand {
  A at[16][Rows + 4];
};

/// Adds a tile's products to a thread's 4 x 4 sums.
template <int Rows, int Columns, class A>
__device__ DVLA_INLINE void multiply_direct(A (&sums)[4][4], direct_operand<A, Rows> const& a, direct_operand<A, Columns> const& b,
                                            int row, int column) {
#pragma unroll
  for (int k = 0; k < 16; ++k) {
    auto const x = load_packet<A, 4>(&a.at[k][row]), w = load_packet<A, 4>(&b.at[k][column]);
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[i][j] += x.at[i] * w.at[j];
  }
}

/// Block: tile of a group's outputs, fastest, then the group, then the tile of pixels.
template <int Outputs, class X>
__global__ void __launch_bounds__(256)
    direct_kernel(direct_pass const p, X const* source, X const* weight, arithmetic_t<X> const* bias, X* target, bool accumulate) {
  detail::await_predecessors();
  using A = arithmetic_t<X>;
  using tile = direct_tile<Outputs>;
  __shared__ direct_operand<A, tile::pixels> patches;
  __shared__ direct_operand<A, tile::outputs> filters;
  __shared__ X const* images[tile::pixels];
  __shared__ int tops[tile::pixels], lefts[tile::pixels];
  int const thread = static_cast<int>(threadIdx.x), output_tiles = (p.outputs + Outputs - 1) / Outputs;
  int const block = static_cast<int>(blockIdx.x), group = block / output_tiles % p.groups;
  int const first_output = block % output_tiles * Outputs, first_pixel = block / output_tiles / p.groups * tile::pixels;
  if (thread < tile::pixels) {
    int const pixel = first_pixel + thread;
    bool const inside = pixel < p.pixels;
    std::size_t const image = inside ? pixel / p.columns / p.rows : 0;
    images[thread] = source + image * p.source_height * p.source_width * p.source_channels + group * p.depth;
    tops[thread] = inside ? p.top + pixel / p.columns % p.rows * p.step : INT_MIN / 2;
    lefts[thread] = p.left + pixel % p.columns * p.step;
  }
  weight += p.origin + group * p.group_stride;
  int const size = p.taps_h * p.taps_w * p.depth, k = thread % 16, row = thread / tile::columns * 4, column = thread % tile::columns * 4;
  A sums[4][4] = {};
  for (int first = 0; first < size; first += 16) {
    __syncthreads();  // the pixels are known, and the last tile has been used
    int const c = (first + k) % p.depth, tap = (first + k) / p.depth, r = tap / p.taps_w, q = tap % p.taps_w;
    bool const exists = first + k < size;
#pragma unroll 4
    for (int i = thread / 16; i < tile::pixels; i += 16) {
      int const y = tops[i] + r, x = lefts[i] + q;
      bool const inside = exists && static_cast<unsigned>(y) < static_cast<unsigned>(p.source_height) &&
                          static_cast<unsigned>(x) < static_cast<unsigned>(p.source_width);
      patches.at[k][i] = inside ? static_cast<A>(images[i][(y * p.source_width + x) * p.source_channels + c]) : A(0);
    }
    X const* const of_tap = weight + r * p.row_stride + q * p.column_stride + c * p.element_stride;
    for (int j = thread / 16; j < Outputs; j += 16)
      filters.at[k][j] = exists && first_output + j < p.outputs ? static_cast<A>(of_tap[(first_output + j) * p.output_stride]) : A(0);
    __syncthreads();
    multiply_direct(sums, patches, filters, row, column);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    int const pixel = first_pixel + row + i;
    if (pixel >= p.pixels) break;
    int const y = p.first_row + pixel / p.columns % p.rows * p.pitch, x = p.first_column + pixel % p.columns * p.pitch;
    std::size_t const image = pixel / p.columns / p.rows;
    X* const out = target + ((image * p.target_height + y) * p.target_width + x) * p.target_channels + group * p.outputs;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      int const output = first_output + column + j;
      if (output >= p.outputs) break;
      A result = sums[i][j];
      if (bias != nullptr) result += bias[group * p.outputs + output];
      if (accumulate) result += static_cast<A>(out[output]);
      out[output] = static_cast<X>(result);
    }
  }
}

template <int Outputs, precision P, class X>
void run_direct_tiles(basic_cuda<P> const& device, direct_pass const& p, X const* source, X const* weight, arithmetic_t<X> const* bias,
                      X* target, bool accumulate) {
  using tile = direct_tile<Outputs>;
  std::size_t const columns = static_cast<std::size_t>((p.outputs + Outputs - 1) / Outputs) * static_cast<std::size_t>(p.groups);
  unsigned const blocks = detail::blocks_of(detail::blocks_of(static_cast<std::size_t>(p.pixels), tile::pixels) * columns, 1);
  detail::start(*device.queue, "running a convolution", direct_kernel<Outputs, X>, blocks, tile::threads, 0, p, source, weight,
                bias, target, accumulate);
}

/// target = (accumulate ? target : 0) + the product of a pass, plus bias (one for every output of every group) unless that is null.
template <precision P, class X>
void run_direct(basic_cuda<P> const& device, direct_pass const& p, X const* source, X const* weight, arithmetic_t<X> const* bias, X* target,
                bool accumulate) {
  if (p.pixels == 0 || p.outputs == 0) return;
  if (p.outputs <= 16)
    run_direct_tiles<16>(device, p, source, weight, bias, target, accumulate);
  else if (p.outputs <= 32)
    run_direct_tiles<32>(device, p, source, weight, bias, target, accumulate);
  else
    run_direct_tiles<64>(device, p, source, weight, bias, target, accumulate);
}

/// dx = (accumulate ? dx : 0) + the gradient of x: a pass for every residue of a pixel's position modulo the stride, since pixels
/// of one residue meet the same taps.
template <precision P, class X>
void run_direct_backward(basic_cuda<P> const& device, conv_geometry const& g, X const* dy, X const* weight, X* dx, bool accumulate) {
  auto const of = [](std::size_t n) { return static_cast<int>(n); };
  auto const filter = static_cast<std::ptrdiff_t>(g.taps()), group_in = static_cast<std::ptrdiff_t>(g.group_in());
  std::ptrdiff_t const row = static_cast<std::ptrdiff_t>(g.kernel_w) * group_in, stride = static_cast<std::ptrdiff_t>(g.stride);
  for (std::size_t phase_y = 0; phase_y < std::min(g.stride, g.height); ++phase_y)
    for (std::size_t phase_x = 0; phase_x < std::min(g.stride, g.width); ++phase_x) {
      direct_phase const y(phase_y, g.height, g.kernel_h, g.stride, g.padding), x(phase_x, g.width, g.kernel_w, g.stride, g.padding);
      std::ptrdiff_t const last_row = y.first + (y.count - 1) * stride, last_column = x.first + (x.count - 1) * stride;
      direct_pass const pass{of(g.batch) * y.pixels * x.pixels, y.pixels, x.pixels, of(g.groups), of(g.out_height()), of(g.out_width()),
                             of(g.out_channels), of(g.group_out()), y.top, x.top, 1, y.count, x.count,
                             of(g.height), of(g.width), of(g.in_channels), of(phase_y), of(phase_x), of(g.stride), of(g.group_in()),
                             last_row * row + last_column * group_in, static_cast<std::ptrdiff_t>(g.group_out()) * filter, 1,
                             -stride * row, -stride * group_in, filter};
      run_direct(device, pass, dy, weight, static_cast<arithmetic_t<X> const*>(nullptr), dx, accumulate);
    }
}

/// The same for patches that tile the image: a row of taps is one run of dx, so each is a plain product with dy. Leaves pixels
/// outside every patch as they are.
template <precision P, class X>
void run_direct_backward_patches(basic_cuda<P> const& device, conv_geometry const& g, X const* dy, X const* weight, X* dx,
                                 bool accumulate) {
  std::size_t const run = g.kernel_w * g.in_channels;
  direct_pass pass = direct_pass::forward({g.batch, g.out_height(), g.out_width(), g.out_channels, run, 1, 1, 1, 0, 1});
  pass.target_height = static_cast<int>(g.height), pass.target_width = static_cast<int>(g.width);
  pass.target_channels = static_cast<int>(g.in_channels), pass.pitch = static_cast<int>(g.stride);
  pass.output_stride = 1, pass.element_stride = static_cast<std::ptrdiff_t>(g.taps());
  for (std::size_t row = 0; row < g.kernel_h; ++row) {
    pass.first_row = static_cast<int>(row), pass.origin = static_cast<std::ptrdiff_t>(row * run);
    run_direct(device, pass, dy, weight, static_cast<arithmetic_t<X> const*>(nullptr), dx, accumulate);
  }
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
