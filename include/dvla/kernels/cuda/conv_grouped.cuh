// 3x3 convolutions in small groups on the tensor cores, rows of y from rows of x as they pass: a block walks down strips of images
// with a ring of rows in shared memory that is filled ahead. A warp keeps the filters of its group in registers and multiplies a row
// of x with all three rows of taps at once, into the sums of three rows of y, of which one is then complete.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include <dvla/expr/operations.hpp>
#include <dvla/kernels/conv_geometry.hpp>
#include <dvla/kernels/cuda/conv_grouped_tile.cuh>
#include <dvla/kernels/cuda/conv_mma.cuh>
#include <dvla/kernels/cuda/conv_weights.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>
#include <dvla/kernels/cuda/packet.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// What a block takes: a slice of Groups groups, each by warps that compute Octets times 8 of its outputs, with Slots rows of x in
/// shared memory; Residents blocks share a multiprocessor. Rounds: floats are rounded to tf32 in shared memory, not by every warp.
template <int Groups, int Octets, int Slots, int Residents, bool Rounds = false>
struct grouped_choice {
  static constexpr int groups = Groups, octets = Octets, slots = Slots, residents = Residents;
  static constexpr bool rounds = Rounds;
};

/// The fastest found on an H100 (bench/results/cuda_kernels.md). Filters in tf32 are twice as many registers, so that warps share
/// the outputs of large groups.
template <class E, int D>
struct grouped_best : grouped_choice<4, D / 8, 8, 2, sizeof(E) == 4> {};
template <>
struct grouped_best<float, 24> : grouped_choice<2, 1, 8, 2, true> {};

template <class E, int D, class Choice>
struct grouped_tile : Choice {
  using choice = Choice;
  static constexpr int octet_warps = D / 8 / choice::octets, warps = choice::groups * octet_warps, threads = 32 * warps;
  static constexpr int group_chunks = D / chunk<E>, slice_chunks = choice::groups * group_chunks;
  static constexpr int row_chunks = 3 * group_chunks, row_pairs = (row_chunks + 1) / 2;  // of a row of taps
  static constexpr int pitch = slice_chunks | 1, staged_pitch = pixel_pitch<E>(slice_chunks);  // chunks from pixel to pixel

  [[nodiscard]] DVLA_HD static constexpr int row_bytes(int strip_width) { return (strip_width + 2) * pitch * 16; }
  [[nodiscard]] DVLA_HD static constexpr int staged_bytes(int strip_width) { return strip_width * staged_pitch * 16; }
  [[nodiscard]] DVLA_HD static constexpr int bytes(int strip_width) {
    return choice::slots * row_bytes(strip_width) + 2 * staged_bytes(strip_width);
  }
};

/// The filters of a warp's outputs as fragments of products: [row of taps][pair of chunks][octet of outputs][word].
template <class E, class Tile>
using grouped_filters = unsigned[3][Tile::row_pairs][Tile::octets][2];

/// Where filters are read from: (channels, 3, 3, D) as they are or turned, so that they take dy to dx.
enum class filter_order { straight, turned };

/// Fills `filters` for a group whose filters begin at `weight` and the outputs from `output` on.
template <int D, class Tile, class E>
__device__ DVLA_INLINE void load_filters(grouped_filters<E, Tile>& filters, E const* weight, int output, filter_order order) {
  int const lane = thread_number() % 32, column = output + lane / 4, within = lane % 4 * (sizeof(E) == 2 ? 2 : 1);
#pragma unroll
  for (int row = 0; row < 3; ++row)
#pragma unroll
    for (int q = 0; q < Tile::row_pairs * 2; ++q) {  // chunk of the row
      int const tap = row * 3 + q / Tile::group_chunks, input = q % Tile::group_chunks * chunk<E> + within;
#pragma unroll
      for (int n = 0; n < Tile::octets; ++n) {
        unsigned word = 0;  // what follows a row's last chunk is not used
        if (q < Tile::row_chunks && order == filter_order::straight) {
          word = *reinterpret_cast<unsigned const*>(weight + ((column + 8 * n) * 9 + tap) * D + input);
        } else if (q < Tile::row_chunks) {
          E const* const from = weight + (input * 9 + 8 - tap) * D + column + 8 * n;
          if constexpr (sizeof(E) == 2)
            word = from[0].bits | static_cast<unsigned>(from[9 * D].bits) << 16;
          else
            word = __float_as_uint(*from);
        }
        filters[row][q / 2][n][q % 2] = sizeof(E) == 2 ? word : as_tf32(word);
      }
    }
}

