// Filling and copying, for large buffers in parallel.
#pragma once

#include <algorithm>
#include <cstdint>

#include <dvla/core/bfloat16.hpp>
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

/// The same numbers as another type, written or added.
template <class From, class To>
void convert(cpu const& device, std::size_t count, From const* from, To* to, bool accumulate) {
  using T = arithmetic_t<To>;
  parallel_for(device.pool, count, memory_grain, [=](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) to[i] = static_cast<T>(from[i]) + (accumulate ? static_cast<T>(to[i]) : T(0));
  });
}

/// Copies to host memory and waits for it.
template <class T>
void download(cpu const&, std::size_t count, T const* from, T* host) {
  std::copy(from, from + count, host);
}

/// Copies from host memory.
template <class T>
void upload(cpu const&, std::size_t count, T const* host, T* to) {
  std::copy(host, host + count, to);
}

/// Copies `outer` blocks of `block` elements from steps of from_step to steps of to_step, or adds them.
template <class T>
void copy_blocks(cpu const& device, std::size_t outer, std::size_t block, T const* from, std::size_t from_step, T* to, std::size_t to_step,
                 bool accumulate) {
  std::size_t const grain = std::max<std::size_t>(1, memory_grain / 4 / std::max<std::size_t>(1, block));
  parallel_for(device.pool, outer, grain, [=](std::size_t begin, std::size_t end) {
    for (std::size_t o = begin; o < end; ++o) {
      T const* const source = from + o * from_step;
      T* const target = to + o * to_step;
      if (accumulate) {
        for (std::size_t i = 0; i < block; ++i) target[i] += source[i];
      } else {
        std::copy(source, source + block, target);
      }
    }
  });
}

/// to[r] = from[index[r]] row by row, each row `width` elements.
template <class T>
void gather_rows(cpu const& device, std::size_t rows, std::size_t width, std::uint32_t const* index, T const* from, T* to) {
  parallel_for(device.pool, rows, std::max<std::size_t>(1, memory_grain / 4 / std::max<std::size_t>(1, width)),
               [=](std::size_t begin, std::size_t end) {
                 for (std::size_t r = begin; r < end; ++r) std::copy(from + index[r] * width, from + (index[r] + 1) * width, to + r * width);
               });
}

/// to[index[r]] += from[r], in the order of r: the adjoint of gather_rows.
template <class T>
void scatter_add_rows(cpu const&, std::size_t rows, std::size_t width, std::uint32_t const* index, T const* from, T* to) {
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t i = 0; i < width; ++i) to[index[r] * width + i] += from[r * width + i];
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
