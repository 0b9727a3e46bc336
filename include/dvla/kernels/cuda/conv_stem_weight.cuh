// The weight gradient of convolutions of images of few channels on the tensor cores: 16 output channels x octets of the runs of
// the kernel's rows, summed over the pixels of bands of dy and of the image in shared memory. A warp walks down a column of 16
// outputs: a row of the image is read once for all rows of dy that saw it, which it keeps as fragments.
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

/// Rows of dy that see a row of the image, at most.
template <class Shape, int Stride>
inline constexpr int stem_window = (Shape::rows + Stride - 1) / Stride;

/// Element of the runs of a step's pixels as the columns of a product: `at` is where the lane's element of its first pixel's run
/// lies, and the run of the next pixel begins `next` further on.
template <class E>
__device__ DVLA_INLINE void load_runs(unsigned (&b)[2], E const* at, int next) {
  if constexpr (sizeof(E) == 2) {
    E const* const at_8 = at + 8 * next;
    b[0] = at[0].bits | static_cast<unsigned>(at[next].bits) << 16;
    b[1] = at_8[0].bits | static_cast<unsigned>(at_8[next].bits) << 16;
  } else {
    b[0] = as_tf32(__float_as_uint(at[0])), b[1] = as_tf32(__float_as_uint(at[4 * next]));
  }
}

/// sums += the products over a step of pixels in `rows` rows of dy and the image's rows that they see: `dy` the address of the
/// first pixel, `x` where the lane's element of its run lies; the next row of dy is dy_pitch bytes on.
template <class Shape, int Stride, class E>
__device__ DVLA_INLINE void multiply_runs(stem_sizes const& s, float (&sums)[Shape::octets][4], unsigned dy, int dy_pitch, E const* x,
                                          int rows) {
  using operand = pixel_operand<E>;
  constexpr int window = stem_window<Shape, Stride>;
  int const lane = thread_number() % 32, next = Stride * s.channels;  // from the run of a pixel to that of the next
  unsigned pixel[operand::slots], octet[operand::slots];
#pragma unroll
  for (int slot = 0; slot < operand::slots; ++slot) {
    pixel[slot] = dy + static_cast<unsigned>(operand::a_pixel(lane, slot) * stem_gradient_pitch<E> + operand::within_octet(lane));
    octet[slot] = static_cast<unsigned>(operand::a_octet(lane, slot) * 8 * int{sizeof(E)});
  }
  unsigned seen[window][4] = {};  // rows m, m - 1, ... of dy
#pragma unroll 1
  for (int m = 0; m < rows + window - 1; ++m) {
#pragma unroll
    for (int j = window - 1; j > 0; --j)
#pragma unroll
      for (int i = 0; i < 4; ++i) seen[j][i] = seen[j - 1][i];
    if (m < rows) operand::load_a(seen[0], pixel, octet);
#pragma unroll
    for (int slot = 0; slot < operand::slots; ++slot) pixel[slot] += static_cast<unsigned>(dy_pitch);
#pragma unroll
    for (int phase = 0; phase < Stride; ++phase, x += s.pitch) {  // row phase + j Stride of the kernel meets row m - j of dy
      constexpr int most = Shape::rows - 1;
      if (m > (most - phase) / Stride + rows - 1) continue;  // no row of dy sees this one, which may not be there
#pragma unroll
      for (int i = 0; i < Shape::row_octets; ++i) {
        unsigned b[2];
        load_runs(b, x + 8 * i, next);
#pragma unroll
        for (int j = 0; j <= (most - phase) / Stride; ++j)
          if (m >= j && m - j < rows) multiply<E>(sums[(phase + j * Stride) * Shape::row_octets + i], seen[j], b);
      }
    }
  }
}

