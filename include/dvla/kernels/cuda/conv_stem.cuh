// Convolutions of images of few channels on the tensor cores. With channels last, what a row of the kernel sees of the image is
// one run of kernel_w * channels elements, and the run of the next output begins stride * channels further on: from rows in
// shared memory the operands of a product are read in place, 8 elements (an octet) of a run at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <dvla/kernels/conv_geometry.hpp>
#include <dvla/kernels/cuda/conv_mma.cuh>
#include <dvla/kernels/cuda/conv_weights.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// The kernels that are compiled: their rows and the octets of a run. Pairs: every run begins at an even element of its row in
/// shared memory, so that two bfloat16 are one access.
template <int Rows, int Octets, bool Pairs>
struct stem_kernel_shape {
  static constexpr int rows = Rows, row_octets = Octets, octets = Rows * Octets;
  static constexpr bool pairs = Pairs;
};
using stem_7x7 = stem_kernel_shape<7, 3, true>;   // 3 channels, stride 2
using stem_3x3 = stem_kernel_shape<3, 2, false>;  // 3 to 5 channels

/// The geometry, how images are cut into bands of output rows, and how a row lies in shared memory: `margin` zeros, the row,
/// zeros up to `pitch`. Runs begin `lead` (0 or 1) elements early, at an even one.
struct stem_sizes {
  int height, width, channels, out_height, out_width, out_channels, stride, padding;
  int run, lead, margin, pitch;        // elements
  int copied;                          // bytes of an access to the image
  int row_tiles;                       // of 16 outputs
  int band_rows, bands, items;         // an item is a band of an image

  template <class Shape, class E>
  stem_sizes(Shape, conv_geometry const& g, E const* x)
      : height(static_cast<int>(g.height)), width(static_cast<int>(g.width)), channels(static_cast<int>(g.in_channels)),
        out_height(static_cast<int>(g.out_height())), out_width(static_cast<int>(g.out_width())),
        out_channels(static_cast<int>(g.out_channels)), stride(static_cast<int>(g.stride)), padding(static_cast<int>(g.padding)),
        run(static_cast<int>(g.kernel_w) * channels), lead(padding * channels % 2) {
    auto const whole = [](int elements) { return (elements + chunk<E> - 1) / chunk<E> * chunk<E>; };
    margin = whole(padding * channels + lead);
    row_tiles = (out_width + 15) / 16;
    pitch = whole(std::max(margin + width * channels, first_run() + (row_tiles * 16 - 1) * stride * channels + Shape::row_octets * 8));
    auto const address = reinterpret_cast<std::uintptr_t>(x) | static_cast<std::uintptr_t>(width * channels) * sizeof(E);
    copied = address % 16 == 0 ? 16 : address % 4 == 0 ? 4 : 2;
    cut(8, g.batch);
  }
  /// Cuts images into bands of at most `rows` rows, as even as can be.
  void cut(int rows, std::size_t batch) {
    bands = (out_height + rows - 1) / rows;
    band_rows = (out_height + bands - 1) / bands;
    items = static_cast<int>(batch) * bands;
  }
  /// The element of its row at which the run of the first output begins.
  [[nodiscard]] DVLA_HD int first_run() const { return margin - padding * channels - lead; }
  [[nodiscard]] DVLA_HD int image_rows(int kernel_rows) const { return (band_rows - 1) * stride + kernel_rows; }
};

/// Starts copying `rows` rows of the image from row `first` to [row][pitch], Bytes at a time.
template <int Bytes, class E>
__device__ void load_image_rows(stem_sizes const& s, E const* image, int first, int rows, E* to) {
  constexpr int each = Bytes / static_cast<int>(sizeof(E));
  int const row_copies = s.pitch / each, row_size = s.width * s.channels;
  int row = thread_number() / row_copies, at = thread_number() % row_copies;
  while (row < rows) {
    int const y = first + row, element = at * each - s.margin;
    bool const inside = static_cast<unsigned>(y) < static_cast<unsigned>(s.height) &&
                        static_cast<unsigned>(element) < static_cast<unsigned>(row_size);
    E const* const from = inside ? image + y * row_size + element : image;
    if constexpr (Bytes >= 4)
      copy_async<Bytes>(shared_address(to + row * s.pitch + at * each), from, inside);
    else
      to[row * s.pitch + at] = inside ? *from : E(0.0f);
    for (at += static_cast<int>(blockDim.x); at >= row_copies; ++row) at -= row_copies;
  }
}

