// Channels-last convolution on the CPU and its two gradients, as matrix products that read the image in place: the matrix
// of all patches is never formed. (The gradient of the bias is column_sum of reduce.hpp.)
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/core/parallel.hpp>
#include <dvla/kernels/cpu/conv_window.hpp>
#include <dvla/kernels/cpu/conv_pass.hpp>
#include <dvla/kernels/cpu/gemm_pack.hpp>
#include <dvla/kernels/cpu/gemm_tile.hpp>
#include <dvla/kernels/cpu/reduce.hpp>
#include <dvla/kernels/cpu/workspace.hpp>
#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// y = convolution of x with weight, plus bias unless that is null; bit-equal for any number of threads.
template <class T>
void conv_forward(cpu const& device, conv_geometry const& g, T const* x, T const* weight, T const* bias, T* y) {
  auto const margin = -static_cast<std::ptrdiff_t>(g.padding);
  detail::conv_pass<T> const pass{.batch = g.batch, .groups = g.groups, .source = x, .source_height = g.height,
                                  .source_width = g.width, .channels = g.group_in(), .top = margin, .left = margin,
                                  .step = g.stride, .taps_h = g.kernel_h, .taps_w = g.kernel_w, .target = y,
                                  .target_height = g.out_height(), .target_width = g.out_width(),
                                  .target_channels = g.out_channels, .first_row = 0, .first_column = 0, .pitch = 1,
                                  .rows = g.out_height(), .columns = g.out_width(), .outputs = g.group_out(), .bias = bias};
  detail::scratch<T> const packed(pass.packed_size());
  detail::pack_weights(device, pass, packed.data(), [&](std::size_t group, std::size_t j, std::size_t columns, T* out) {
    detail::pack_b_panel(weight + (group * g.group_out() + j) * g.taps(), g.taps(), true, g.taps(), columns, out);
  });
  detail::run_pass(device, pass, packed.data());
}

namespace detail {

/// In one direction, the pixels i = phase, phase + stride, ... of x: pixel phase + u stride meets the kernel's taps
/// first + t stride, t < count, at the output u + top + (count - 1 - t).
struct conv_phase {
  std::size_t pixels, first, count;
  std::ptrdiff_t top;

  conv_phase(std::size_t phase, std::size_t size, std::size_t kernel, std::size_t stride, std::size_t padding)
      : pixels(phase < size ? (size - phase + stride - 1) / stride : 0), first((phase + padding) % stride),
        count(first < kernel ? (kernel - first + stride - 1) / stride : 0),
        top(static_cast<std::ptrdiff_t>((phase + padding) / stride) - static_cast<std::ptrdiff_t>(count) + 1) {}
};

/// What all passes of conv_backward_input share: dy is the source, dx the target.
template <class T>
conv_pass<T> backward_pass(conv_geometry const& g, T const* dy, T* dx, bool accumulate) {
  return {.batch = g.batch, .groups = g.groups, .source = dy, .source_height = g.out_height(), .source_width = g.out_width(),
          .channels = g.group_out(), .top = 0, .left = 0, .step = 1, .taps_h = 1, .taps_w = 1, .target = dx,
          .target_height = g.height, .target_width = g.width, .target_channels = g.in_channels, .first_row = 0,
          .first_column = 0, .pitch = g.stride, .rows = g.out_height(), .columns = g.out_width(), .outputs = g.group_in(),
          .bias = nullptr, .beta = T(accumulate)};
}

/// Patches that tile the image: a row of taps is one contiguous run of dx, so each is a plain product with dy.
template <class T>
void backward_patches(cpu const& device, conv_geometry const& g, T const* dy, T const* weight, T* dx, bool accumulate) {
  bool const leftover = g.out_height() * g.stride != g.height || g.out_width() * g.stride != g.width;
  if (leftover && !accumulate) std::fill_n(dx, g.batch * g.height * g.width * g.in_channels, T(0));
  conv_pass<T> pass = backward_pass(g, dy, dx, accumulate);
  pass.outputs = g.kernel_w * g.in_channels;
  scratch<T> const packed(pass.packed_size());
  for (std::size_t row = 0; row < g.kernel_h; ++row) {
    pass.first_row = row;
    pack_weights(device, pass, packed.data(), [&](std::size_t, std::size_t j, std::size_t columns, T* out) {
      pack_b_panel(weight + row * pass.outputs + j, g.taps(), false, g.out_channels, columns, out);
    });
    run_pass(device, pass, packed.data());
  }
}

}  // namespace detail

