// A tuple that host and device code can read without std::tuple's machinery: expressions hold their children in one.
// No member is ever empty: nvcc 13 takes all memory there is over nested [[no_unique_address]] members in a kernel.
#pragma once

#include <cstddef>
#include <utility>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

template <class... T>
struct pack {};

template <class Last>
struct pack<Last> {
  Last head;

  constexpr pack() = default;
  DVLA_HD DVLA_INLINE constexpr pack(Last h) : head(static_cast<Last&&>(h)) {}
};

template <class Head, class Next, class... Tail>
struct pack<Head, Next, Tail...> {
  Head head;
  pack<Next, Tail...> tail;

  constexpr pack() = default;
  DVLA_HD DVLA_INLINE constexpr pack(Head h, Next n, Tail... t)
      : head(static_cast<Head&&>(h)), tail(static_cast<Next&&>(n), static_cast<Tail&&>(t)...) {}
};

template <std::size_t I, class Head, class... Tail>
DVLA_HD DVLA_INLINE constexpr auto& get(pack<Head, Tail...>& p) {
  if constexpr (I == 0) return p.head;
  else return get<I - 1>(p.tail);
}

template <std::size_t I, class Head, class... Tail>
DVLA_HD DVLA_INLINE constexpr auto const& get(pack<Head, Tail...> const& p) {
  if constexpr (I == 0) return p.head;
  else return get<I - 1>(p.tail);
}

template <class... T, class F>
DVLA_HD DVLA_INLINE constexpr void for_each(pack<T...>& p, F&& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) { (f(get<I>(p)), ...); }(std::index_sequence_for<T...>{});
}

template <class... T, class F>
DVLA_HD DVLA_INLINE constexpr void for_each(pack<T...> const& p, F&& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) { (f(get<I>(p)), ...); }(std::index_sequence_for<T...>{});
}

}  // namespace detail
}  // namespace dvla::inline DVLA_ABI