/// The rows that a band beginning at output row `first` sees.
template <class Shape, class E>
__device__ void load_image_band(stem_sizes const& s, E const* image, int first, E* to) {
  int const first_row = first * s.stride - s.padding, rows = s.image_rows(Shape::rows);
  if (s.copied == 16)
    load_image_rows<16>(s, image, first_row, rows, to);
  else if (s.copied == 4 || sizeof(E) == 4)
    load_image_rows<4>(s, image, first_row, rows, to);
  else
    load_image_rows<sizeof(E)>(s, image, first_row, rows, to);
}

/// The filters of 16 output channels as fragments [octet of the kernel][half of the channels][word][lane]; 0 past a run's ends.
/// Column c of half h is channel 4 (c / 2) + 2 h + c % 2, so that a lane's sums are of four neighbours.
template <class Shape, class E>
struct stem_filters {
  static constexpr int words = sizeof(E) == 2 ? 1 : 2, size = Shape::octets * 2 * words * 32;

  __device__ static void pack(stem_sizes const& s, E const* weight, unsigned* packed) {
    for (int i = static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x)) {
      int const lane = i % 32, word = i / 32 % words, half = i / 32 / words % 2, octet = i / 32 / words / 2, column = lane / 4;
      int const channel = column / 2 * 4 + half * 2 + column % 2, in_run = octet % Shape::row_octets * 8 - s.lead;
      E const* const run = weight + (channel * Shape::rows + octet / Shape::row_octets) * s.run;
      auto const element = [&](int k) { return k >= 0 && k < s.run ? run[k] : E(0.0f); };
      if constexpr (sizeof(E) == 2)
        packed[i] = element(in_run + lane % 4 * 2).bits | static_cast<unsigned>(element(in_run + lane % 4 * 2 + 1).bits) << 16;
      else
        packed[i] = as_tf32(__float_as_uint(element(in_run + lane % 4 + 4 * word)));
    }
  }
};

/// Two neighbouring elements as a word.
template <bool Aligned>
__device__ DVLA_INLINE unsigned load_pair(bfloat16 const* at) {
  if constexpr (Aligned)
    return *reinterpret_cast<unsigned const*>(at);
  else
    return at[0].bits | static_cast<unsigned>(at[1].bits) << 16;
}

/// sums += 8 elements of the runs of 16 outputs, `at` and `at_8` the addresses for outputs lane / 4 and lane / 4 + 8, times the
/// octet's filters.
template <class Shape, class E>
__device__ DVLA_INLINE void multiply_octet(float (&sums)[2][4], E const* at, E const* at_8,
                                           unsigned const (&filters)[2][stem_filters<Shape, E>::words]) {
  if constexpr (sizeof(E) == 2) {
    unsigned const a0 = load_pair<Shape::pairs>(at), a1 = load_pair<Shape::pairs>(at_8);
#pragma unroll
    for (int half = 0; half < 2; ++half) multiply_chunk<E>(sums[half], a0, a1, filters[half][0]);
  } else {
    unsigned a[4] = {__float_as_uint(at[0]), __float_as_uint(at_8[0]), __float_as_uint(at[4]), __float_as_uint(at_8[4])};
    round_operand<E>(a);
#pragma unroll
    for (int half = 0; half < 2; ++half) multiply<E>(sums[half], a, filters[half]);
  }
}

/// Blocks of stem_kernel that a multiprocessor runs side by side.
template <class E>
inline constexpr int stem_residents = sizeof(E) == 2 ? 3 : 2;

