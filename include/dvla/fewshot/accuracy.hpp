// What an evaluation reports: the mean accuracy over episodes and its 95 % confidence interval.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

/// mean +- half_width, in the unit of the values.
struct interval {
  double mean, half_width;
};

/// Mean of the values and 1.96 times their population standard deviation over sqrt(n): the 95 % interval as the few-shot
/// literature reports it. Summed in order. Throws for no values at all.
[[nodiscard]] inline interval confidence_interval(std::span<double const> values) {
  expect(!values.empty(), "confidence_interval: no values; evaluate at least one episode");
  auto const n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (double const value : values) sum += value;
  double const mean = sum / n;
  for (double const value : values) squares += (value - mean) * (value - mean);
  return {mean, 1.96 * std::sqrt(squares / n) / std::sqrt(n)};
}

}  // namespace dvla::inline DVLA_ABI
