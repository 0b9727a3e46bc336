// The Beta distribution: the gate's policy draws its action from it, and Mixup and CutMix their mixing weight.
#pragma once

#include <cmath>
#include <concepts>
#include <limits>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/rl/special_functions.hpp>

namespace dvla::inline DVLA_ABI {

/// The derivative of a number with respect to the two parameters of a Beta distribution.
template <std::floating_point T>
struct beta_gradient {
  T alpha, beta;
};

namespace detail {

// The logarithm of a Gamma(shape, 1) variate (Marsaglia and Tsang 2000). A shape below 1 is drawn at shape + 1 and scaled
// by u^(1/shape); in log space that cannot underflow, which it would for most draws at shape 0.01.
DVLA_HD inline double log_gamma_variate(double shape, random_stream& random) {
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

// What beta_distribution computes, of parameters and arguments that have been checked. sample() may not return for others.
struct beta_formulas {
  double a, b;

  [[nodiscard]] DVLA_HD double log_density(double x) const {
    return (a - 1) * std::log(x) + (b - 1) * std::log1p(-x) - log_normaliser();
  }

  [[nodiscard]] DVLA_HD beta_gradient<double> d_log_density(double x) const {
    double const both = digamma(a + b);
    return {std::log(x) - digamma(a) + both, std::log1p(-x) - digamma(b) + both};
  }

  [[nodiscard]] DVLA_HD double entropy() const {
    return log_normaliser() - (a - 1) * digamma(a) - (b - 1) * digamma(b) + (a + b - 2) * digamma(a + b);
  }

  [[nodiscard]] DVLA_HD beta_gradient<double> d_entropy() const {
    double const both = (a + b - 2) * trigamma(a + b);
    return {both - (a - 1) * trigamma(a), both - (b - 1) * trigamma(b)};
  }

  template <std::floating_point T>
  [[nodiscard]] DVLA_HD T sample(random_stream& random) const {
    double const log_a = log_gamma_variate(a, random), log_b = log_gamma_variate(b, random);
    constexpr T lowest = std::numeric_limits<T>::min(), highest = 1 - std::numeric_limits<T>::epsilon() / 2;
    auto const x = static_cast<T>(1 / (1 + std::exp(log_b - log_a)));
    return x < lowest ? lowest : x > highest ? highest : x;
  }

  [[nodiscard]] DVLA_HD double log_normaliser() const { return lgamma(a) + lgamma(b) - lgamma(a + b); }
};

}  // namespace detail

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
  [[nodiscard]] T log_density(T x) const { return static_cast<T>(checked().log_density(checked(x))); }

  /// Derivative of log_density(x) with respect to alpha and beta: the score function of REINFORCE.
  [[nodiscard]] beta_gradient<T> d_log_density(T x) const { return rounded(checked().d_log_density(checked(x))); }

  /// Differential entropy in nats: log B - (alpha-1) psi(alpha) - (beta-1) psi(beta) + (alpha+beta-2) psi(alpha+beta).
  [[nodiscard]] T entropy() const { return static_cast<T>(checked().entropy()); }

  /// Derivative of entropy() with respect to alpha and beta.
  [[nodiscard]] beta_gradient<T> d_entropy() const { return rounded(checked().d_entropy()); }

  /// One exact draw, from two gamma variates. Strictly inside (0, 1): a draw nearer to an end than T resolves is moved to
  /// the nearest number of T inside.
  [[nodiscard]] T sample(random_stream& random) const { return checked().template sample<T>(random); }

 private:
  [[nodiscard]] detail::beta_formulas checked() const {
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

  static beta_gradient<T> rounded(beta_gradient<double> d) { return {static_cast<T>(d.alpha), static_cast<T>(d.beta)}; }
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