/// A walk over the rows of x that some rows of y need, strip after strip, each from the row above to the row below, as far as the
/// image goes; where a strip is left at its last row, one step more follows, which is outside the image.
struct row_walk {
  int strip, row;           // of all images; of x
  int begin, end;           // rows of y of this strip
  int left;                 // rows of y after this strip

  /// For rows [first, last) of y in the column of all strips.
  __device__ row_walk(grouped_sizes const& s, int first, int last)
      : strip(first / s.height), begin(first % s.height), end(::min(s.height, begin + last - first)), left(last - first - (end - begin)) {
    row = ::max(begin - 1, 0);
  }
  [[nodiscard]] __device__ bool active() const { return begin < end; }
  /// Whether the step ends a row of y, row - 1.
  [[nodiscard]] __device__ bool completes() const { return row > begin; }
  __device__ void advance(grouped_sizes const& s) {
    if (++row <= end) return;
    ++strip, row = begin = 0, end = ::min(s.height, left), left -= end;
  }
};

/// sums[r] += a row of x, at `patch` for each of the lane's pixels, times taps of row r, for those r that are wanted.
template <int Tiles, class Tile, class E>
__device__ DVLA_INLINE void multiply_row(float (&sums)[3][Tiles][Tile::octets][4], grouped_filters<E, Tile> const& filters,
                                         unsigned const (&patch)[Tiles], bool const (&wanted)[3]) {
  // lanes 16 to 31 give the addresses of the second chunk of a pair, which `patch` allows for unless it is in the next tap
  unsigned const next_tap = thread_number() % 32 >= 16 ? (Tile::pitch - Tile::group_chunks) * 16 : 0;
  auto const load = [&](unsigned(&a)[Tiles][4], int p) {
    int const tap = 2 * p / Tile::group_chunks, c = 2 * p % Tile::group_chunks;
    bool const crosses = c + 1 == Tile::group_chunks && 2 * p + 1 < Tile::row_chunks;
    unsigned const offset = static_cast<unsigned>(tap * Tile::pitch + c) * 16 + (crosses ? next_tap : 0);
#pragma unroll
    for (int i = 0; i < Tiles; ++i) load_matrices(a[i], patch[i] + offset);
  };
  unsigned a[2][Tiles][4];
  load(a[0], 0);
#pragma unroll
  for (int p = 0; p < Tile::row_pairs; ++p) {
    if (p + 1 < Tile::row_pairs) load(a[(p + 1) % 2], p + 1);  // on the way during the products of pair p
#pragma unroll
    for (int i = 0; i < Tiles; ++i)
      if constexpr (!Tile::rounds) round_operand<E>(a[p % 2][i]);
#pragma unroll
    for (int r = 0; r < 3; ++r) {
      if (!wanted[r]) continue;
#pragma unroll
      for (int i = 0; i < Tiles; ++i)
#pragma unroll
        for (int n = 0; n < Tile::octets; ++n)
          if (2 * p + 1 < Tile::row_chunks)
            multiply<E>(sums[r][i][n], a[p % 2][i], filters[r][p][n]);
          else  // a last chunk without another; what the upper lanes read is not used
            multiply_chunk<E>(sums[r][i][n], a[p % 2][i][0], a[p % 2][i][1], filters[r][p][n][0]);
    }
  }
}

