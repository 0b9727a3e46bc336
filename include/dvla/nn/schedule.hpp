// Learning rates as functions of time. Time is a double in the schedule's own unit: epochs done, or steps done.
#pragma once

#include <cmath>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

/// The same rate always (meta-tuning).
struct constant_schedule {
  double rate = 5e-4;

  /// Throws when the rate is negative or not finite.
  [[nodiscard]] double operator()(double /*t*/) const {
    expect(rate >= 0 && std::isfinite(rate), "constant schedule: rate is ", rate, "; give a finite rate of at least 0");
    return rate;
  }
};

/// Cosine decay with linear warm-up, as timm's CosineLRScheduler with one cycle. With the warm-up time w and the total T:
///
///     t <  w   warmup_rate + (base_rate - warmup_rate) t / w
///     t <  T   min_rate + (base_rate - min_rate) (1 + cos(pi (t / T)^k_decay)) / 2
///     t >= T   min_rate
///
/// The warm-up is not prefixed: the cosine runs from t = 0, and the warm-up covers its beginning. The published recipe has
/// k_decay 0.1, with which the rate falls steeply right after the warm-up and never reaches base_rate; 1 is plain cosine.
struct cosine_schedule {
  double total = 800;  // the unit of all times: epochs here, steps if the caller counts steps
  double warmup = 5;   // in that unit; 0 for none
  double base_rate = 5e-4;
  double warmup_rate = 1e-6;  // at t = 0
  double min_rate = 0;        // from t = total on
  double k_decay = 1;

  /// The rate at time t >= 0. Throws, naming the member, for settings or a time that have no meaning.
  [[nodiscard]] double operator()(double t) const {
    check();
    expect(t >= 0, "cosine schedule: the time is ", t, "; count epochs or steps from 0");
    if (t < warmup) return warmup_rate + t * ((base_rate - warmup_rate) / warmup);
    if (t >= total) return min_rate;
    constexpr double pi = 3.14159265358979323846;
    return min_rate + 0.5 * (base_rate - min_rate) * (1 + std::cos(pi * std::pow(t / total, k_decay)));
  }

 private:
  void check() const {
    auto const rate = [](char const* name, double value) {
      expect(value >= 0 && std::isfinite(value), "cosine schedule: ", name, " is ", value, "; give a finite rate of at least 0");
    };
    rate("base_rate", base_rate);
    rate("warmup_rate", warmup_rate);
    rate("min_rate", min_rate);
    expect(total > 0 && std::isfinite(total), "cosine schedule: total is ", total, "; give a positive number of epochs or steps");
    expect(warmup >= 0 && warmup <= total, "cosine schedule: warmup is ", warmup, "; give a time between 0 and total, ", total);
    expect(k_decay > 0 && std::isfinite(k_decay), "cosine schedule: k_decay is ", k_decay,
           "; give a positive exponent, 1 for plain cosine");
  }
};

}  // namespace dvla::inline DVLA_ABI
