// The gamma function's logarithm and its first two derivatives, for positive arguments. Plain arithmetic and std::log, so
// that the same code runs on any thread and device: std::lgamma writes the global signgam, which is a data race.
#pragma once

#include <cmath>
#include <concepts>
#include <limits>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

// From here on the asymptotic series, cut after eight terms, are exact to a double's precision (the first term left out
// is below 1e-16 relative); smaller arguments climb to it by the recurrence Gamma(x + 1) = x Gamma(x).
inline constexpr double asymptotic_from = 10.0;

// sum of B_2k / (2k (2k - 1) x^(2k - 1)), k = 1..8: what Stirling's formula lacks to log Gamma(x).
DVLA_HD constexpr double stirling_remainder(double x) {
  double const w = 1.0 / (x * x);
  double sum = -3617.0 / 122400;
  sum = sum * w + 1.0 / 156;
  sum = sum * w - 691.0 / 360360;
  sum = sum * w + 1.0 / 1188;
  sum = sum * w - 1.0 / 1680;
  sum = sum * w + 1.0 / 1260;
  sum = sum * w - 1.0 / 360;
  sum = sum * w + 1.0 / 12;
  return sum / x;
}

// sum of B_2k / (2k x^2k), k = 1..8.
DVLA_HD constexpr double digamma_remainder(double x) {
  double const w = 1.0 / (x * x);
  double sum = -3617.0 / 8160;
  sum = sum * w + 1.0 / 12;
  sum = sum * w - 691.0 / 32760;
  sum = sum * w + 1.0 / 132;
  sum = sum * w - 1.0 / 240;
  sum = sum * w + 1.0 / 252;
  sum = sum * w - 1.0 / 120;
  sum = sum * w + 1.0 / 12;
  return sum * w;
}

// sum of B_2k / x^(2k + 1), k = 1..8.
DVLA_HD constexpr double trigamma_remainder(double x) {
  double const w = 1.0 / (x * x);
  double sum = -3617.0 / 510;
  sum = sum * w + 7.0 / 6;
  sum = sum * w - 691.0 / 2730;
  sum = sum * w + 5.0 / 66;
  sum = sum * w - 1.0 / 30;
  sum = sum * w + 1.0 / 42;
  sum = sum * w - 1.0 / 30;
  sum = sum * w + 1.0 / 6;
  return sum * w / x;
}

}  // namespace detail

/// log Gamma(x) for x > 0, to 1e-13 (relative; absolute near the zeros 1 and 2). +inf at 0 and +inf; NaN below 0.
template <std::floating_point T>
[[nodiscard]] DVLA_HD T lgamma(T argument) {
  auto x = static_cast<double>(argument);
  if (!(x >= 0)) return std::numeric_limits<T>::quiet_NaN();
  double climbed = 1;
  for (; x < detail::asymptotic_from; x += 1) climbed *= x;
  constexpr double half_log_two_pi = 0.918938533204672741780329736406;
  double const stirling = (x - 0.5) * (std::log(x) - 1) - 0.5 + half_log_two_pi;
  return static_cast<T>(stirling + detail::stirling_remainder(x) - std::log(climbed));
}

/// digamma(x) = d log Gamma(x) / dx for x > 0, to 1e-13 (relative; absolute near the zero 1.4616). -inf at 0; NaN below 0.
template <std::floating_point T>
[[nodiscard]] DVLA_HD T digamma(T argument) {
  auto x = static_cast<double>(argument);
  if (!(x >= 0)) return std::numeric_limits<T>::quiet_NaN();
  double climbed = 0;
  for (; x < detail::asymptotic_from; x += 1) climbed += 1 / x;
  return static_cast<T>(std::log(x) - 0.5 / x - detail::digamma_remainder(x) - climbed);
}

/// trigamma(x) = d digamma(x) / dx for x > 0, to 1e-13 relative. +inf at 0; NaN below 0.
template <std::floating_point T>
[[nodiscard]] DVLA_HD T trigamma(T argument) {
  auto x = static_cast<double>(argument);
  if (!(x >= 0)) return std::numeric_limits<T>::quiet_NaN();
  double climbed = 0;
  for (; x < detail::asymptotic_from; x += 1) climbed += 1 / (x * x);
  return static_cast<T>(1 / x + 0.5 / (x * x) + detail::trigamma_remainder(x) + climbed);
}

}  // namespace dvla::inline DVLA_ABI