/// dx = (accumulate ? dx : 0) + the gradient of x, where dy is that of y. One pass for every residue of a pixel's position
/// modulo the stride: pixels of one residue meet the same taps.
template <class T>
void conv_backward_input(cpu const& device, conv_geometry const& g, T const* dy, T const* weight, T* dx, bool accumulate) {
  if (g.groups == 1 && g.padding == 0 && g.kernel_h == g.stride && g.kernel_w == g.stride)
    return detail::backward_patches(device, g, dy, weight, dx, accumulate);
  for (std::size_t phase_y = 0; phase_y < g.stride; ++phase_y)
    for (std::size_t phase_x = 0; phase_x < g.stride; ++phase_x) {
      detail::conv_phase const y(phase_y, g.height, g.kernel_h, g.stride, g.padding);
      detail::conv_phase const x(phase_x, g.width, g.kernel_w, g.stride, g.padding);
      detail::conv_pass<T> pass = detail::backward_pass(g, dy, dx, accumulate);
      pass.top = y.top, pass.left = x.top;
      pass.taps_h = x.count == 0 ? 0 : y.count, pass.taps_w = y.count == 0 ? 0 : x.count;
      pass.first_row = phase_y, pass.first_column = phase_x;
      pass.rows = y.pixels, pass.columns = x.pixels;
      if (pass.rows == 0 || pass.columns == 0) continue;
      detail::scratch<T> const packed(pass.packed_size());
      detail::pack_weights(device, pass, packed.data(), [&](std::size_t group, std::size_t j, std::size_t columns, T* out) {
        std::size_t const tap_size = g.group_out() * detail::panel_width<T>(columns);
        for (std::size_t t = 0; t < pass.taps_h; ++t)
          for (std::size_t s = 0; s < pass.taps_w; ++s, out += tap_size) {
            std::size_t const r = y.first + (y.count - 1 - t) * g.stride, q = x.first + (x.count - 1 - s) * g.stride;
            T const* const tap = weight + group * g.group_out() * g.taps() + (r * g.kernel_w + q) * g.group_in() + j;
            detail::pack_b_panel(tap, g.taps(), false, g.group_out(), columns, out);
          }
      });
      detail::run_pass(device, pass, packed.data());
    }
}

namespace detail {

/// How the gradient of the weights is cut up, by its sizes alone: images in parts summed apart, output channels of a group
/// in blocks, and within those blocks of output rows, or of small images whole, whose pixels stay in cache.
template <class T>
struct weight_plan {
  std::size_t parts, part_images, channel_blocks, block_channels, block_rows, block_images;

