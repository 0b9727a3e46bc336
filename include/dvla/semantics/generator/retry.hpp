// When a failed call is tried again, and a clock that tests can replace.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <thread>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// Exponential back-off with full jitter.
struct retry_policy {
  std::size_t tries = 6;  ///< of one request, the first included
  std::chrono::milliseconds base{1'000}, cap{60'000};
};

/// How long to wait after the failed try number `failed` (1, 2, ...): uniform in [0, 1) of base * 2^(failed - 1), at most the cap,
/// but never less than the server asked for.
[[nodiscard]] inline std::chrono::milliseconds retry_delay(retry_policy const& policy, std::size_t failed, double uniform,
                                                           std::optional<std::chrono::seconds> retry_after) {
  auto longest = std::min(policy.base, policy.cap);
  for (std::size_t i = 1; i < failed && longest < policy.cap; ++i) longest = std::min(longest * 2, policy.cap);
  std::chrono::milliseconds const jittered(
      static_cast<std::chrono::milliseconds::rep>(uniform * static_cast<double>(longest.count())));
  return std::max(jittered, std::chrono::milliseconds(retry_after.value_or(std::chrono::seconds(0))));
}

/// Tells the time and waits.
struct retry_clock {
  using time = std::chrono::steady_clock::time_point;
  std::function<time()> now = [] { return std::chrono::steady_clock::now(); };
  std::function<void(std::chrono::milliseconds)> sleep = [](std::chrono::milliseconds how_long) {
    std::this_thread::sleep_for(how_long);
  };
};

}  // namespace dvla::inline DVLA_ABI
