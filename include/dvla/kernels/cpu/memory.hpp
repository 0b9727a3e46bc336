// Filling and copying, for large buffers in parallel.
#pragma once

#include <algorithm>

#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

inline constexpr std::size_t memory_grain = std::size_t{1} << 18;  // elements a task

template <class T>
void fill(cpu const& device, std::size_t count, T* to, T value) {
  parallel_for(device.pool, count, memory_grain, [=](std::size_t begin, std::size_t end) { std::fill(to + begin, to + end, value); });
}

template <class T>
void copy(cpu const& device, std::size_t count, T const* from, T* to) {
  parallel_for(device.pool, count, memory_grain, [=](std::size_t begin, std::size_t end) { std::copy(from + begin, from + end, to + begin); });
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
