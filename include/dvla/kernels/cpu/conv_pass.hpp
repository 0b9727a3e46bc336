// The one loop behind conv_forward and conv_backward_input: every output pixel is a row of a matrix product whose other
// operand is packed, and whose left operand is read from the image in place - or from a zero-framed window of it.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/core/parallel.hpp>
#include <dvla/kernels/cpu/conv_window.hpp>
#include <dvla/kernels/cpu/gemm_pack.hpp>
#include <dvla/kernels/cpu/gemm_tile.hpp>
#include <dvla/kernels/cpu/workspace.hpp>
#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels::detail {

/// target(u, v, g, n) = sum_{t, s, c} source(top + u step + t, left + v step + s, g, c) weights(g, t, s, c, n) for
/// u < rows, v < columns, where target pixel (u, v) is ((first_row + u pitch), (first_column + v pitch)) of the target image.
template <class T>
struct conv_pass {
  std::size_t batch, groups;
  T const* source;
  std::size_t source_height, source_width, channels;  // channels of a group
  std::ptrdiff_t top, left;
  std::size_t step, taps_h, taps_w;
  T* target;
  std::size_t target_height, target_width, target_channels;  // channels of all groups
  std::size_t first_row, first_column, pitch, rows, columns;
  std::size_t outputs;  // consecutive elements of a target pixel that a group computes
  T const* bias = nullptr;
  T beta = 0;

  [[nodiscard]] std::size_t depth() const { return taps_h * taps_w * channels; }
  [[nodiscard]] std::size_t padded_outputs() const {
    return (outputs + tile_columns<T> - 1) / tile_columns<T> * tile_columns<T>;
  }
  [[nodiscard]] std::size_t packed_size() const { return groups * depth() * padded_outputs(); }
  [[nodiscard]] std::size_t window_rows(std::size_t of_rows) const { return (of_rows - 1) * step + taps_h; }
  [[nodiscard]] std::size_t window_columns() const { return (columns - 1) * step + taps_w; }

  /// Whether all taps fall inside the image and a row of taps is contiguous: then no window is copied.
  [[nodiscard]] bool in_place() const {
    return groups == 1 && top >= 0 && left >= 0 && static_cast<std::size_t>(top) + window_rows(rows) <= source_height &&
           static_cast<std::size_t>(left) + window_columns() <= source_width;
  }
};

/// Packs the weights of a pass: panel(g, j, columns, out) writes depth() rows of panel_width(columns).
template <class T, class Panel>
void pack_weights(cpu const& device, conv_pass<T> const& pass, T* out, Panel const& panel) {
  std::size_t const panels = pass.padded_outputs() / tile_columns<T>;
  parallel_for(device.pool, pass.groups * panels, 1, [&](std::size_t at, std::size_t) {
    std::size_t const g = at / panels, j = at % panels * tile_columns<T>;
    panel(g, j, std::min(tile_columns<T>, pass.outputs - j), out + (g * pass.padded_outputs() + j) * pass.depth());
  });
}

/// Rows [begin, end) of one image and one group.
template <class T>
void conv_block(conv_pass<T> const& pass, T const* weights, std::size_t image, std::size_t group, std::size_t begin,
                std::size_t end) {
  std::size_t const c = pass.channels, rows = end - begin, pixels = rows * pass.columns;
  bool const in_place = pass.in_place();
  image_slice<T> const slice{
      pass.source + image * pass.source_height * pass.source_width * pass.groups * c + group * c, pass.source_height,
      pass.source_width, pass.groups * c, c};
  std::ptrdiff_t const top = pass.top + static_cast<std::ptrdiff_t>(begin * pass.step);
  std::size_t const window_size = pass.window_rows(rows) * pass.window_columns() * c;
  scratch<T> const window(in_place ? 0 : window_size + 1);  // never null, not even in a pass without taps
  T const* from = window.data();
  if (in_place) {
    from = slice.data + (static_cast<std::size_t>(top) * slice.width + static_cast<std::size_t>(pass.left)) * c;
  } else {
    copy_window(slice, top, pass.left, pass.window_rows(rows), pass.window_columns(), window.data());
  }
  std::size_t const row_stride = (in_place ? slice.width : pass.window_columns()) * c;

  scratch<std::size_t> const offsets(2 * pixels);  // of each pixel: of its first tap, and of its result
  for (std::size_t u = 0, i = 0; u < rows; ++u)
    for (std::size_t v = 0; v < pass.columns; ++v, ++i) {
      offsets.data()[2 * i] = u * pass.step * row_stride + v * pass.step * c;
      offsets.data()[2 * i + 1] = (u * pass.target_width + v) * pass.pitch * pass.target_channels;
    }
  std::size_t const first = (image * pass.target_height + pass.first_row + begin * pass.pitch) * pass.target_width;
  T* const to = pass.target + (first + pass.first_column) * pass.target_channels + group * pass.outputs;

  for (std::size_t j = 0; j < pass.outputs; j += tile_columns<T>) {
    tile_job<T> job;
    job.segments = pass.taps_h;
    job.length = pass.taps_w * c;
    job.a_jump = row_stride;
    job.columns = std::min(tile_columns<T>, pass.outputs - j);
    job.b_step = panel_width<T>(job.columns);
    job.b_jump = job.length * job.b_step;
    job.b = weights + (group * pass.padded_outputs() + j) * pass.depth();
    job.beta = pass.beta;
    alignas(64) T bias[tile_columns<T>] = {};
    if (pass.bias != nullptr) {
      std::copy_n(pass.bias + group * pass.outputs + j, job.columns, bias);
      job.bias = bias;
    }
    multiply_panel(job, pixels, [&](std::size_t i, T const*& a, T*& out) {
      a = from + offsets.data()[2 * i];
      out = to + offsets.data()[2 * i + 1] + j;
    });
  }
}

template <class T>
void run_pass(cpu const& device, conv_pass<T> const& pass, T const* weights) {
  if (pass.rows == 0 || pass.columns == 0) return;
  constexpr std::size_t window_bytes = 128 * 1024;  // stays in L2 beside the panels of the weights
  std::size_t const row_bytes = pass.step * pass.window_columns() * pass.channels * sizeof(T);
  std::size_t const most = std::max<std::size_t>(1, window_bytes / row_bytes), blocks = (pass.rows + most - 1) / most;
  std::size_t const block_rows = (pass.rows + blocks - 1) / blocks;
  parallel_for(device.pool, pass.batch * blocks * pass.groups, 1, [&](std::size_t task, std::size_t) {
    std::size_t const group = task % pass.groups, block = task / pass.groups % blocks, image = task / pass.groups / blocks;
    std::size_t const begin = block * block_rows, end = std::min(pass.rows, begin + block_rows);
    if (begin < end) conv_block(pass, weights, image, group, begin, end);
  });
}

}  // namespace kernels::detail
}  // namespace dvla::inline DVLA_ABI
