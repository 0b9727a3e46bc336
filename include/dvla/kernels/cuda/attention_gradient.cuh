// Where attention's gradients go on the GPU. That of an operand shared by all images is gathered from one contribution an
// image, which are added up in a fixed order.
#pragma once

#include <cstddef>
#include <optional>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/attention_tile.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

template <class T>
struct gradient_target {
  attention_operand<T> to;         // data is null where nobody asks for it
  arithmetic_t<T>* contributions;  // [batch, heads, rows, head_dim] instead of it, or null
  bool accumulate;

  [[nodiscard]] DVLA_HD bool wanted() const { return to.data != nullptr; }
};

inline constexpr int summing_threads = 256, summing_teams = 8;  // 32 elements a block; a team takes every eighth image

/// to (+)= the sum of the images' contributions [batch, heads, rows, dim]: each team's in order, then the teams' in order.
template <class T>
__global__ void __launch_bounds__(summing_threads)
    sum_images_kernel(arithmetic_t<T> const* contributions, attention_operand<T> to, std::size_t batch, std::size_t elements,
                      std::size_t rows, std::size_t dim, bool accumulate) {
  detail::await_predecessors();
  using number = arithmetic_t<T>;
  __shared__ number sums[summing_teams][32];
  unsigned const team = threadIdx.x / 32, lane = threadIdx.x % 32;
  std::size_t const i = std::size_t{blockIdx.x} * 32 + lane;
  number sum = 0;
  if (i < elements) {
#pragma unroll 8
    for (std::size_t image = team; image < batch; image += summing_teams) sum += contributions[image * elements + i];
  }
  sums[team][lane] = sum;
  __syncthreads();
  if (team != 0 || i >= elements) return;
  for (int other = 1; other < summing_teams; ++other) sum += sums[other][lane];
  T* const at = to.data + i / (rows * dim) * to.strides.head + i / dim % rows * to.strides.token + i % dim;
  *at = static_cast<T>(accumulate ? static_cast<number>(*at) + sum : sum);
}

/// A gradient of [heads, rows, head_dim] an image, on the host: its target, and what is to be done once that is filled.
template <class T>
class gathered_gradient {
 public:
  template <precision P>
  gathered_gradient(basic_cuda<P> const& device, attention_shape const& shape, std::size_t rows, attention_operand<T> const& to,
                    bool accumulate)
      : shape_(shape), rows_(rows), to_(to), accumulate_(accumulate) {
    if (to.data != nullptr && to.strides.batch == 0 && shape.batch > 1) contributions_.emplace(device, shape.batch * elements());
  }

  [[nodiscard]] gradient_target<T> target() const { return {to_, contributions_ ? contributions_->data() : nullptr, accumulate_}; }

  void finish(cuda_queue& queue) const {
    if (!contributions_ || elements() == 0) return;
    detail::start(queue, "summing attention's gradients over the images", sum_images_kernel<T>, detail::blocks_of(elements(), 32),
                  summing_threads, 0, contributions_->data(), to_, shape_.batch, elements(), rows_, shape_.head_dim, accumulate_);
  }

 private:
  [[nodiscard]] std::size_t elements() const { return shape_.heads * rows_ * shape_.head_dim; }

  attention_shape shape_;
  std::size_t rows_;
  attention_operand<T> to_;
  bool accumulate_;
  std::optional<detail::device_scratch<arithmetic_t<T>>> contributions_;
};

/// All that a backward kernel reads and writes. Which head it is about is the kernel's affair.
template <class T>
struct backward_arguments {
  attention_operand<T const> q, k, v, o, d_o;
  arithmetic_t<T> const* lse;
  gradient_target<T> dq, dk, dv;
  arithmetic_t<T> scale;
  head_sizes sizes;
};

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
