// A block of threads resizes one image: rows first, with a rounded 8-bit image between, as data/resize.hpp does and to its byte.
// The rows between lie in shared memory; where they do not all fit, the image is made in bands.
#pragma once

#include <cstddef>
#include <cstdint>

#include <dvla/data/cuda/image_plan.hpp>
#include <dvla/data/resize.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace augmenting {

/// How a block lays out its work on an image of side x side pixels.
struct block_layout {
  int side;
  int taps;           // inputs that an output of a resize is made of, at most
  int rows;           // rows of the image between the passes that there is room for
  std::size_t pitch;  // bytes from one image of a batch to the next, a multiple of 16

  [[nodiscard]] DVLA_HD int image_bytes() const { return side * side * 3; }
  [[nodiscard]] DVLA_HD int row_pitch() const { return (side * 3 + 3) / 4 * 4; }
  [[nodiscard]] DVLA_HD std::size_t table_bytes() const {
    return 2 * static_cast<std::size_t>(side) * (sizeof(int2) + static_cast<std::size_t>(taps) * sizeof(std::int32_t));
  }
};

/// The inputs of every output row (first half) and column (second half): windows hold the first input and how many there are,
/// none for outputs beyond the edges, which are black.
struct resize_tables {
  int2* windows;
  std::int32_t* weights;
  int side, taps;

  __device__ int2 const* rows() const { return windows; }
  __device__ int2 const* columns() const { return windows + side; }
  __device__ std::int32_t const* of_row(int y) const { return weights + y * taps; }
  __device__ std::int32_t const* of_column(int x) const { return weights + (side + x) * taps; }

  /// Called by the whole block, which must meet before the tables are read.
  __device__ void fill(image_plan const& plan) const {
    auto const axis = [&](int in, int out) {
      return resample_axis(static_cast<std::size_t>(in), static_cast<std::size_t>(out), plan.kernel);
    };
    resample_axis const down = axis(plan.source.height, plan.resized_height);
    resample_axis const across = axis(plan.source.width, plan.resized_width);
    for (int i = static_cast<int>(threadIdx.x); i < 2 * side; i += static_cast<int>(blockDim.x)) {
      if (i < side) {
        enter(i, down, i + plan.window_top, plan.resized_height);
      } else {
        int const x = i - side;
        enter(i, across, (plan.flip ? side - 1 - x : x) + plan.window_left, plan.resized_width);
      }
    }
  }

 private:
  __device__ void enter(int entry, resample_axis const& axis, int at, int size) const {
    if (at < 0 || at >= size) {
      windows[entry] = make_int2(at < 0 ? 0 : static_cast<int>(axis.in), 0);
      return;
    }
    auto const i = static_cast<std::size_t>(at);
    std::size_t const first = axis.first(i), end = axis.end(i);
    double sum = 0;
    for (std::size_t j = first; j < end; ++j) sum += axis.weight(i, j);
    std::int32_t* to = weights + entry * taps;
    for (std::size_t j = first; j < end; ++j) *to++ = resample_axis::to_fixed(axis.weight(i, j) / sum);
    windows[entry] = make_int2(static_cast<int>(first), static_cast<int>(end - first));
  }
};

/// Rows [first, end) of the box of the source, each resampled to `side` pixels. A warp takes a row.
__device__ inline void resample_rows(pixel_view source, plan_box const& box, resize_tables const& tables, int first, int end,
                                     std::uint8_t* rows, int row_pitch) {
  int const lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  for (int r = first + warp; r < end; r += static_cast<int>(blockDim.x / 32)) {
    std::uint8_t const* const from = source.at(box.top + r, box.left);
    std::uint8_t* const to = rows + (r - first) * row_pitch;
    for (int x = lane; x < tables.side; x += 32) {
      int2 const window = tables.columns()[x];
      std::int32_t const* const weights = tables.of_column(x);
      std::uint8_t const* p = from + window.x * 3;
      std::int32_t red = dvla::detail::fixed_half, green = dvla::detail::fixed_half, blue = dvla::detail::fixed_half;
      for (int j = 0; j < window.y; ++j, p += 3) {
        red += weights[j] * p[0];
        green += weights[j] * p[1];
        blue += weights[j] * p[2];
      }
      to[x * 3] = dvla::detail::from_fixed(red);
      to[x * 3 + 1] = dvla::detail::from_fixed(green);
      to[x * 3 + 2] = dvla::detail::from_fixed(blue);
    }
  }
}

/// Output rows [begin, end) from the rows between, the first of which is row `first` of the box. A warp takes a row, a thread
/// four bytes of it.
__device__ inline void resample_columns(std::uint8_t const* rows, int row_pitch, int first, resize_tables const& tables,
                                        int begin, int end, std::uint8_t* pixels) {
  int const lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  int const bytes = tables.side * 3;
  for (int y = begin + warp; y < end; y += static_cast<int>(blockDim.x / 32)) {
    int2 const window = tables.rows()[y];
    std::int32_t const* const weights = tables.of_row(y);
    std::uint8_t const* const from = rows + (window.x - first) * row_pitch;
    for (int at = lane * 4; at < bytes; at += 128) {
      constexpr std::int32_t half = dvla::detail::fixed_half;
      std::int32_t sum[4] = {half, half, half, half};
      for (int j = 0; j < window.y; ++j) {
        auto const four = *reinterpret_cast<std::uint32_t const*>(from + j * row_pitch + at);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[i] += weights[j] * static_cast<std::int32_t>(four >> (8 * i) & 0xFF);
      }
      std::uint8_t* const to = pixels + y * bytes + at;
      if (bytes % 4 == 0) {
        std::uint32_t four = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) four |= std::uint32_t{dvla::detail::from_fixed(sum[i])} << (8 * i);
        *reinterpret_cast<std::uint32_t*>(to) = four;
      } else {
        for (int i = 0; i < 4 && at + i < bytes; ++i) to[i] = dvla::detail::from_fixed(sum[i]);
      }
    }
  }
}

/// How many output rows from `begin` on are made of inputs before row `limit` of the box; at least one. Called by the whole block.
__device__ inline int rows_made_of(resize_tables const& tables, int begin, int limit) {
  int count = 0;
  for (int y = begin; y < tables.side; y += static_cast<int>(blockDim.x)) {
    int const mine = y + static_cast<int>(threadIdx.x);
    count += __syncthreads_count(mine < tables.side && tables.rows()[mine].x + tables.rows()[mine].y <= limit);
  }
  return count > 0 ? count : 1;
}

/// The plan's window of the resized source, packed, at `pixels`. Called by the whole block; ends with all threads met.
__device__ inline void resample(pixel_view source, image_plan const& plan, block_layout const& layout, resize_tables const& tables,
                                std::uint8_t* rows, std::uint8_t* pixels) {
  tables.fill(plan);
  __syncthreads();
  for (int begin = 0; begin < layout.side;) {
    int const first = tables.rows()[begin].x;
    int const end = begin + rows_made_of(tables, begin, first + layout.rows);
    int2 const last = tables.rows()[end - 1];
    resample_rows(source, plan.source, tables, first, last.x + last.y, rows, layout.row_pitch());
    __syncthreads();
    resample_columns(rows, layout.row_pitch(), first, tables, begin, end, pixels);
    __syncthreads();
    begin = end;
  }
}

}  // namespace augmenting
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
