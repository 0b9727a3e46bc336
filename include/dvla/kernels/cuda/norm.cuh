// Batch normalisation over the rows of x [rows, channels], and its gradients. Layer normalisation is included beside it.
#pragma once

#include <cstddef>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/cuda/column_sums.cuh>
#include <dvla/kernels/cuda/column_walk.cuh>
#include <dvla/kernels/cuda/layer_norm.cuh>
#include <dvla/kernels/cuda/moments.cuh>
#include <dvla/kernels/cuda/norm_bodies.cuh>
#include <dvla/kernels/cuda/norm_whole.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// Mean and biased variance of each channel over the rows. Digits are kept where |mean| >> standard deviation.
template <precision P, class X>
void batch_norm_statistics(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, arithmetic_t<X>* mean,
                           arithmetic_t<X>* variance) {
  constexpr int n = packet_of<X>;
  if (rows == 0 || channels == 0) return;
  batch_norms::statistics_finish<X> const finish{x, mean, variance, rows};
  if (channels % n == 0 && allows_packets<n>(x))
    column_sums::launch_moments<n>(device, rows, channels, x, finish);
  else
    column_sums::launch_moments<1>(device, rows, channels, x, finish);
}

/// The statistics of a batch, mean and 1 / std, towards which the running ones move.
template <precision P, class X>
void batch_norm_observe(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, arithmetic_t<X> eps,
                        double momentum, arithmetic_t<X>* mean, arithmetic_t<X>* inverse_std, arithmetic_t<X>* running_mean,
                        arithmetic_t<X>* running_variance) {
  constexpr int n = packet_of<X>;
  batch_norms::observe_finish<X> const finish{x, mean, inverse_std, running_mean, running_variance, rows, momentum, eps};
  if (channels % n == 0 && allows_packets<n>(x))
    column_sums::launch_moments<n>(device, rows, channels, x, finish);
  else
    column_sums::launch_moments<1>(device, rows, channels, x, finish);
}

/// y = (x - mean) * inverse_std * weight + bias, the last four [channels], or the activation of that. y may be x.
template <batch_norms::activation A = batch_norms::activation::none, precision P, class X>
void batch_norm_apply(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, arithmetic_t<X> const* mean,
                      arithmetic_t<X> const* inverse_std, arithmetic_t<X> const* weight, arithmetic_t<X> const* bias, X* y) {
  column_walks::over_columns<packet_of<X>>(device, 1, rows, channels,
                                           batch_norms::apply_body<X, A>{channels, x, mean, inverse_std, weight, bias, y},
                                           "applying a batch normalisation", x, y);
}

/// batch_norm_observe and, with its statistics, batch_norm_apply: in one kernel where rows are whole packets and x is at most
/// batch_norms::whole_bytes, or of floats whole_bytes_of_large. y may be x.
template <batch_norms::activation A = batch_norms::activation::none, precision P, class X>
void batch_norm_forward(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, arithmetic_t<X> eps,
                        double momentum, arithmetic_t<X>* mean, arithmetic_t<X>* inverse_std, arithmetic_t<X>* running_mean,
                        arithmetic_t<X>* running_variance, arithmetic_t<X> const* weight, arithmetic_t<X> const* bias, X* y) {
  batch_norms::whole_forward<X, A> const pass{{channels, x, mean, inverse_std, weight, bias, y},
                                              {x, mean, inverse_std, running_mean, running_variance, rows, momentum, eps}};
  if (batch_norms::run_whole(device, rows, channels, pass, "running a batch normalisation", x, y)) return;
  batch_norm_observe(device, rows, channels, x, eps, momentum, mean, inverse_std, running_mean, running_variance);
  batch_norm_apply<A>(device, rows, channels, x, mean, inverse_std, weight, bias, y);
}

/// Gradients of batch normalisation. With batch statistics, mean and inverse_std depend on x (training); without, they are
/// constants (evaluation). dx [rows, channels], dweight and dbias [channels] may be null; each group is added to on request.
/// bias is read for an activation alone.
template <batch_norms::activation A = batch_norms::activation::none, precision P, class X>
void batch_norm_backward(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, X const* dy,
                         arithmetic_t<X> const* mean, arithmetic_t<X> const* inverse_std, arithmetic_t<X> const* weight,
                         std::type_identity_t<X>* dx, arithmetic_t<X>* dweight, arithmetic_t<X>* dbias, bool accumulate_dx,
                         bool accumulate_parameters, bool use_batch_statistics, arithmetic_t<X> const* bias = nullptr) {
  using number = arithmetic_t<X>;
  constexpr int n = packet_of<X>;
  bool const tilted = use_batch_statistics && dx != nullptr;
  batch_norms::gradient_terms<X, A> const terms{channels, x, dy, mean, inverse_std, weight, bias};
  if (tilted) {
    batch_norms::whole_backward<X, A> const pass{
        terms,
        {inverse_std, weight, dweight, dbias, nullptr, nullptr, rows, accumulate_parameters},
        {channels, x, dy, mean, inverse_std, weight, bias, nullptr, nullptr, dx, accumulate_dx}};
    if (batch_norms::run_whole(device, rows, channels, pass, "computing the gradients of a batch normalisation", x, dy, dx)) return;
  }
  detail::device_scratch<number> const coefficients(device, 2 * channels);
  number* const offset = tilted ? coefficients.data() : nullptr;
  number* const tilt = tilted ? offset + channels : nullptr;
  if (tilted || dweight != nullptr || dbias != nullptr)
    column_sums::over_columns<n>(
        device, 1, rows, channels, terms,
        batch_norms::gradient_finish<number>{inverse_std, weight, dweight, dbias, offset, tilt, rows, accumulate_parameters},
        "summing the gradients of a batch normalisation", x, dy);
  if (dx == nullptr) return;
  column_walks::over_columns<n>(
      device, 1, rows, channels,
      batch_norms::input_gradient_body<X, A>{channels, x, dy, mean, inverse_std, weight, bias, offset, tilt, dx, accumulate_dx},
      "computing the gradient of a batch normalisation", x, dy, dx);
}

/// relu of batch_norm_forward's y in the same pass.
template <precision P, class X, class... Rest>
void batch_norm_forward_relu(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, Rest... rest) {
  batch_norm_forward<batch_norms::activation::relu>(device, rows, channels, x, rest...);
}

/// relu of batch_norm_apply's y in the same pass.
template <precision P, class X, class... Rest>
void batch_norm_apply_relu(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, Rest... rest) {
  batch_norm_apply<batch_norms::activation::relu>(device, rows, channels, x, rest...);
}

/// batch_norm_backward from the gradient of that relu.
template <precision P, class X, class... Rest>
void batch_norm_backward_relu(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, Rest... rest) {
  batch_norm_backward<batch_norms::activation::relu>(device, rows, channels, x, rest...);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
