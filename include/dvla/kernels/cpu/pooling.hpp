// Max-pooling of images (B, H, W, C): windows of P x P without overlap; rows and columns that fill no window are left out.
#pragma once

#include <cstddef>
#include <cstdint>

#include <dvla/core/parallel.hpp>
#include <dvla/kernels/device.hpp>
#include <dvla/kernels/pool_geometry.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

template <class T>
void max_pool_forward(cpu const& device, pool_geometry const& g, T const* x, T* y, std::uint8_t* place) {
  parallel_for(device.pool, g.batch * g.out_height(), 1, [=](std::size_t begin, std::size_t end) {
    for (std::size_t row = begin; row < end; ++row) {
      T const* const band = x + (row / g.out_height() * g.height + row % g.out_height() * g.size) * g.width * g.channels;
      for (std::size_t column = 0; column < g.out_width(); ++column) {
        T const* const window = band + column * g.size * g.channels;
        T* const best = y + (row * g.out_width() + column) * g.channels;
        std::uint8_t* const at = place + (row * g.out_width() + column) * g.channels;
        for (std::size_t c = 0; c < g.channels; ++c) {
          best[c] = window[c];
          at[c] = 0;
        }
        for (std::size_t k = 1; k < g.size * g.size; ++k) {
          T const* const from = window + (k / g.size * g.width + k % g.size) * g.channels;
          for (std::size_t c = 0; c < g.channels; ++c) {
            bool const larger = from[c] > best[c] || (from[c] != from[c] && best[c] == best[c]);
            best[c] = larger ? from[c] : best[c];
            at[c] = larger ? static_cast<std::uint8_t>(k) : at[c];
          }
        }
      }
    }
  });
}

/// dx of max_pool_forward: dy at the place of the largest element, 0 elsewhere; overwritten or added to.
template <class T>
void max_pool_backward(cpu const& device, pool_geometry const& g, T const* dy, std::uint8_t const* place, T* dx, bool accumulate) {
  parallel_for(device.pool, g.batch, 1, [=](std::size_t begin, std::size_t end) {
    std::size_t const image = g.height * g.width * g.channels;
    if (!accumulate)
      for (std::size_t i = begin * image; i < end * image; ++i) dx[i] = T(0);
    for (std::size_t row = begin * g.out_height(); row < end * g.out_height(); ++row) {
      T* const band = dx + (row / g.out_height() * g.height + row % g.out_height() * g.size) * g.width * g.channels;
      for (std::size_t column = 0; column < g.out_width(); ++column)
        for (std::size_t c = 0; c < g.channels; ++c) {
          std::size_t const from = (row * g.out_width() + column) * g.channels + c, k = place[from];
          band[(k / g.size * g.width + column * g.size + k % g.size) * g.channels + c] += dy[from];
        }
    }
  });
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
