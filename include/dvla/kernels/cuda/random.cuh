// Random masks.
#pragma once

#include <cstddef>
#include <cstdint>

#include <dvla/core/batch_share.hpp>
#include <dvla/core/bfloat16.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/kernels/cuda/flat_walk.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace random_masks {

template <class T>
struct drop_body {
  std::uint64_t threshold;
  random_stream random;
  unsigned long long const* steps_later;
  T scale;
  T* kept;
  batch_share share;
  std::size_t count;
  template <int>
  __device__ void at(std::size_t i) const {
    kept[i] = random.later(*steps_later).at(share.place(i, count)) < threshold ? static_cast<T>(arithmetic_t<T>(0)) : scale;
  }
};

}  // namespace random_masks

/// kept[i] = 0 with probability rate, else 1 / (1 - rate): one word of the stream a sample, by its place in the whole batch, as on
/// the CPU. A replayed step draws from its own step's stream.
template <precision P, class T>
void drop_samples(basic_cuda<P> const& device, std::size_t count, double rate, random_stream const& random, T* kept,
                  batch_share const& share = {}) {
  auto const threshold = static_cast<std::uint64_t>(rate * 4294967296.0);
  auto const scale = static_cast<T>(static_cast<arithmetic_t<T>>(1 / (1 - rate)));
  random_masks::drop_body<T> const body{threshold, random, device.queue->steps_later(), scale, kept, share, count};
  flat_walks::over_elements<1>(device, count, body, "drawing a random mask", kept);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