/// Adds the bias and, to accumulate, what `y` holds at the row's first pixel and the warp's first output; puts the results in
/// shared memory at `staged`, [pixel][staged_pitch].
template <int Tiles, class Tile, class E>
__device__ DVLA_INLINE void stage_results(float const (&sums)[Tiles][Tile::octets][4], float const* bias, E const* y, int channels,
                                          int pixels, E* staged) {
  int const lane = thread_number() % 32;
#pragma unroll
  for (int i = 0; i < Tiles; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int const pixel = 16 * i + 8 * half + lane / 4;
      if (pixel >= pixels) continue;
#pragma unroll
      for (int n = 0; n < Tile::octets; ++n) {
        int const channel = 8 * n + lane % 4 * 2;
        float result[2] = {sums[i][n][2 * half], sums[i][n][2 * half + 1]};
        if (bias != nullptr) result[0] += bias[channel], result[1] += bias[channel + 1];
        if (y != nullptr) {
          E const* const old = y + pixel * channels + channel;
          result[0] += static_cast<float>(old[0]), result[1] += static_cast<float>(old[1]);
        }
        store_pair(staged + pixel * Tile::staged_pitch * chunk<E> + channel, result[0], result[1]);
      }
    }
}

/// What becomes of a finished result, beside being stored: its GELU is stored too, or it is a GELU's gradient on the way to what is
/// before the GELU. Null pointers ask for nothing.
template <class E>
struct gelu_finish {
  E* gelu = nullptr;          // where gelu(y) goes
  E const* before = nullptr;  // z of y = d gelu(z): y gelu'(z) is stored instead

  /// What `before` holds at 16 bytes' offset in y.
  [[nodiscard]] __device__ DVLA_INLINE uint4 load(std::size_t offset) const {
    return before == nullptr ? uint4{} : *reinterpret_cast<uint4 const*>(before + offset);
  }
  /// Stores 16 bytes of results at an offset of y, where `z` has been loaded from.
  __device__ DVLA_INLINE void store(E* y, std::size_t offset, uint4 const* results, uint4 const& z) const {
    constexpr int n = chunk<E>;
    if (gelu == nullptr && before == nullptr) {
      *reinterpret_cast<uint4*>(y + offset) = *results;
      return;
    }
    auto value = load_packet<float, n>(reinterpret_cast<E const*>(results));
    if (before != nullptr) value = op::gelu::derivative<0>(value, value, load_packet<float, n>(reinterpret_cast<E const*>(&z)));
    store_packet(y + offset, value);
    if (gelu != nullptr) store_packet(gelu + offset, op::gelu::apply(value));
  }
};

/// A row of results in shared memory that is to be stored: its first element in y, and its pixels (0: there is none). A thread
/// stores every Tile::threads-th of its chunks.
template <class Tile, class E>
struct staged_row {
  std::size_t start = 0;
  int pixels = 0;

  /// Where chunk i lies in y.
  [[nodiscard]] __device__ DVLA_INLINE std::size_t place(int channels, int i) const {
    return start + static_cast<std::size_t>(i / Tile::slice_chunks * channels + i % Tile::slice_chunks * chunk<E>);
  }
  /// Whether there is a chunk i, of which `valid` of a pixel exist.
  [[nodiscard]] __device__ DVLA_INLINE bool has(int i, int valid) const {
    return i < pixels * Tile::slice_chunks && i % Tile::slice_chunks < valid;
  }
  /// The operand of the thread's first chunk.
  [[nodiscard]] __device__ DVLA_INLINE uint4 load_first(int channels, int valid, gelu_finish<E> const& finish) const {
    int const i = thread_number();
    return has(i, valid) ? finish.load(place(channels, i)) : uint4{};
  }
  __device__ DVLA_INLINE void store(int channels, int valid, uint4 const* from, E* y, gelu_finish<E> const& finish, uint4 z) const {
#pragma unroll 1
    for (int i = thread_number(); i < pixels * Tile::slice_chunks;) {
      int const next = i + Tile::threads;
      uint4 const next_z = has(next, valid) ? finish.load(place(channels, next)) : uint4{};  // on its way while this one is computed
      if (has(i, valid))
        finish.store(y, place(channels, i), from + i / Tile::slice_chunks * Tile::staged_pitch + i % Tile::slice_chunks, z);
      i = next, z = next_z;
    }
  }
};

