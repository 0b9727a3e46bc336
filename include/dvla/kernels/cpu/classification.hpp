// Figures of a classifier: how often it is right, and what it says about the true class.
#pragma once

#include <cstdint>

#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// The share of rows of `logits` (rows, classes) whose largest element, the first one of equals, is at their label.
template <class T>
void share_correct(cpu const&, std::size_t rows, std::size_t classes, T const* logits, std::uint32_t const* labels, T* share) {
  std::size_t correct = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    std::size_t best = 0;
    for (std::size_t c = 1; c < classes; ++c)
      if (logits[r * classes + c] > logits[r * classes + best]) best = c;
    correct += best == labels[r];
  }
  *share = static_cast<T>(static_cast<double>(correct) / static_cast<double>(rows));
}

/// The mean over rows of the element at the row's label.
template <class T>
void mean_at_label(cpu const&, std::size_t rows, std::size_t classes, T const* x, std::uint32_t const* labels, T* mean) {
  double total = 0;
  for (std::size_t r = 0; r < rows; ++r) total += static_cast<double>(x[r * classes + labels[r]]);
  *mean = static_cast<T>(total / static_cast<double>(rows));
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
