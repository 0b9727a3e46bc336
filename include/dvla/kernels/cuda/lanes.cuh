// What a value is in the GPU's element-wise loops: a packet of numbers in one thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include <dvla/expr/bound.hpp>
#include <dvla/kernels/cuda/packet.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// N consecutive elements of a row, where the row allows accesses of N elements; N = 1 always does.
template <class T, int N>
struct packet_lanes {
  using value_type = packet<T, N>;

  DVLA_HD DVLA_INLINE value_type broadcast(T value) const { return value_type(value); }
  template <class E>
  DVLA_HD DVLA_INLINE value_type load(E const* from) const {
    return load_packet<T, N>(from);
  }
  template <class E>
  DVLA_HD DVLA_INLINE value_type gather(E const* from, std::ptrdiff_t stride) const {
    value_type out;
    DVLA_UNROLL(16)
    for (int i = 0; i < N; ++i) out.at[i] = static_cast<T>(from[i * stride]);
    return out;
  }
  template <class E>
  DVLA_HD DVLA_INLINE void store(E* to, value_type const& value) const {
    store_packet(to, value);
  }
  template <class E>
  DVLA_HD DVLA_INLINE void store(E* to, value_type const& value, std::ptrdiff_t stride) const {
    DVLA_UNROLL(16)
    for (int i = 0; i < N; ++i) to[i * stride] = static_cast<E>(value.at[i]);
  }
};

namespace detail {

/// Whether N elements at a time may be read at every multiple of N of every row.
template <int N, class E, std::size_t R>
[[nodiscard]] bool rows_are_aligned(E const* data, std::array<std::ptrdiff_t, R> const& strides) {
  constexpr std::size_t access = N * sizeof(E) < 16 ? N * sizeof(E) : 16;
  if (reinterpret_cast<std::uintptr_t>(data) % access != 0) return false;
  for (std::size_t i = 0; i + 1 < R; ++i)
    if (strides[i] * static_cast<std::ptrdiff_t>(sizeof(E)) % static_cast<std::ptrdiff_t>(access) != 0) return false;
  return true;
}

template <int N, class T>
[[nodiscard]] bool takes_packets(bound::constant<T> const&) {
  return true;
}
template <int N, class T, bound::inner Walk, std::size_t R>
[[nodiscard]] bool takes_packets(bound::elements<T, Walk, R> const& e) {
  return Walk != bound::inner::unit || rows_are_aligned<N>(e.data, e.strides);
}
template <int N, class T, bound::inner Walk, std::size_t R>
[[nodiscard]] bool takes_packets(bound::target<T, Walk, R> const& t) {
  return Walk != bound::inner::unit || rows_are_aligned<N>(t.data, t.strides);
}
template <int N, class T, bound::inner Walk, class G, bound::inner GradientWalk, std::size_t R, bool Value>
[[nodiscard]] bool takes_packets(bound::tracked_elements<T, Walk, G, GradientWalk, R, Value> const& e) {
  return (!Value || takes_packets<N>(e.values)) && (e.into == bound::sink::none || takes_packets<N>(e.gradient));
}
template <int N, class T>
[[nodiscard]] bool takes_packets(bound::grouped_rows<T> const&) {
  return true;
}
/// Whether the loop over an expression may work in packets of N.
template <int N, class Op, class... C>
[[nodiscard]] bool takes_packets(bound::operation<Op, C...> const& o) {
  bool all = true;
  dvla::detail::for_each(o.children, [&](auto const& child) { all = all && takes_packets<N>(child); });
  return all;
}

}  // namespace detail
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
