// The weight gradient of convolutions of images of few channels on the tensor cores: 16 output channels x octets of the runs of
// the kernel's rows, summed over the pixels of bands of dy and of the image in shared memory.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/kernels/cuda/conv_stem.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// Bytes from pixel to pixel of a band of 16 channels of dy.
template <class E>
inline constexpr int stem_gradient_pitch = pixel_pitch<E>(16 / chunk<E>) * 16;

/// Starts copying `rows` rows of 16 channels of dy to [row][16 row_tiles], with zeros at the end of every row.
template <class E>
__device__ void load_stem_gradient(stem_sizes const& s, E const* dy, int rows, unsigned to) {
  constexpr int chunks = 16 / chunk<E>;
  int const row_copies = s.row_tiles * 16 * chunks;
  int row = thread_number() / row_copies, at = thread_number() % row_copies;
  while (row < rows) {
    int const column = at / chunks, c = at % chunks;
    bool const inside = column < s.out_width;
    copy_async(to + static_cast<unsigned>((row * s.row_tiles * 16 + column) * stem_gradient_pitch<E> + c * 16),
               inside ? dy + (row * s.out_width + column) * s.out_channels + c * chunk<E> : dy, inside);
    for (at += static_cast<int>(blockDim.x); at >= row_copies; ++row) at -= row_copies;
  }
}

/// sums += the products over a step of pixels: `dy` the address of the first, `x` where the lane's element of its run lies.
template <class Shape, class E>
__device__ DVLA_INLINE void multiply_runs(stem_sizes const& s, float (&sums)[Shape::octets][4], unsigned dy, E const* x) {
  using operand = pixel_operand<E>;
  int const lane = thread_number() % 32, next = s.stride * s.channels;  // from the run of a pixel to that of the next
  unsigned pixel[operand::slots], octet[operand::slots], a[4];
#pragma unroll
  for (int slot = 0; slot < operand::slots; ++slot) {
    pixel[slot] = dy + static_cast<unsigned>(operand::a_pixel(lane, slot) * stem_gradient_pitch<E> + operand::within_octet(lane));
    octet[slot] = static_cast<unsigned>(operand::a_octet(lane, slot) * 8 * int{sizeof(E)});
  }
  operand::load_a(a, pixel, octet);
#pragma unroll
  for (int r = 0; r < Shape::rows; ++r, x += s.pitch)
#pragma unroll
    for (int i = 0; i < Shape::row_octets; ++i) {
      unsigned b[2];
      if constexpr (sizeof(E) == 2) {
        E const *const at = x + 8 * i, *const at_8 = at + 8 * next;
        b[0] = at[0].bits | static_cast<unsigned>(at[next].bits) << 16;
        b[1] = at_8[0].bits | static_cast<unsigned>(at_8[next].bits) << 16;
      } else {
        b[0] = as_tf32(__float_as_uint(x[8 * i])), b[1] = as_tf32(__float_as_uint(x[8 * i + 4 * next]));
      }
      multiply<E>(sums[r * Shape::row_octets + i], a, b);
    }
}

/// Adds up the eight warps' sums, one warp after the other, as [octet][element][lane].
template <class Shape>
__device__ DVLA_INLINE void add_warps(float const (&sums)[Shape::octets][4], float* total) {
  int const lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  for (int turn = 0; turn < 8; ++turn) {
    if (warp == turn) {
#pragma unroll
      for (int i = 0; i < Shape::octets * 4; ++i) {
        float* const at = total + i * 32 + lane;
        *at = (turn == 0 ? 0.0f : *at) + sums[i / 4][i % 4];
      }
    }
    __syncthreads();
  }
}

