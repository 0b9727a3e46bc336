// What a value is in the CPU's element-wise loops: a full SIMD batch, or the first n lanes of one at the end of a row, so
// that an element has the same bits wherever it stands.
#pragma once

#include <dvla/core/bfloat16.hpp>
#include <dvla/core/simd.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// A whole batch of T.
template <class T>
struct full_lanes {
  using value_type = batch<T>;

  DVLA_INLINE value_type broadcast(T value) const { return value_type(value); }
  DVLA_INLINE value_type load(T const* from) const { return simd::load(from); }
  template <class U>
  DVLA_INLINE value_type load(U const* from) const {
    return gather(from, 1);
  }
  template <class U>
  DVLA_INLINE value_type gather(U const* from, std::ptrdiff_t stride) const {
    alignas(64) T buffer[lanes<T>];
    for (std::size_t i = 0; i < lanes<T>; ++i) buffer[i] = static_cast<T>(from[static_cast<std::ptrdiff_t>(i) * stride]);
    return value_type::load_aligned(buffer);
  }
  DVLA_INLINE void store(T* to, value_type value) const { simd::store(to, value); }
  template <class U>
  DVLA_INLINE void store(U* to, value_type value, std::ptrdiff_t stride = 1) const {
    alignas(64) T buffer[lanes<T>];
    value.store_aligned(buffer);
    for (std::size_t i = 0; i < lanes<T>; ++i) to[static_cast<std::ptrdiff_t>(i) * stride] = static_cast<U>(buffer[i]);
  }
  DVLA_INLINE T sum(value_type value) const { return simd::reduce_add(value); }
};

/// The first n lanes of a batch; the others hold 1, which no operation turns into a trap.
template <class T>
struct tail_lanes {
  using value_type = batch<T>;
  std::size_t n;

  DVLA_INLINE value_type broadcast(T value) const { return value_type(value); }
  template <class U>
  DVLA_INLINE value_type load(U const* from) const {
    return gather(from, 1);
  }
  template <class U>
  DVLA_INLINE value_type gather(U const* from, std::ptrdiff_t stride) const {
    alignas(64) T buffer[lanes<T>];
    for (std::size_t i = 0; i < lanes<T>; ++i) buffer[i] = i < n ? static_cast<T>(from[static_cast<std::ptrdiff_t>(i) * stride]) : T(1);
    return value_type::load_aligned(buffer);
  }
  template <class U>
  DVLA_INLINE void store(U* to, value_type value, std::ptrdiff_t stride = 1) const {
    alignas(64) T buffer[lanes<T>];
    value.store_aligned(buffer);
    for (std::size_t i = 0; i < n; ++i) to[static_cast<std::ptrdiff_t>(i) * stride] = static_cast<U>(buffer[i]);
  }
  DVLA_INLINE T sum(value_type value) const {
    alignas(64) T buffer[lanes<T>];
    value.store_aligned(buffer);
    T total = 0;
    for (std::size_t i = 0; i < n; ++i) total += buffer[i];
    return total;
  }
};

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
