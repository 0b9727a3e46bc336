// The small per-channel arithmetic between BatchNorm's passes.
#pragma once

#include <algorithm>
#include <cmath>

#include <dvla/kernels/cpu/norm.hpp>
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

/// The statistics of running averages: mean, and 1 / std from their variance.
template <class T>
void batch_norm_recall(cpu const& device, std::size_t channels, T const* running_mean, T const* running_variance, T eps, T* mean,
                       T* inverse_std) {
  std::copy(running_mean, running_mean + channels, mean);
  batch_norm_invert(device, channels, running_variance, eps, inverse_std);
}

/// The statistics of a batch, mean and 1 / std, towards which the running ones move.
template <class T>
void batch_norm_observe(cpu const& device, std::size_t rows, std::size_t channels, T const* x, T eps, double momentum, T* mean,
                        T* inverse_std, T* running_mean, T* running_variance) {
  batch_norm_statistics(device, rows, channels, x, mean, inverse_std);
  batch_norm_track(device, channels, static_cast<T const*>(mean), static_cast<T const*>(inverse_std), rows, momentum, running_mean,
                   running_variance);
  batch_norm_invert(device, channels, static_cast<T const*>(inverse_std), eps, inverse_std);
}

/// batch_norm_observe and, with its statistics, batch_norm_apply, part by part; mean and inverse_std are [parts, channels]. y may be x.
template <class T>
void batch_norm_forward(cpu const& device, batch_rows rows, std::size_t channels, T const* x, T eps, double momentum, T* mean,
                        T* inverse_std, T* running_mean, T* running_variance, T const* weight, T const* bias, T* y) {
  for (std::size_t part = 0; part < rows.parts(); ++part) {
    std::size_t const at = rows.first(part) * channels;
    T* const m = mean + part * channels;
    T* const s = inverse_std + part * channels;
    batch_norm_observe(device, rows.of(part), channels, x + at, eps, momentum, m, s, running_mean, running_variance);
    batch_norm_apply(device, rows.of(part), channels, x + at, static_cast<T const*>(m), static_cast<T const*>(s), weight, bias, y + at);
  }
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
