// Figures of a classifier: how often it is right, and what it says about the true class. One block: an episode has few rows.
#pragma once

#include <cstdint>

#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace detail {

inline constexpr unsigned figure_threads = 256;

/// The sum of a number of each thread of a block, in a fixed order; valid in thread 0.
__device__ inline double block_total(double own) {
  __shared__ double parts[figure_threads];
  parts[threadIdx.x] = own;
  __syncthreads();
  for (unsigned half = figure_threads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    __syncthreads();
  }
  return parts[0];
}

template <class T>
__global__ void share_correct_kernel(std::size_t rows, std::size_t classes, T const* logits, std::uint32_t const* labels,
                                     T* share) {
  await_predecessors();
  double correct = 0;
  for (std::size_t r = threadIdx.x; r < rows; r += figure_threads) {
    std::size_t best = 0;
    for (std::size_t c = 1; c < classes; ++c)
      if (logits[r * classes + c] > logits[r * classes + best]) best = c;
    correct += best == labels[r] ? 1 : 0;
  }
  double const total = block_total(correct);
  if (threadIdx.x == 0) *share = static_cast<T>(total / static_cast<double>(rows));
}

template <class T>
__global__ void mean_at_label_kernel(std::size_t rows, std::size_t classes, T const* x, std::uint32_t const* labels, T* mean) {
  await_predecessors();
  double own = 0;
  for (std::size_t r = threadIdx.x; r < rows; r += figure_threads) own += static_cast<double>(x[r * classes + labels[r]]);
  double const total = block_total(own);
  if (threadIdx.x == 0) *mean = static_cast<T>(total / static_cast<double>(rows));
}

}  // namespace detail

/// The share of rows of `logits` (rows, classes) whose largest element, the first one of equals, is at their label.
template <precision P, class T>
void share_correct(basic_cuda<P> const& device, std::size_t rows, std::size_t classes, T const* logits, std::uint32_t const* labels,
                   T* share) {
  detail::start(*device.queue, "counting correct rows", detail::share_correct_kernel<T>, 1, detail::figure_threads, 0, rows, classes,
                logits, labels, share);
}

/// The mean over rows of the element at the row's label.
template <precision P, class T>
void mean_at_label(basic_cuda<P> const& device, std::size_t rows, std::size_t classes, T const* x, std::uint32_t const* labels,
                   T* mean) {
  detail::start(*device.queue, "averaging the elements at labels", detail::mean_at_label_kernel<T>, 1, detail::figure_threads, 0, rows,
                classes, x, labels, mean);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
