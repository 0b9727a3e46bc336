// The small per-channel arithmetic between BatchNorm's passes.
#pragma once

#include <cmath>
#include <cstddef>
#include <type_traits>

#include <dvla/kernels/cuda/flat_walk.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace batch_norms {

template <class T>
struct invert_body {
  T const* variance;
  T eps;
  T* inverse_std;
  template <int>
  __device__ void at(std::size_t c) const {
    inverse_std[c] = T(1) / std::sqrt(variance[c] + eps);
  }
};

template <class T>
struct recall_body {
  T const* running_mean;
  T const* running_variance;
  T eps;
  T* mean;
  T* inverse_std;
  template <int>
  __device__ void at(std::size_t c) const {
    mean[c] = running_mean[c];
    inverse_std[c] = T(1) / std::sqrt(running_variance[c] + eps);
  }
};

template <class T>
struct track_body {
  T const* mean;
  T const* variance;
  double momentum, unbiased;
  T* running_mean;
  T* running_variance;
  template <int>
  __device__ void at(std::size_t c) const {
    double const old_mean = static_cast<double>(running_mean[c]), old_variance = static_cast<double>(running_variance[c]);
    running_mean[c] = static_cast<T>((1 - momentum) * old_mean + momentum * static_cast<double>(mean[c]));
    running_variance[c] = static_cast<T>((1 - momentum) * old_variance + momentum * unbiased * static_cast<double>(variance[c]));
  }
};

}  // namespace batch_norms

/// inverse_std = 1 / sqrt(variance + eps). May work in place.
template <precision P, class T>
void batch_norm_invert(basic_cuda<P> const& device, std::size_t channels, T const* variance, std::type_identity_t<T> eps,
                       T* inverse_std) {
  flat_walks::over_elements<1>(device, channels, batch_norms::invert_body<T>{variance, eps, inverse_std},
                               "inverting standard deviations", variance);
}

/// The statistics of running averages: mean, and 1 / std from their variance.
template <precision P, class T>
void batch_norm_recall(basic_cuda<P> const& device, std::size_t channels, T const* running_mean, T const* running_variance,
                       std::type_identity_t<T> eps, T* mean, T* inverse_std) {
  flat_walks::over_elements<1>(device, channels,
                               batch_norms::recall_body<T>{running_mean, running_variance, eps, mean, inverse_std},
                               "recalling statistics", running_mean);
}

/// Running statistics move by `momentum` towards the batch's; the variance of `rows` values is made unbiased first.
template <precision P, class T>
void batch_norm_track(basic_cuda<P> const& device, std::size_t channels, T const* mean, T const* variance, std::size_t rows,
                      double momentum, T* running_mean, T* running_variance) {
  double const unbiased = static_cast<double>(rows) / static_cast<double>(rows - 1);
  flat_walks::over_elements<1>(device, channels,
                               batch_norms::track_body<T>{mean, variance, momentum, unbiased, running_mean, running_variance},
                               "tracking statistics", mean);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
