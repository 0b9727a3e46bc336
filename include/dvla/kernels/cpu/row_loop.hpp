// Loops over a row in registers whose last, partial register runs through the same body.
#pragma once

#include <cstddef>
#include <type_traits>

#include <dvla/core/simd.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// Stands for "all lanes" where a body of over_lanes() takes the number of lanes in use.
using all_lanes = std::integral_constant<std::size_t, 0>;

template <class T>
DVLA_INLINE batch<T> read(T const* from, all_lanes) {
  return simd::load(from);
}
/// The first n lanes; the others are 0.
template <class T>
DVLA_INLINE batch<T> read(T const* from, std::size_t n) {
  return simd::load_partial(from, n);
}
template <class T>
DVLA_INLINE void write(T* to, batch<T> value, all_lanes) {
  simd::store(to, value);
}
template <class T>
DVLA_INLINE void write(T* to, batch<T> value, std::size_t n) {
  simd::store_partial(to, value, n);
}

/// Calls body(i, lanes in use) for i = begin, begin + lanes, ... below end; the lanes are all_lanes but for a partial last step.
template <class T, class Body>
DVLA_INLINE void over_lanes(std::size_t begin, std::size_t end, Body&& body) {
  std::size_t i = begin;
  for (; i + lanes<T> <= end; i += lanes<T>) body(i, all_lanes{});
  if (i < end) body(i, end - i);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
