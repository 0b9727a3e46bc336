// Where a training run stands: what, beside weights and moments, an exact continuation needs.
#pragma once

#include <cstdint>
#include <vector>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// Data order and random numbers are functions of (seed, step), so these few numbers place a run.
struct training_state {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;           ///< optimizer steps taken
  double seconds = 0;               ///< time spent in them
  double best_accuracy = -1;        ///< of the validations so far; below 0 before the first
  std::uint64_t best_step = 0;      ///< the step after which it was reached
  std::vector<double> baselines{};  ///< of the gates' rewards; empty before the first episode
};

}  // namespace dvla::inline DVLA_ABI
