// How many elements a GPU thread may move at once, and loops that keep several of its accesses under way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <dvla/kernels/cuda/packet.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// Elements of E in an access of 16 bytes.
template <class E>
inline constexpr int packet_of = static_cast<int>(16 / sizeof(E));

/// Whether load_packet and store_packet may move N elements at each address, and at every multiple of N from there. Null
/// addresses, which are not used, may be anywhere.
template <int N, class... E>
[[nodiscard]] bool allows_packets(E const*... at) {
  return ((reinterpret_cast<std::uintptr_t>(at) % (N * sizeof(E) < 16 ? N * sizeof(E) : 16) == 0) && ...);
}

/// N elements of E as they lie in memory: what a thread holds while more accesses are under way.
template <class E, int N>
struct raw_packet {
  static constexpr std::size_t bytes = N * sizeof(E) < 16 ? N * sizeof(E) : 16;
  static constexpr int accesses = static_cast<int>(N * sizeof(E) / bytes);
  using word = typename detail::access_word<bytes>::type;
  word words[accesses];

  template <class T>
  [[nodiscard]] __device__ DVLA_INLINE packet<T, N> as() const {
    E elements[N];
    std::memcpy(elements, words, sizeof words);
    packet<T, N> out;
#pragma unroll
    for (int i = 0; i < N; ++i) out.at[i] = static_cast<T>(elements[i]);
    return out;
  }
};

/// N elements from an address aligned as for load_packet.
template <int N, class E>
__device__ DVLA_INLINE raw_packet<E, N> load_raw(E const* from) {
  using word = typename raw_packet<E, N>::word;
  raw_packet<E, N> out;
#pragma unroll
  for (int a = 0; a < raw_packet<E, N>::accesses; ++a) out.words[a] = reinterpret_cast<word const*>(from)[a];
  return out;
}

/// As load_packet, from an address of any alignment.
template <class T, int N, class E>
__device__ DVLA_INLINE packet<T, N> load_anywhere(E const* from) {
  if (reinterpret_cast<std::uintptr_t>(from) % (N * sizeof(E) < 16 ? N * sizeof(E) : 16) == 0) return load_packet<T, N>(from);
  packet<T, N> out;
#pragma unroll
  for (int i = 0; i < N; ++i) out.at[i] = static_cast<T>(from[i]);
  return out;
}

/// Calls use(i, load(i)) for i = first, first + step, ... below last, in order; the loads of Together steps are issued before the
/// first of them is used, so use may overwrite what was loaded. In place of steps beyond the last one, load is called for another.
template <int Together, class Load, class Use>
__device__ DVLA_INLINE void in_batches(std::size_t first, std::size_t last, std::size_t step, Load load, Use use) {
  for (std::size_t i = first; i < last; i += Together * step) {
    decltype(load(i)) loaded[Together];
#pragma unroll
    for (int j = 0; j < Together; ++j) loaded[j] = load(i + j * step < last ? i + j * step : i);
#pragma unroll
    for (int j = 0; j < Together; ++j)
      if (i + j * step < last) use(i + j * step, loaded[j]);
  }
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