template <int D, int Tiles, class Choice, class E>
__global__ void __launch_bounds__((grouped_tile<E, D, Choice>::threads), Choice::residents)
    grouped_kernel(grouped_sizes const s, E const* x, E const* weight, filter_order order, float const* bias, E* y, bool accumulate,
                   gelu_finish<E> const finish) {
  detail::await_predecessors();
  using tile = grouped_tile<E, D, Choice>;
  extern __shared__ uint4 grouped_memory[];
  unsigned const ring = shared_address(grouped_memory), row_bytes = static_cast<unsigned>(tile::row_bytes(s.strip_width));
  uint4* const staged = grouped_memory + tile::slots * tile::row_bytes(s.strip_width) / 16;
  int const staged_size = tile::staged_bytes(s.strip_width) / 16;
  int const slices = (s.groups + tile::groups - 1) / tile::groups, slice = static_cast<int>(blockIdx.x) % slices;
  int const worker = static_cast<int>(blockIdx.x) / slices, workers = static_cast<int>(gridDim.x) / slices;
  int const first_channel = slice * tile::groups * D, valid_channels = ::min(tile::groups * D, s.channels - first_channel);
  int const valid = valid_channels / chunk<E>;
  int const warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32, group = warp / tile::octet_warps;
  int const output = warp % tile::octet_warps * tile::octets * 8, channel = first_channel + group * D;
  bool const has_group = group * D < valid_channels, stores_first = warp / 4 % 2 == 1;
  long long const rows = static_cast<long long>(s.all_strips) * s.height;
  row_walk at(s, static_cast<int>(rows * worker / workers), static_cast<int>(rows * (worker + 1) / workers)), ahead = at;
  x += first_channel;
  auto const load = [&](int slot) {
    if (ahead.active()) {
      if (ahead.row < s.height)
        load_row<E, tile::slice_chunks, tile::pitch, tile::threads>(s, x + s.start_of(ahead.strip, ahead.row), false,
                                                                    s.left_of(ahead.strip) - 1, s.strip_width + 2,
                                                                    valid, ring + static_cast<unsigned>(slot) * row_bytes);
      ahead.advance(s);
    }
    copies_commit();
  };
  for (int slot = 0; slot < tile::slots - 1; ++slot) load(slot);

  grouped_filters<E, tile> filters;
  load_filters<D, tile>(filters, weight + static_cast<std::size_t>(has_group ? channel : first_channel) * 9 * D, output, order);
  unsigned pixel[Tiles];  // bytes from a row to the patch of the lane's pixel of each tile
#pragma unroll
  for (int i = 0; i < Tiles; ++i)
    pixel[i] =
        static_cast<unsigned>(::min(16 * i + lane % 16, s.strip_width - 1) * tile::pitch + group * tile::group_chunks + lane / 16) * 16;
  float sums[3][Tiles][tile::octets][4] = {};  // all 0 again at the end of a strip
  staged_row<tile, E> before;
  for (int slot = 0, parity = 0; at.active() || before.pixels > 0; parity ^= 1) {
    copies_wait<tile::slots - 2>();
    if constexpr (tile::rounds)
      if (at.active() && at.row < s.height)
        round_row<tile::slice_chunks, tile::pitch, tile::threads>(s.strip_width + 2,
                                                                  grouped_memory + slot * tile::row_bytes(s.strip_width) / 16);
    __syncthreads();  // the row is there and so is what was staged; nobody reads the row before any more
    load(slot == 0 ? tile::slots - 1 : slot - 1);
    uint4 const z = before.load_first(s.channels, valid, finish);
    // of the warps that share a scheduler some store first, others multiply first
#pragma unroll 1
    for (int turn = 0; turn < 2; ++turn) {
      if (stores_first == (turn == 0)) {
        before.store(s.channels, valid, staged + (parity ^ 1) * staged_size, y, finish, z);
      } else if (has_group && at.active() && at.row < s.height) {
        bool const wanted[3] = {at.row + 1 < at.end, at.row >= at.begin && at.row < at.end, at.row > at.begin};
        unsigned patch[Tiles];
#pragma unroll
        for (int i = 0; i < Tiles; ++i) patch[i] = ring + static_cast<unsigned>(slot) * row_bytes + pixel[i];
        multiply_row<Tiles, tile, E>(sums, filters, patch, wanted);
      }
    }
    before.pixels = 0;
    if (!at.active()) continue;
    if (at.completes()) {
      int const left = s.left_of(at.strip);
      before.pixels = ::min(s.strip_width, s.width - left);
      before.start = s.start_of(at.strip, at.row - 1) + static_cast<std::size_t>(left * s.channels + first_channel);
      if (has_group)
        stage_results<Tiles, tile>(sums[2], bias == nullptr ? nullptr : bias + channel + output,
                                   accumulate ? y + before.start + group * D + output : nullptr, s.channels, before.pixels,
                                   reinterpret_cast<E*>(staged + parity * staged_size) + group * D + output);
    }
#pragma unroll
    for (int i = 0; i < Tiles * tile::octets * 4; ++i) {
      int const t = i / 4 / tile::octets, n = i / 4 % tile::octets, k = i % 4;
      sums[2][t][n][k] = sums[1][t][n][k], sums[1][t][n][k] = sums[0][t][n][k], sums[0][t][n][k] = 0;
    }
    slot = slot + 1 == tile::slots ? 0 : slot + 1;
    at.advance(s);
  }
  copies_wait<0>();
}

