// Attention backward on the GPU: on tensor cores a head a block, or in pieces where it does not fit one, else in plain arithmetic.
#pragma once

#include <cstddef>
#include <type_traits>

#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/attention_gather.cuh>
#include <dvla/kernels/cuda/attention_general_backward.cuh>
#include <dvla/kernels/cuda/attention_gradient.cuh>
#include <dvla/kernels/cuda/attention_launch.cuh>
#include <dvla/kernels/cuda/attention_resident.cuh>
#include <dvla/kernels/cuda/attention_whole_head.cuh>
#include <dvla/kernels/cuda/device.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

/// The gradients on tensor cores, if the shape, the operands' places and the card's shared memory allow it.
template <class T>
[[nodiscard]] bool tensor_backward(cuda_queue& queue, attention_shape const& shape, backward_arguments<T> const& all) {
  if (!has_tensor_shape<T>(shape, all.scale) || shape.queries == 0 ||
      !have_whole_accesses(all.q, all.k, all.v, all.o, all.d_o, all.dq.to, all.dk.to, all.dv.to))
    return false;
  return with_padded_dim(shape.head_dim, [&]<int D>(std::integral_constant<int, D>) {
    return whole_head_backward<T, D>(queue, shape, all) || resident_backward<T, D>(queue, shape, all) ||
           gather_backward<T, D>(queue, shape, all);
  });
}

}  // namespace attention_cuda

/// The gradients of attention_forward(), from its inputs, its result o with lse, and the result's gradient d_o. Each of dq,
/// dk, dv is overwritten, or added to (accumulate); one whose data is null is skipped. The gradient of an operand shared by
/// all images (batch stride 0) has batch stride 0 itself and receives the sum over the images, in a fixed order. Gradients
/// that are added to may be the same memory. Runs on tensor cores where attention_forward() does, if the shared memory allows.
template <precision P, class T>
void attention_backward(basic_cuda<P> const& device, attention_shape const& shape, arithmetic_t<T> scale,
                        attention_operand<T const> q, attention_operand<T const> k, attention_operand<T const> v,
                        attention_operand<T const> o, arithmetic_t<T> const* lse, attention_operand<T const> d_o,
                        attention_operand<T> dq, attention_operand<T> dk, attention_operand<T> dv, bool accumulate) {
  using namespace attention_cuda;
  if (shape.batch * shape.heads * shape.head_dim == 0) return;
  gathered_gradient<T> const of_q(device, shape, shape.queries, dq, accumulate), of_k(device, shape, shape.keys, dk, accumulate),
      of_v(device, shape, shape.keys, dv, accumulate);
  backward_arguments<T> const arguments{
      q, k, v, o, d_o, lse, of_q.target(), of_k.target(), of_v.target(), scale, head_sizes(shape)};
  bool done = false;
  if constexpr (has_tensor_cores<P, T>) done = tensor_backward<T>(*device.queue, shape, arguments);
  if (!done) general_backward<P, T>(device, shape, arguments);
  for (auto const* gradient : {&of_q, &of_k, &of_v}) gradient->finish(*device.queue);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
