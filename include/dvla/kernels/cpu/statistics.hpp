// The small per-channel arithmetic between BatchNorm's passes.
#pragma once

#include <cmath>

#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// inverse_std = 1 / sqrt(variance + eps). May work in place.
template <class T>
void batch_norm_invert(cpu const&, std::size_t channels, T const* variance, T eps, T* inverse_std) {
  for (std::size_t c = 0; c < channels; ++c) inverse_std[c] = T(1) / std::sqrt(variance[c] + eps);
}

/// Running statistics move by `momentum` towards the batch's; the variance of `rows` values is made unbiased first.
template <class T>
void batch_norm_track(cpu const&, std::size_t channels, T const* mean, T const* variance, std::size_t rows, double momentum, T* running_mean,
                      T* running_variance) {
  double const unbiased = static_cast<double>(rows) / static_cast<double>(rows - 1);
  for (std::size_t c = 0; c < channels; ++c) {
    running_mean[c] = static_cast<T>((1 - momentum) * double(running_mean[c]) + momentum * double(mean[c]));
    running_variance[c] = static_cast<T>((1 - momentum) * double(running_variance[c]) + momentum * unbiased * double(variance[c]));
  }
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