/// Adds up the warps' sums, one warp after the other, as [octet][element][lane].
template <class Shape>
__device__ DVLA_INLINE void add_warps(float const (&sums)[Shape::octets][4], float* total) {
  int const lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  for (int turn = 0; turn < static_cast<int>(blockDim.x) / 32; ++turn) {
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

template <class Shape, int Stride, class E>
__global__ void __launch_bounds__(256, 2) stem_weight_kernel(stem_sizes const s, int stages, E const* x, E const* dy, float* parts) {
  detail::await_predecessors();
  using operand = pixel_operand<E>;
  extern __shared__ uint4 stem_memory[];
  int const image_size = s.image_rows(Shape::rows) * s.pitch, dy_pitch = s.row_tiles * 16 * stem_gradient_pitch<E>;  // elements; bytes
  int const stage_size = image_size + s.band_rows * dy_pitch / int{sizeof(E)};
  int const slices = s.out_channels / 16, channel = static_cast<int>(blockIdx.x) % slices * 16;
  int const part = static_cast<int>(blockIdx.x) / slices, part_count = static_cast<int>(gridDim.x) / slices;
  auto const rows_of = [&](int item) { return ::min(s.band_rows, s.out_height - item % s.bands * s.band_rows); };
  auto const load = [&](int item, int stage) {
    if (item < s.items) {
      E* const band = reinterpret_cast<E*>(stem_memory) + stage * stage_size;
      int const image = item / s.bands, first = item % s.bands * s.band_rows;
      load_image_band<Shape>(s, x + static_cast<std::size_t>(image) * s.height * s.width * s.channels, first, band);
      load_stem_gradient(s, dy + (static_cast<std::size_t>(image) * s.out_height + first) * s.out_width * s.out_channels + channel,
                         rows_of(item), shared_address(band + image_size));
    }
    copies_commit();
  };
  float sums[Shape::octets][4] = {};
  load(part, 0);
  for (int item = part, stage = 0; item < s.items; item += part_count, stage = stages - 1 - stage) {
    copies_wait<0>();
    __syncthreads();  // the band is there, and nobody reads the one before any more
    if (stages == 2) load(item + part_count, 1 - stage);
    E const* const band = reinterpret_cast<E const*>(stem_memory) + stage * stage_size;
    unsigned const gradient = shared_address(band + image_size);
    int const lane = thread_number() % 32, pixel = lane % 4 * (sizeof(E) == 2 ? 2 : 1), element = lane / 4;
    for (int tile = thread_number() / 32; tile < s.row_tiles; tile += static_cast<int>(blockDim.x) / 32)
#pragma unroll 1
      for (int column = tile * 16; column < tile * 16 + 16; column += operand::step)
        multiply_runs<Shape, Stride>(s, sums, gradient + static_cast<unsigned>(column * stem_gradient_pitch<E>), dy_pitch,
                                     band + s.first_run() + (column + pixel) * Stride * s.channels + element, rows_of(item));
    if (stages == 1) {
      __syncthreads();
      load(item + part_count, 0);
    }
  }
  __syncthreads();  // the bands have been read: their memory takes the sums
  float* const total = reinterpret_cast<float*>(stem_memory);
  add_warps<Shape>(sums, total);
  int const filter_size = Shape::rows * s.run;
  float* const out = parts + (static_cast<std::size_t>(part) * s.out_channels + channel) * filter_size;
  for (int i = static_cast<int>(threadIdx.x); i < 16 * filter_size; i += static_cast<int>(blockDim.x)) {
    int const o = i / filter_size, row = i % filter_size / s.run, in_run = i % s.run + s.lead;
    int const octet = row * Shape::row_octets + in_run / 8, column = in_run % 8;
    out[i] = total[(octet * 4 + o / 8 * 2 + column % 2) * 32 + o % 8 * 4 + column / 2];
  }
}

/// How bands of an image are taken: at most `rows` rows of dy, and in shared memory one, or two so that one is copied meanwhile.
struct stem_weight_choice {
  int rows, stages;
};
/// The fastest found on an H100 (bench/results/cuda_kernels.md).
template <class E>
inline constexpr stem_weight_choice stem_weight_best = sizeof(E) == 2 ? stem_weight_choice{5, 2} : stem_weight_choice{4, 1};

/// Dynamic shared memory of stem_weight_kernel; the sums of a block take the place of its bands.
template <class Shape, class E>
[[nodiscard]] std::size_t stem_weight_bytes(stem_sizes const& s, int stages) {
  std::size_t const image = static_cast<std::size_t>(s.image_rows(Shape::rows)) * static_cast<std::size_t>(s.pitch) * sizeof(E);
  std::size_t const gradient = static_cast<std::size_t>(s.band_rows) * static_cast<std::size_t>(s.row_tiles) * 16 * stem_gradient_pitch<E>;
  return std::max(static_cast<std::size_t>(stages) * (image + gradient), Shape::octets * 4 * 32 * sizeof(float));
}

template <class Shape, int Stride, precision P, class E>
void run_stem_weight_strided(basic_cuda<P> const& device, conv_geometry const& g, stem_sizes const& s, int stages, E const* x,
                             E const* dy, float* dweight, bool accumulate) {
  std::size_t const bytes = stem_weight_bytes<Shape, E>(s, stages);
  int const slices = s.out_channels / 16, parts = parts_of(static_cast<std::size_t>(s.items), static_cast<std::size_t>(slices));
  int const threads = 32 * std::min(8, s.row_tiles);  // a warp has a column of tiles
  allow_shared(stem_weight_kernel<Shape, Stride, E>, bytes);
  sum_parts(device, g.out_channels * g.taps(), parts, dweight, accumulate, [&](float* sums) {
    detail::start(*device.queue, "running the weight gradient of an image's convolution", stem_weight_kernel<Shape, Stride, E>,
                  static_cast<unsigned>(slices * parts), threads, bytes, s, stages, x, dy, sums);
  });
}

/// dweight = (accumulate ? dweight : 0) + the gradient of the weight. Where the bands of a choice do not fit they are shorter.
template <class Shape, precision P, class E>
void run_stem_weight(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* dy, float* dweight, bool accumulate,
                     stem_weight_choice choice = stem_weight_best<E>) {
  stem_sizes s(Shape{}, g, x);
  s.cut(1, g.batch);
  if (stem_weight_bytes<Shape, E>(s, choice.stages) > shared_budget) choice.stages = 1;
  s.cut(choice.rows, g.batch);
  for (int rows = choice.rows - 1; rows > 0 && stem_weight_bytes<Shape, E>(s, choice.stages) > shared_budget; --rows) s.cut(rows, g.batch);
  if constexpr (!Shape::pairs)
    if (s.stride == 1) return run_stem_weight_strided<Shape, 1>(device, g, s, choice.stages, x, dy, dweight, accumulate);
  run_stem_weight_strided<Shape, 2>(device, g, s, choice.stages, x, dy, dweight, accumulate);
}

/// Whether run_stem_weight does it, given dy aligned to 16 bytes.
template <class Shape, class E>
[[nodiscard]] bool stem_weight_fits(conv_geometry const& g, E const* x) {
  if (!stem_fits<Shape>(g, x) || g.stride > 2 || (Shape::pairs && g.stride == 1)) return false;
  stem_sizes s(Shape{}, g, x);
  s.cut(1, g.batch);
  return stem_weight_bytes<Shape, E>(s, 1) <= shared_budget;
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
