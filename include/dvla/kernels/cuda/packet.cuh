// What a value is in a GPU thread: N numbers that are loaded and stored with one access of up to 16 bytes.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// N numbers of T (float or double), in registers.
template <class T, int N>
struct packet {
  using value_type = T;
  T at[N];

  packet() = default;
  DVLA_HD DVLA_INLINE explicit packet(T value) {
    DVLA_UNROLL(16)
    for (int i = 0; i < N; ++i) at[i] = value;
  }
};

/// N yes or no.
template <int N>
struct packet_mask {
  bool at[N];
};

namespace detail {

template <int N, class F, class... Packet>
DVLA_HD DVLA_INLINE auto each(F f, Packet const&... p) {
  using result = decltype(f(p.at[0]...));
  std::conditional_t<std::is_same_v<result, bool>, packet_mask<N>, packet<result, N>> out;
  DVLA_UNROLL(16)
  for (int i = 0; i < N; ++i) out.at[i] = f(p.at[i]...);
  return out;
}

/// The unsigned word of a number of bytes that one access moves.
template <std::size_t Bytes>
struct access_word;
template <>
struct access_word<2> {
  using type = std::uint16_t;
};
template <>
struct access_word<4> {
  using type = std::uint32_t;
};
template <>
struct access_word<8> {
  using type = uint2;
};
template <>
struct access_word<16> {
  using type = uint4;
};

template <class Word>
DVLA_HD DVLA_INLINE void store_word(Word* to, Word const& word) {
  *to = word;
}
/// As it stands, nvcc 13 takes a word that was put together from parts to pieces again: four stores of 4 bytes.
DVLA_HD DVLA_INLINE void store_word(uint4* to, uint4 const& word) {
#if DVLA_ON_DEVICE
  asm volatile("st.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(word.x), "r"(word.y), "r"(word.z), "r"(word.w) : "memory");
#else
  *to = word;
#endif
}

}  // namespace detail

template <class T, int N>
DVLA_HD DVLA_INLINE packet<T, N> operator+(packet<T, N> a, packet<T, N> b) {
  return detail::each<N>([](T x, T y) { return x + y; }, a, b);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet<T, N> operator-(packet<T, N> a, packet<T, N> b) {
  return detail::each<N>([](T x, T y) { return x - y; }, a, b);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet<T, N> operator*(packet<T, N> a, packet<T, N> b) {
  return detail::each<N>([](T x, T y) { return x * y; }, a, b);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet<T, N> operator/(packet<T, N> a, packet<T, N> b) {
  return detail::each<N>([](T x, T y) { return x / y; }, a, b);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet<T, N> operator-(packet<T, N> a) {
  return detail::each<N>([](T x) { return -x; }, a);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet_mask<N> operator<(packet<T, N> a, packet<T, N> b) {
  return detail::each<N>([](T x, T y) { return x < y; }, a, b);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet_mask<N> operator<=(packet<T, N> a, packet<T, N> b) {
  return detail::each<N>([](T x, T y) { return x <= y; }, a, b);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet_mask<N> operator>(packet<T, N> a, packet<T, N> b) {
  return detail::each<N>([](T x, T y) { return x > y; }, a, b);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet_mask<N> operator==(packet<T, N> a, packet<T, N> b) {
  return detail::each<N>([](T x, T y) { return x == y; }, a, b);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet<T, N> select(packet_mask<N> condition, packet<T, N> a, packet<T, N> b) {
  return detail::each<N>([](bool c, T x, T y) { return c ? x : y; }, condition, a, b);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet<T, N> exp(packet<T, N> a) {
  return detail::each<N>([](T x) { return std::exp(x); }, a);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet<T, N> log(packet<T, N> a) {
  return detail::each<N>([](T x) { return std::log(x); }, a);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet<T, N> sqrt(packet<T, N> a) {
  return detail::each<N>([](T x) { return std::sqrt(x); }, a);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet<T, N> tanh(packet<T, N> a) {
  return detail::each<N>([](T x) { return std::tanh(x); }, a);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet<T, N> erf(packet<T, N> a) {
  return detail::each<N>([](T x) { return std::erf(x); }, a);
}
template <class T, int N>
DVLA_HD DVLA_INLINE packet<T, N> pow(packet<T, N> a, packet<T, N> b) {
  return detail::each<N>([](T x, T y) { return std::pow(x, y); }, a, b);
}

/// The standard normal distribution function and its density.
template <class V>
struct normal_values {
  V distribution, density;
};

namespace detail {

DVLA_HD DVLA_INLINE float fast_reciprocal(float x) {
#if DVLA_ON_DEVICE
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1 / x;
#endif
}
DVLA_HD DVLA_INLINE float fast_exp2(float x) {
#if DVLA_ON_DEVICE
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

/// Phi(-|x|) = exp(-x^2 / 2) t P(t) with t = 1 / (1 + 0.305 |x|), the form of Abramowitz and Stegun's 7.1.26 with a polynomial
/// fitted here: relative error 9.4e-8 for |x| < 14, in all 1.8e-7 of Phi. A third of erff's instructions, and the density, which
/// a GELU's derivative asks for, comes with it.
DVLA_HD DVLA_INLINE normal_values<float> standard_normal(float x) {
  float const magnitude = std::fabs(x), t = fast_reciprocal(std::fma(0.305f, magnitude, 1.0f));
  float const bell = fast_exp2(x * x * -0.72134752f);  // log2(e) / 2
  float p = 0.0366992f;
  p = std::fma(p, t, -0.15298834f);
  p = std::fma(p, t, 0.18571697f);
  p = std::fma(p, t, -0.037976883f);
  p = std::fma(p, t, 0.1210217f);
  p = std::fma(p, t, 0.10342086f);
  p = std::fma(p, t, 0.12246682f);
  p = std::fma(p, t, 0.121639736f);
  float const tail = p * t * bell;
  return {x < 0 ? tail : 1 - tail, 0.3989422804f * bell};
}

}  // namespace detail

template <int N>
DVLA_HD DVLA_INLINE normal_values<packet<float, N>> standard_normal(packet<float, N> const& x) {
  normal_values<packet<float, N>> out;
  DVLA_UNROLL(16)
  for (int i = 0; i < N; ++i) {
    auto const of_one = detail::standard_normal(x.at[i]);
    out.distribution.at[i] = of_one.distribution;
    out.density.at[i] = of_one.density;
  }
  return out;
}

/// N elements of E from an address aligned to their size (at most 16 bytes an access), as numbers of T.
template <class T, int N, class E>
DVLA_HD DVLA_INLINE packet<T, N> load_packet(E const* from) {
  constexpr std::size_t bytes = N * sizeof(E) < 16 ? N * sizeof(E) : 16;
  constexpr int accesses = static_cast<int>(N * sizeof(E) / bytes), each = N / accesses;
  using word = typename detail::access_word<bytes>::type;
  packet<T, N> out;
  DVLA_UNROLL(8)
  for (int a = 0; a < accesses; ++a) {
    word const whole = reinterpret_cast<word const*>(from)[a];
    E parts[each];
    std::memcpy(parts, &whole, bytes);
    DVLA_UNROLL(16)
    for (int i = 0; i < each; ++i) out.at[a * each + i] = static_cast<T>(parts[i]);
  }
  return out;
}

/// Stores N numbers as elements of E at an address aligned to their size (at most 16 bytes an access).
template <class E, class T, int N>
DVLA_HD DVLA_INLINE void store_packet(E* to, packet<T, N> const& value) {
  constexpr std::size_t bytes = N * sizeof(E) < 16 ? N * sizeof(E) : 16;
  constexpr int accesses = static_cast<int>(N * sizeof(E) / bytes), each = N / accesses;
  using word = typename detail::access_word<bytes>::type;
  DVLA_UNROLL(8)
  for (int a = 0; a < accesses; ++a) {
    E parts[each];
    DVLA_UNROLL(16)
    for (int i = 0; i < each; ++i) parts[i] = static_cast<E>(value.at[a * each + i]);
    word whole;
    std::memcpy(&whole, parts, bytes);
    detail::store_word(reinterpret_cast<word*>(to) + a, whole);
  }
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
