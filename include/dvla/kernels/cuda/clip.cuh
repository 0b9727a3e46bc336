// Gradients held to a norm without the host knowing it.
#pragma once

#include <cmath>

#include <dvla/kernels/cuda/flat_walk.cuh>
#include <dvla/kernels/cuda/packet.cuh>
#include <dvla/kernels/cuda/squared_norm.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace clipping {

template <class T>
struct clip_body {
  T* x;
  double const* squares;
  double most;
  T factor = 1;

  __device__ void prepare() {
    double const norm = std::sqrt(*squares);
    factor = norm > most ? static_cast<T>(most / norm) : T(1);
  }
  template <int N>
  __device__ void at(std::size_t i) const {
    if (factor != T(1)) store_packet(x + i, load_packet<T, N>(x + i) * packet<T, N>(factor));
  }
};

}  // namespace clipping

/// Scales x so that its L2 norm is at most `most`. A norm that is not a number leaves x as it is.
template <precision P, class T>
void clip_norm(basic_cuda<P> const& device, std::size_t count, T* x, double most) {
  detail::device_scratch<double> const squares(device, 1);
  squared_norm_at(device, count, static_cast<T const*>(x), squares.data());
  flat_walks::over_elements<packet_of<T>>(device, count, clipping::clip_body<T>{x, squares.data(), most}, "clipping gradients", x);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
