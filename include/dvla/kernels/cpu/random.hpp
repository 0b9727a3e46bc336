// Random masks.
#pragma once

#include <dvla/core/batch_share.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// kept[i] = 0 with probability rate, else 1 / (1 - rate): one word of the stream a sample, by its place in the whole batch.
template <class T>
void drop_samples(cpu const& device, std::size_t count, double rate, random_stream const& random, T* kept, batch_share const& share = {}) {
  auto const threshold = static_cast<std::uint64_t>(rate * 4294967296.0);
  T const scale = static_cast<T>(1 / (1 - rate));
  parallel_for(device.pool, count, std::size_t{1} << 14, [=](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) kept[i] = random.at(share.place(i, count)) < threshold ? T(0) : scale;
  });
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