template <class Shape, class E>
__global__ void __launch_bounds__(256, 2) stem_weight_kernel(stem_sizes const s, E const* x, E const* dy, float* parts) {
  detail::await_predecessors();
  using operand = pixel_operand<E>;
  extern __shared__ uint4 stem_memory[];
  E* const band = reinterpret_cast<E*>(stem_memory);
  unsigned const dy_band = shared_address(band + s.image_rows(Shape::rows) * s.pitch);
  int const slices = s.out_channels / 16, channel = static_cast<int>(blockIdx.x) % slices * 16;
  int const part = static_cast<int>(blockIdx.x) / slices, part_count = static_cast<int>(gridDim.x) / slices;
  float sums[Shape::octets][4] = {};
  for (int item = part; item < s.items; item += part_count) {
    int const image = item / s.bands, first = item % s.bands * s.band_rows, rows = ::min(s.band_rows, s.out_height - first);
    load_image_band<Shape>(s, x + static_cast<std::size_t>(image) * s.height * s.width * s.channels, first, band);
    load_stem_gradient(s, dy + (static_cast<std::size_t>(image) * s.out_height + first) * s.out_width * s.out_channels + channel, rows,
                       dy_band);
    copies_commit();
    copies_wait<0>();
    __syncthreads();
    for (int tile = thread_number() / 32; tile < rows * s.row_tiles; tile += 8) {
      int const row = tile / s.row_tiles, first_column = tile % s.row_tiles * 16, lane = thread_number() % 32;
      int const pixel = lane % 4 * (sizeof(E) == 2 ? 2 : 1), element = lane / 4;
      unsigned const gradient = dy_band + static_cast<unsigned>(tile * 16 * stem_gradient_pitch<E>);
      E const* const runs = band + row * s.stride * s.pitch + s.first_run() + (first_column + pixel) * s.stride * s.channels + element;
#pragma unroll 1
      for (int step = 0; step < 16; step += operand::step)
        multiply_runs<Shape>(s, sums, gradient + static_cast<unsigned>(step * stem_gradient_pitch<E>), runs + step * s.stride * s.channels);
    }
    __syncthreads();
  }
  float* const total = reinterpret_cast<float*>(stem_memory);
  add_warps<Shape>(sums, total);
  int const filter_size = Shape::rows * s.run;
  float* const out = parts + (static_cast<std::size_t>(part) * s.out_channels + channel) * filter_size;
  for (int i = static_cast<int>(threadIdx.x); i < 16 * filter_size; i += 256) {
    int const o = i / filter_size, row = i % filter_size / s.run, in_run = i % s.run + s.lead;
    int const octet = row * Shape::row_octets + in_run / 8, column = in_run % 8;
    out[i] = total[(octet * 4 + o / 8 * 2 + column % 2) * 32 + o % 8 * 4 + column / 2];
  }
}

/// Dynamic shared memory of stem_weight_kernel; the sums of a block take the place of its bands.
template <class Shape, class E>
[[nodiscard]] std::size_t stem_weight_bytes(stem_sizes const& s) {
  std::size_t const image = static_cast<std::size_t>(s.image_rows(Shape::rows)) * static_cast<std::size_t>(s.pitch) * sizeof(E);
  std::size_t const gradient = static_cast<std::size_t>(s.band_rows) * static_cast<std::size_t>(s.row_tiles) * 16 * stem_gradient_pitch<E>;
  return std::max(image + gradient, Shape::octets * 4 * 32 * sizeof(float));
}

/// dweight = (accumulate ? dweight : 0) + the gradient of the weight.
template <class Shape, precision P, class E>
void run_stem_weight(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* dy, float* dweight, bool accumulate) {
  stem_sizes s(Shape{}, g, x);
  for (int rows = 4; rows > 0 && stem_weight_bytes<Shape, E>(s) > shared_budget; rows /= 2) s.cut(rows, g.batch);
  std::size_t const bytes = stem_weight_bytes<Shape, E>(s);
  int const slices = s.out_channels / 16, parts = parts_of(static_cast<std::size_t>(s.items), static_cast<std::size_t>(slices));
  allow_shared(stem_weight_kernel<Shape, E>, bytes);
  sum_parts(device, g.out_channels * g.taps(), parts, dweight, accumulate, [&](float* sums) {
    detail::start(*device.queue, "running the weight gradient of an image's convolution", stem_weight_kernel<Shape, E>,
                  static_cast<unsigned>(slices * parts), 256, bytes, s, x, dy, sums);
  });
}

/// Whether run_stem_weight does it, given dy aligned to 16 bytes.
template <class Shape, class E>
[[nodiscard]] bool stem_weight_fits(conv_geometry const& g, E const* x) {
  if (!stem_fits<Shape>(g, x)) return false;
  stem_sizes s(Shape{}, g, x);
  s.cut(1, g.batch);
  return stem_weight_bytes<Shape, E>(s) <= shared_budget;
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
