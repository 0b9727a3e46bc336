// The few SIMD operations the library uses, over xsimd 8 and later: batches of the widest registers the flags allow.
// Included by the CPU's kernels only; a .cu never sees it.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>

// g++ 12 takes the deliberately undefined registers inside its own AVX-512 intrinsics for mistakes (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <xsimd/xsimd.hpp>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// A register of T: float or double.
template <class T>
using batch = xsimd::batch<T>;

/// Elements in a batch of T.
template <class T>
inline constexpr std::size_t lanes = batch<T>::size;

namespace simd {

template <class T>
DVLA_INLINE batch<T> load(T const* from) {
  return batch<T>::load_unaligned(from);
}

/// The first n < lanes elements; the others are `fill`.
template <class T>
DVLA_INLINE batch<T> load_partial(T const* from, std::size_t n, T fill = T(0)) {
  alignas(64) T buffer[lanes<T>];
  for (std::size_t i = 0; i < lanes<T>; ++i) buffer[i] = i < n ? from[i] : fill;
  return batch<T>::load_aligned(buffer);
}

template <class T>
DVLA_INLINE void store(T* to, batch<T> value) {
  value.store_unaligned(to);
}

template <class T>
DVLA_INLINE void store_partial(T* to, batch<T> value, std::size_t n) {
  alignas(64) T buffer[lanes<T>];
  value.store_aligned(buffer);
  std::memcpy(to, buffer, n * sizeof(T));
}

template <class T>
DVLA_INLINE T reduce_add(batch<T> value) {
#if XSIMD_VERSION_MAJOR >= 9
  return xsimd::reduce_add(value);
#else
  return xsimd::hadd(value);
#endif
}

template <class T>
DVLA_INLINE T reduce_max(batch<T> value) {
  alignas(64) T buffer[lanes<T>];
  value.store_aligned(buffer);
  T best = buffer[0];
  for (std::size_t i = 1; i < lanes<T>; ++i) best = buffer[i] > best ? buffer[i] : best;
  return best;
}

}  // namespace simd
}  // namespace dvla::inline DVLA_ABI
