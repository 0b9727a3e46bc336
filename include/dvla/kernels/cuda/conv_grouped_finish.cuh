// What becomes of the results of a grouped convolution on their way to memory: something may be added to the sums; then they are
// stored, or an activation of theirs is, or they are an activation's gradient. A finish is a trivially copyable functor with
//   finish<N>(offset, values, ...)   on the device: takes N neighbouring results as they lie in y, 16 bytes, from an offset of y
//   reads, load<N>(offset)           whether it needs something there, and what; finish then has it as its last argument, so that a
//                                    thread has all such reads under way at once; prefetch(offset) comes before
#pragma once

#include <cstddef>

#include <dvla/expr/operations.hpp>
#include <dvla/kernels/cuda/access.cuh>
#include <dvla/kernels/cuda/instructions.cuh>
#include <dvla/kernels/cuda/packet.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// What completes sums before they are rounded: nothing.
struct as_they_are {
  __device__ void add_to(float (&)[2], unsigned, std::size_t) const {}
};
/// A bias unless that is null, and what `old`, laid out as y, holds already, unless that is null.
template <class E>
struct with_bias_and_old {
  float const* bias;
  E const* old;

  /// At two neighbouring channels of a pixel.
  __device__ DVLA_INLINE void add_to(float (&result)[2], unsigned channel, std::size_t offset) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (bias != nullptr) result[i] += bias[channel + static_cast<unsigned>(i)];
      if (old != nullptr) result[i] += static_cast<float>(old[offset + static_cast<unsigned>(i)]);
    }
  }
};

/// y = values.
template <class E>
struct store_image {
  static constexpr bool reads = false;
  E* y;

  template <int N>
  __device__ void finish(std::size_t offset, raw_packet<E, N> const& values) const {
    *reinterpret_cast<uint4*>(y + offset) = values.words[0];
  }
};

/// activated = gelu(values), and y = values unless y is null.
template <class E>
struct store_image_gelu {
  static constexpr bool reads = false;
  E *y, *activated;

  template <int N>
  __device__ void finish(std::size_t offset, raw_packet<E, N> const& values) const {
    if (y != nullptr) *reinterpret_cast<uint4*>(y + offset) = values.words[0];
    store_packet(activated + offset, op::gelu::apply(values.template as<float>()));
  }
};

/// dz = values gelu'(z).
template <class E>
struct store_image_slope {
  static constexpr bool reads = true;
  E* dz;
  E const* z;

  __device__ void prefetch(std::size_t offset) const { instructions::prefetch(z + offset); }
  template <int N>
  [[nodiscard]] __device__ raw_packet<E, N> load(std::size_t offset) const {
    return load_raw<N>(z + offset);
  }
  template <int N>
  __device__ void finish(std::size_t offset, raw_packet<E, N> const& values, raw_packet<E, N> const& at) const {
    auto const gradient = values.template as<float>();
    store_packet(dz + offset, op::gelu::derivative<0>(gradient, gradient, at.template as<float>()));
  }
};

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
