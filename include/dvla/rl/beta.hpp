// The Beta distribution: the gate's policy draws its action from it, and Mixup and CutMix their mixing weight.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/rl/special_functions.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

// The logarithm of a Gamma(shape, 1) variate (Marsaglia and Tsang 2000). A shape below 1 is drawn at shape + 1 and scaled
// by u^(1/shape); in log space that cannot underflow, which it would for most draws at shape 0.01.
inline double log_gamma_variate(double shape, random_stream& random) {
  double boost = 0;
  if (shape < 1) {
    boost = std::log(1 - random.uniform()) / shape;
    shape += 1;
  }
  double const d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    double const x = random.normal(), root = 1 + c * x;
    if (root <= 0) continue;
    double const v = root * root * root, log_v = std::log(v);
    if (std::log(1 - random.uniform()) < 0.5 * x * x + d * (1 - v + log_v)) return std::log(d) + log_v + boost;
  }
}

}  // namespace detail

/// The derivative of a number with respect to the two parameters of a Beta distribution.
template <std::floating_point T>
struct beta_gradient {
  T alpha, beta;
};

/// Beta(alpha, beta) on (0, 1), both parameters positive; density x^(alpha-1) (1-x)^(beta-1) / B(alpha, beta).
/// Every function throws dvla::error when a parameter is not positive and finite. Computed in double whatever T.
template <std::floating_point T>
struct beta_distribution {
  T alpha, beta;

  [[nodiscard]] T mean() const {
    auto const [a, b] = checked();
    return static_cast<T>(a / (a + b));
  }

  /// log of the density at x in (0, 1), in nats; another x throws.
  [[nodiscard]] T log_density(T x) const {
    auto const [a, b] = checked();
    auto const at = checked(x);
    return static_cast<T>((a - 1) * std::log(at) + (b - 1) * std::log1p(-at) - log_normaliser(a, b));
  }

  /// Derivative of log_density(x) with respect to alpha and beta: the score function of REINFORCE.
  [[nodiscard]] beta_gradient<T> d_log_density(T x) const {
    auto const [a, b] = checked();
    auto const at = checked(x);
    double const both = digamma(a + b);
    return {static_cast<T>(std::log(at) - digamma(a) + both), static_cast<T>(std::log1p(-at) - digamma(b) + both)};
  }

  /// Differential entropy in nats: log B - (alpha-1) psi(alpha) - (beta-1) psi(beta) + (alpha+beta-2) psi(alpha+beta).
  [[nodiscard]] T entropy() const {
    auto const [a, b] = checked();
    return static_cast<T>(log_normaliser(a, b) - (a - 1) * digamma(a) - (b - 1) * digamma(b) + (a + b - 2) * digamma(a + b));
  }

  /// Derivative of entropy() with respect to alpha and beta.
  [[nodiscard]] beta_gradient<T> d_entropy() const {
    auto const [a, b] = checked();
    double const both = (a + b - 2) * trigamma(a + b);
    return {static_cast<T>(both - (a - 1) * trigamma(a)), static_cast<T>(both - (b - 1) * trigamma(b))};
  }

  /// One exact draw, from two gamma variates. Strictly inside (0, 1): a draw nearer to an end than T resolves is moved to
  /// the nearest number of T inside.
  [[nodiscard]] T sample(random_stream& random) const {
    auto const [a, b] = checked();
    double const log_a = detail::log_gamma_variate(a, random), log_b = detail::log_gamma_variate(b, random);
    constexpr T lowest = std::numeric_limits<T>::min(), highest = 1 - std::numeric_limits<T>::epsilon() / 2;
    return std::clamp(static_cast<T>(1 / (1 + std::exp(log_b - log_a))), lowest, highest);
  }

 private:
  [[nodiscard]] beta_distribution<double> checked() const {
    constexpr T largest = std::numeric_limits<T>::max();
    expect(alpha > 0 && alpha <= largest, "Beta distribution: alpha is ", alpha, "; both parameters must be positive and finite");
    expect(beta > 0 && beta <= largest, "Beta distribution: beta is ", beta, "; both parameters must be positive and finite");
    return {static_cast<double>(alpha), static_cast<double>(beta)};
  }

  static double checked(T x) {
    expect(x > 0 && x < 1, "Beta distribution: the density is defined strictly between 0 and 1, but x is ", x,
           "; clamp the action into the open interval");
    return static_cast<double>(x);
  }

  static double log_normaliser(double a, double b) { return lgamma(a) + lgamma(b) - lgamma(a + b); }
};

/// Beta(kappa p, kappa (1 - p)): mean p in (0, 1), concentration kappa > 0 (the gate policy's form).
template <std::floating_point T>
[[nodiscard]] beta_distribution<T> beta_from_mean(T p, T kappa) {
  expect(p > 0 && p < 1, "Beta distribution: the mean must lie strictly between 0 and 1, but it is ", p,
         "; keep the policy's output away from the ends, as eps + (1 - 2 eps) sigmoid does");
  expect(kappa > 0 && kappa <= std::numeric_limits<T>::max(), "Beta distribution: the concentration kappa is ", kappa,
         "; it must be positive and finite");
  return {kappa * p, kappa * (1 - p)};
}

}  // namespace dvla::inline DVLA_ABI
