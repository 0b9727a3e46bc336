// The element-wise operations: what each computes on a value V (a float, a double or a SIMD batch) and its derivatives.
//
// An operation is a struct with
//   apply(a...)                     the value
//   derivative<I>(g, y, a...)       g times the partial derivative by argument I; y is the value
//   uses(I, J)                      whether derivative<I> reads the value of argument J (y counts as reading all)
// Mathematical functions are found by argument-dependent lookup, so the same text serves xsimd batches and GPU threads.
#pragma once

#include <cmath>
#include <cstddef>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {
namespace op {

/// c ? a : b, element by element, for a mask or a bool.
template <class C, class V>
DVLA_HD DVLA_INLINE V choose(C condition, V a, V b) {
  if constexpr (requires { select(condition, a, b); }) {
    return select(condition, a, b);
  } else {
    return condition ? a : b;
  }
}

/// A constant of the value type: V is a batch of some scalar, or the scalar itself.
template <class V>
DVLA_HD DVLA_INLINE V literal(double value) {
  if constexpr (requires { typename V::value_type; }) return V(static_cast<typename V::value_type>(value));
  else return static_cast<V>(value);
}

struct add {
  static constexpr bool uses(std::size_t, std::size_t) { return false; }
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a, V b) {
    return a + b;
  }
  template <std::size_t I, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V, V) {
    return g;
  }
};

struct subtract {
  static constexpr bool uses(std::size_t, std::size_t) { return false; }
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a, V b) {
    return a - b;
  }
  template <std::size_t I, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V, V) {
    return I == 0 ? g : -g;
  }
};

struct multiply {
  static constexpr bool uses(std::size_t i, std::size_t j) { return i != j; }
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a, V b) {
    return a * b;
  }
  template <std::size_t I, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V a, V b) {
    return g * (I == 0 ? b : a);
  }
};

struct divide {
  static constexpr bool uses(std::size_t i, std::size_t j) { return i == 1 || j == 1; }
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a, V b) {
    return a / b;
  }
  template <std::size_t I, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V y, V, V b) {
    if constexpr (I == 0) return g / b;
    else return -g * y / b;
  }
};

struct negate {
  static constexpr bool uses(std::size_t, std::size_t) { return false; }
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a) {
    return -a;
  }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V) {
    return -g;
  }
};

struct uses_all {
  static constexpr bool uses(std::size_t, std::size_t) { return true; }
};

struct square : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a) {
    return a * a;
  }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V a) {
    return g * (a + a);
  }
};

struct absolute : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a) {
    return choose(a < literal<V>(0), -a, a);
  }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V a) {
    return choose(a < literal<V>(0), -g, choose(a > literal<V>(0), g, literal<V>(0)));
  }
};

struct exp : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a) {
    using std::exp;
    return exp(a);
  }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V y, V) {
    return g * y;
  }
};

struct log : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a) {
    using std::log;
    return log(a);
  }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V a) {
    return g / a;
  }
};

struct sqrt : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a) {
    using std::sqrt;
    return sqrt(a);
  }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V y, V) {
    return g * literal<V>(0.5) / y;
  }
};

struct rsqrt : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a) {
    using std::sqrt;
    return literal<V>(1) / sqrt(a);
  }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V y, V) {
    return g * literal<V>(-0.5) * y * y * y;
  }
};

struct tanh : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a) {
    using std::tanh;
    return tanh(a);
  }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V y, V) {
    return g * (literal<V>(1) - y * y);
  }
};

struct sigmoid : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a) {
    using std::exp;
    return literal<V>(1) / (literal<V>(1) + exp(-a));
  }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V y, V) {
    return g * y * (literal<V>(1) - y);
  }
};

struct erf : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a) {
    using std::erf;
    return erf(a);
  }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V a) {
    using std::exp;
    return g * literal<V>(1.1283791670955126) * exp(-a * a);  // 2 / sqrt(pi)
  }
};