  explicit weight_plan(conv_geometry const& g) {
    constexpr std::size_t most_parts = 16, part_pixels = 1024, most_sums = std::size_t{1} << 20, most_channels = 96;
    constexpr std::size_t window_bytes = 128 * 1024;
    std::size_t const pixels = g.batch * g.out_height() * g.out_width();
    parts = std::min({most_parts, g.batch, pixels / part_pixels, most_sums / (g.out_channels * g.taps())});
    parts = std::max<std::size_t>(parts, 1);
    part_images = (g.batch + parts - 1) / parts;
    parts = (g.batch + part_images - 1) / part_images;
    channel_blocks = (g.group_out() + most_channels - 1) / most_channels;
    block_channels = (g.group_out() + channel_blocks - 1) / channel_blocks;
    block_channels = (block_channels + tile_rows<T> - 1) / tile_rows<T> * tile_rows<T>;
    std::size_t const row_bytes = g.stride * (g.width + 2 * g.padding) * g.group_in() * sizeof(T);
    block_rows = std::clamp<std::size_t>(window_bytes / row_bytes, 1, g.out_height());
    std::size_t const row_blocks = (g.out_height() + block_rows - 1) / block_rows;
    block_rows = (g.out_height() + row_blocks - 1) / row_blocks;
    block_images = row_blocks > 1 ? 1 : std::clamp<std::size_t>(window_bytes / (row_bytes * block_rows), 1, part_images);
  }
};

/// Adds to output channels [begin, end), all of `group`, what output rows [row, row + rows) of `images` images contribute:
/// dw[o][r][run] = sum over pixels p of dy[p][o] x[p moved by kernel row r][run], a run being a kernel row's taps of a pixel.
template <class T>
void weight_block(conv_geometry const& g, T const* x, T const* dy, std::size_t images, std::size_t row, std::size_t rows,
                  std::size_t group, std::size_t begin, std::size_t end, T* dw, T beta) {
  std::size_t const c = g.group_in(), columns = g.out_width(), pixels = rows * columns, run = g.kernel_w * c;
  std::size_t const window_columns = (columns - 1) * g.stride + g.kernel_w, window_rows = (rows - 1) * g.stride + g.kernel_h;
  std::size_t const window_size = window_rows * window_columns * c;
  auto const margin = static_cast<std::ptrdiff_t>(g.padding);
  scratch<T> const window(images * window_size + tile_columns<T>);  // a panel's last vectors may read past a run
  scratch<T> const packed(images * pixels * ((end - begin + tile_rows<T> - 1) / tile_rows<T> * tile_rows<T>));
  std::fill_n(window.data() + images * window_size, tile_columns<T>, T(0));
  for (std::size_t n = 0; n < images; ++n) {
    T const* const image = x + n * g.height * g.width * g.in_channels + group * c;
    copy_window(image_slice<T>{image, g.height, g.width, g.in_channels, c},
                static_cast<std::ptrdiff_t>(row * g.stride) - margin, -margin, window_rows, window_columns,
                window.data() + n * window_size);
    pack_a_transposed(dy + (n * g.out_height() + row) * columns * g.out_channels + begin, g.out_channels, end - begin, pixels,
                      packed.data() + n * pixels * tile_rows<T>, images * pixels);
  }
  for (std::size_t r = 0; r < g.kernel_h; ++r)
    for (std::size_t j = 0; j < run; j += tile_columns<T>) {
      tile_job<T> job;
      job.images = images;
      job.segments = rows;
      job.length = columns;
      job.a_step = tile_rows<T>;
      job.a_jump = columns * tile_rows<T>;
      job.b = window.data() + r * window_columns * c + j;
      job.b_step = g.stride * c;
      job.b_jump = g.stride * window_columns * c;
      job.b_image = window_size;
      job.columns = std::min(tile_columns<T>, run - j);
      job.beta = beta;
      multiply_panel(job, end - begin, [&](std::size_t i, T const*& a, T*& out) {
        a = packed.data() + i / tile_rows<T> * tile_rows<T> * images * pixels + i % tile_rows<T>;
        out = dw + (begin + i) * g.taps() + r * run + j;
      });
    }
}

}  // namespace detail

/// dweight = (accumulate ? dweight : 0) + the gradient of the weights; bit-equal for any number of threads.
template <class T>
void conv_backward_weight(cpu const& device, conv_geometry const& g, T const* x, T const* dy, T* dweight, bool accumulate) {
  std::size_t const size = g.out_channels * g.taps(), image = g.height * g.width * g.in_channels;
  if (g.batch == 0) {
    if (!accumulate) std::fill_n(dweight, size, T(0));
    return;
  }
  detail::weight_plan<T> const plan(g);
  detail::scratch<T> const sums(plan.parts > 1 ? plan.parts * size : 0);
  parallel_for(device.pool, plan.parts * g.groups * plan.channel_blocks, 1, [&](std::size_t task, std::size_t) {
    std::size_t const block = task % plan.channel_blocks, group = task / plan.channel_blocks % g.groups;
    std::size_t const part = task / plan.channel_blocks / g.groups, first = group * g.group_out();
    std::size_t const begin = std::min(g.group_out(), block * plan.block_channels);
    std::size_t const end = std::min(g.group_out(), begin + plan.block_channels);
    T* const out = plan.parts > 1 ? sums.data() + part * size : dweight;
    std::size_t const first_image = part * plan.part_images, last_image = std::min(g.batch, first_image + plan.part_images);
    T beta = T(plan.parts == 1 && accumulate);
    for (std::size_t n = first_image; n < last_image; n += plan.block_images)
      for (std::size_t row = 0; row < g.out_height(); row += plan.block_rows, beta = 1)
        detail::weight_block(g, x + n * image, dy + n * g.out_height() * g.out_width() * g.out_channels,
                             std::min(plan.block_images, last_image - n), row, std::min(plan.block_rows, g.out_height() - row),
                             group, first + begin, first + end, out, beta);
  });
  if (plan.parts > 1) detail::add_parts(device, sums.data(), plan.parts, size, dweight, accumulate);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
