// Max-pooling of images (B, H, W, C): windows of P x P without overlap; rows and columns that fill no window are left out.
#pragma once

#include <cstddef>
#include <cstdint>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/cuda/flat_walk.cuh>
#include <dvla/kernels/pool_geometry.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace max_pools {

/// N places in windows.
template <int N>
struct alignas(N) places {
  std::uint8_t at[N];
};

/// Runs over the elements of y.
template <class X>
struct forward_body {
  using number = arithmetic_t<X>;
  pool_geometry g;
  X const* x;
  X* y;
  std::uint8_t* place;

  template <int N>
  __device__ void at(std::size_t i) const {
    std::size_t const c = i % g.channels, pixel = i / g.channels, column = pixel % g.out_width(), row = pixel / g.out_width();
    std::size_t const image = row / g.out_height(), down = row % g.out_height();
    X const* const window = x + ((image * g.height + down * g.size) * g.width + column * g.size) * g.channels + c;
    packet<number, N> best = load_packet<number, N>(window);
    places<N> chosen{};
    std::size_t k = 1;
    for (std::size_t a = 0; a < g.size; ++a)
      for (std::size_t b = a == 0 ? 1 : 0; b < g.size; ++b, ++k) {
        auto const next = load_packet<number, N>(window + (a * g.width + b) * g.channels);
#pragma unroll
        for (int j = 0; j < N; ++j) {
          bool const larger = next.at[j] > best.at[j] || (next.at[j] != next.at[j] && best.at[j] == best.at[j]);
          best.at[j] = larger ? next.at[j] : best.at[j];
          chosen.at[j] = larger ? static_cast<std::uint8_t>(k) : chosen.at[j];
        }
      }
    store_packet(y + i, best);
    *reinterpret_cast<places<N>*>(place + i) = chosen;
  }
};

/// Runs over the elements of dx: each belongs to at most one window.
template <class X>
struct backward_body {
  using number = arithmetic_t<X>;
  pool_geometry g;
  X const* dy;
  std::uint8_t const* place;
  X* dx;
  bool accumulate;

  template <int N>
  __device__ void at(std::size_t i) const {
    std::size_t const c = i % g.channels, pixel = i / g.channels, across = pixel % g.width, row = pixel / g.width;
    std::size_t const image = row / g.height, down = row % g.height, column = across / g.size, line = down / g.size;
    packet<number, N> gradient(number(0));
    if (line < g.out_height() && column < g.out_width()) {
      std::size_t const from = ((image * g.out_height() + line) * g.out_width() + column) * g.channels + c;
      std::size_t const k = down % g.size * g.size + across % g.size;
      auto const value = load_packet<number, N>(dy + from);
      auto const chosen = *reinterpret_cast<places<N> const*>(place + from);
#pragma unroll
      for (int j = 0; j < N; ++j) gradient.at[j] = chosen.at[j] == k ? value.at[j] : number(0);
    }
    store_packet(dx + i, accumulate ? load_packet<number, N>(dx + i) + gradient : gradient);
  }
};

/// Runs a body over `count` elements in packets of one pixel's channels, where the arrays allow them.
template <class X, precision P, class Body>
void launch(basic_cuda<P> const& device, std::size_t count, Body const& body, X const* a, X const* b, std::uint8_t const* place) {
  constexpr int n = packet_of<X>;
  constexpr char const* doing = "pooling maxima";
  bool const packets = body.g.channels % n == 0 && allows_packets<n>(a, b, place);
  if (packets)
    flat_walks::launch<n>(device, flat_walks::range::of<n>(0, count), body, doing);
  else
    flat_walks::launch<1>(device, flat_walks::range::of<1>(0, count), body, doing);
}

}  // namespace max_pools

/// The largest element of every window, and its place in the window, row by row; the first of equal ones. A NaN is larger
/// than any number.
template <precision P, class X>
void max_pool_forward(basic_cuda<P> const& device, pool_geometry const& g, X const* x, X* y, std::uint8_t* place) {
  max_pools::launch<X>(device, g.batch * g.out_height() * g.out_width() * g.channels, max_pools::forward_body<X>{g, x, y, place}, x,
                       y, place);
}

/// dx of max_pool_forward: dy at the place of the largest element, 0 elsewhere; overwritten or added to.
template <precision P, class X>
void max_pool_backward(basic_cuda<P> const& device, pool_geometry const& g, X const* dy, std::uint8_t const* place, X* dx,
                       bool accumulate) {
  max_pools::launch<X>(device, g.batch * g.height * g.width * g.channels, max_pools::backward_body<X>{g, dy, place, dx, accumulate},
                       dy, dx, place);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