/// x Phi(x) with the exact normal distribution function (Hendrycks and Gimpel 2016). A type of values may bring a faster
/// standard_normal(x), found by its arguments: Phi and the density together.
struct gelu : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V distribution(V a) {
    using std::erf;
    return literal<V>(0.5) + literal<V>(0.5) * erf(a * literal<V>(0.70710678118654752));
  }
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a) {
    if constexpr (requires { standard_normal(a); }) return a * standard_normal(a).distribution;
    else return a * distribution(a);
  }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V a) {
    using std::exp;
    if constexpr (requires { standard_normal(a); }) {
      auto const normal = standard_normal(a);
      return g * (normal.distribution + a * normal.density);
    } else {
      return g * (distribution(a) + a * literal<V>(0.39894228040143268) * exp(literal<V>(-0.5) * a * a));  // 1 / sqrt(2 pi)
    }
  }
};

/// x sigmoid(1.702 x), the approximation of gelu that CLIP was trained with (Hendrycks and Gimpel 2016).
struct quick_gelu : uses_all {
  static constexpr double slope = 1.702;
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a) {
    return a * sigmoid::apply(a * literal<V>(slope));
  }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V a) {
    V const s = sigmoid::apply(a * literal<V>(slope));
    return g * s * (literal<V>(1) + a * literal<V>(slope) * (literal<V>(1) - s));
  }
};

struct relu : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a) {
    return choose(a < literal<V>(0), literal<V>(0), a);  // a NaN passes through
  }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V a) {
    return choose(a > literal<V>(0), g, literal<V>(0));
  }
};

/// As C's pow: x^0 and 1^y are 1 whatever the other is. By the exponent, 0^y has derivative 0.
struct pow : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a, V b) {
    using std::pow;
    V const one = literal<V>(1);
    return choose(b == literal<V>(0), one, choose(a == one, one, pow(a, b)));
  }
  template <std::size_t I, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V y, V a, V b) {
    using std::log;
    if constexpr (I == 0) return choose(b == literal<V>(0), literal<V>(0), g * b * apply(a, b - literal<V>(1)));
    else return choose(y == literal<V>(0), literal<V>(0), g * y * log(a));
  }
};

/// A NaN on either side is the result.
struct maximum : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a, V b) {
    return choose(a < b, b, choose(b == b, a, b));
  }
  template <std::size_t I, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V a, V b) {
    return choose(a < b, I == 0 ? literal<V>(0) : g, I == 0 ? g : literal<V>(0));
  }
};

/// A NaN on either side is the result.
struct minimum : uses_all {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a, V b) {
    return choose(b < a, b, choose(b == b, a, b));
  }
  template <std::size_t I, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V a, V b) {
    return choose(b < a, I == 0 ? literal<V>(0) : g, I == 0 ? g : literal<V>(0));
  }
};

/// Comparisons give 1 or 0; their derivative is 0.
struct comparison {
  static constexpr bool uses(std::size_t, std::size_t) { return false; }
  template <std::size_t, class V>
  DVLA_HD DVLA_INLINE static V derivative(V, V, V, V) {
    return literal<V>(0);
  }
};

struct less : comparison {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a, V b) {
    return choose(a < b, literal<V>(1), literal<V>(0));
  }
};

struct less_equal : comparison {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a, V b) {
    return choose(a <= b, literal<V>(1), literal<V>(0));
  }
};

struct equal : comparison {
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V a, V b) {
    return choose(a == b, literal<V>(1), literal<V>(0));
  }
};

/// a where the condition is not 0, b elsewhere.
struct select {
  static constexpr bool uses(std::size_t i, std::size_t j) { return i > 0 && j == 0; }
  template <class V>
  DVLA_HD DVLA_INLINE static V apply(V c, V a, V b) {
    return choose(c == literal<V>(0), b, a);
  }
  template <std::size_t I, class V>
  DVLA_HD DVLA_INLINE static V derivative(V g, V, V c, V, V) {
    if constexpr (I == 0) return literal<V>(0);
    else return choose(c == literal<V>(0), I == 1 ? literal<V>(0) : g, I == 1 ? g : literal<V>(0));
  }
};

}  // namespace op
}  // namespace dvla::inline DVLA_ABI