template <class Shape, class E>
__global__ void __launch_bounds__(256, stem_residents<E>)
    stem_kernel(stem_sizes const s, E const* x, E const* weight, float const* bias, E* y) {
  detail::await_predecessors();
  using filters = stem_filters<Shape, E>;
  extern __shared__ uint4 stem_memory[];
  E* const band = reinterpret_cast<E*>(stem_memory);
  auto* const packed = reinterpret_cast<unsigned*>(band + s.image_rows(Shape::rows) * s.pitch);
  int const slices = s.out_channels / 16, channel = static_cast<int>(blockIdx.x) % slices * 16;
  int const workers = static_cast<int>(gridDim.x) / slices;
  filters::pack(s, weight + channel * Shape::rows * s.run, packed);
  __syncthreads();
  unsigned b[Shape::octets][2][filters::words];
#pragma unroll
  for (int i = 0; i < Shape::octets * 2 * filters::words; ++i)
    b[i / filters::words / 2][i / filters::words % 2][i % filters::words] = packed[i * 32 + static_cast<int>(threadIdx.x) % 32];
  for (int item = static_cast<int>(blockIdx.x) / slices; item < s.items; item += workers) {
    int const image = item / s.bands, first = item % s.bands * s.band_rows, rows = ::min(s.band_rows, s.out_height - first);
    load_image_band<Shape>(s, x + static_cast<std::size_t>(image) * s.height * s.width * s.channels, first, band);
    copies_commit();
    copies_wait<0>();
    __syncthreads();
    for (int tile = thread_number() / 32; tile < rows * s.row_tiles; tile += 8) {
      int const lane = thread_number() % 32, row = tile / s.row_tiles, first_column = tile % s.row_tiles * 16;
      E const* at = band + row * s.stride * s.pitch + s.first_run() + (first_column + lane / 4) * s.stride * s.channels +
                    lane % 4 * (sizeof(E) == 2 ? 2 : 1);
      E const* at_8 = at + 8 * s.stride * s.channels;
      float sums[2][4] = {};
#pragma unroll
      for (int r = 0; r < Shape::rows; ++r, at += s.pitch, at_8 += s.pitch)
#pragma unroll
        for (int i = 0; i < Shape::row_octets; ++i) multiply_octet<Shape>(sums, at + 8 * i, at_8 + 8 * i, b[r * Shape::row_octets + i]);
      E* const out = y + (static_cast<std::size_t>(image) * s.out_height + first + row) * s.out_width * s.out_channels + channel;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        int const column = first_column + lane / 4 + 8 * half, c = lane % 4 * 4;
        if (column >= s.out_width) continue;
        float result[4] = {sums[0][2 * half], sums[0][2 * half + 1], sums[1][2 * half], sums[1][2 * half + 1]};
        if (bias != nullptr)
          for (int k = 0; k < 4; ++k) result[k] += bias[channel + c + k];
        store_quad(out + column * s.out_channels + c, result);
      }
    }
    __syncthreads();
  }
}

/// Dynamic shared memory of stem_kernel.
template <class Shape, class E>
[[nodiscard]] std::size_t stem_bytes(stem_sizes const& s) {
  return static_cast<std::size_t>(s.image_rows(Shape::rows)) * static_cast<std::size_t>(s.pitch) * sizeof(E) +
         stem_filters<Shape, E>::size * sizeof(unsigned);
}

/// y = the convolution of x with weight, plus bias unless that is null.
template <class Shape, precision P, class E>
void run_stem(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* weight, float const* bias, E* y) {
  stem_sizes const s(Shape{}, g, x);
  std::size_t const bytes = stem_bytes<Shape, E>(s);
  int const slices = s.out_channels / 16;
  int const workers = std::min(s.items, std::max(1, stem_residents<E> * device.queue->multiprocessors() / slices));
  allow_shared(stem_kernel<Shape, E>, bytes);
  detail::start(*device.queue, "running the convolution of an image", stem_kernel<Shape, E>, static_cast<unsigned>(slices * workers), 256,
                bytes, s, x, weight, bias, y);
}

/// Whether run_stem does it, given y aligned to 16 bytes.
template <class Shape, class E>
[[nodiscard]] bool stem_fits(conv_geometry const& g, E const* x) {
  std::size_t const run = g.kernel_w * g.in_channels + g.padding * g.in_channels % 2, most = Shape::row_octets * 8;
  return g.groups == 1 && g.in_channels < 8 && g.out_channels % 16 == 0 && g.kernel_h == Shape::rows && run <= most && run + 8 > most &&
         (!Shape::pairs || g.stride * g.in_channels % 2 == 0) && stem_bytes<Shape, E>(stem_sizes(Shape{}, g, x)) <= shared_budget;
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