template <int D, int Tiles, class Choice, precision P, class E>
void run_grouped_tiles(basic_cuda<P> const& device, grouped_sizes const& s, E const* x, E const* weight, filter_order order,
                       float const* bias, E* y, bool accumulate, gelu_finish<E> const& finish) {
  using tile = grouped_tile<E, D, Choice>;
  auto const bytes = static_cast<std::size_t>(tile::bytes(s.strip_width));
  int const slices = (s.groups + tile::groups - 1) / tile::groups;
  int const places = std::max(1, tile::residents * device.queue->multiprocessors() / slices);
  int const workers = static_cast<int>(std::min<std::size_t>(
      static_cast<std::size_t>(s.all_strips) * static_cast<std::size_t>(s.height), static_cast<std::size_t>(places)));
  allow_shared(grouped_kernel<D, Tiles, Choice, E>, bytes);
  detail::start(*device.queue, "running a grouped convolution", grouped_kernel<D, Tiles, Choice, E>,
                static_cast<unsigned>(slices * workers), tile::threads, bytes, s, x, weight, order, bias, y, accumulate, finish);
}

/// y = (accumulate ? y : 0) + the convolution of x with weight (channels, 3, 3, D), straight or turned, plus bias unless that is null.
template <int D, class Given = void, precision P, class E>
void run_grouped(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* weight, filter_order order,
                 float const* bias, E* y, bool accumulate, gelu_finish<E> const& finish = {}) {
  using choice = std::conditional_t<std::is_void_v<Given>, grouped_best<E, D>, Given>;
  static_assert(!std::is_void_v<Given> || grouped_tile<E, D, choice>::bytes(grouped_sizes::widest) <= int{shared_budget});
  grouped_sizes const s(g);
  if (s.strip_width <= 16)
    run_grouped_tiles<D, 1, choice>(device, s, x, weight, order, bias, y, accumulate, finish);
  else
    run_grouped_tiles<D, 2, choice>(device, s, x, weight, order, bias, y, accumulate, finish);
}

/// Whether run_grouped does it, given operands aligned to 16 bytes.
template <int D>
[[nodiscard]] bool grouped_fits(conv_geometry const& g) {
  return g.groups > 1 && g.group_in() == D && g.group_out() == D && g.kernel_h == 3 && g.kernel_w == 3 && g.stride == 1 && g.padding == 1;
}

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
