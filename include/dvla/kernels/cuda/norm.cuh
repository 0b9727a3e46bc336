// Batch normalisation over the rows of x [rows, channels], and its gradients. Layer normalisation is included beside it.
#pragma once

#include <cstddef>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/batch_rows.hpp>
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

/// batch_norm_observe and, with its statistics, batch_norm_apply, part by part; mean and inverse_std are [parts, channels]. In one
/// kernel where rows are whole packets and x is at most batch_norms::whole_bytes, or of floats whole_bytes_of_large. y may be x.
template <batch_norms::activation A = batch_norms::activation::none, precision P, class X>
void batch_norm_forward(basic_cuda<P> const& device, batch_rows rows, std::size_t channels, X const* x, arithmetic_t<X> eps,
                        double momentum, arithmetic_t<X>* mean, arithmetic_t<X>* inverse_std, arithmetic_t<X>* running_mean,
                        arithmetic_t<X>* running_variance, arithmetic_t<X> const* weight, arithmetic_t<X> const* bias, X* y) {
  auto const pass_of = [&](std::size_t part) {
    std::size_t const at = rows.first(part) * channels, column = part * channels;
    return batch_norms::whole_forward<X, A>{
        {channels, x + at, mean + column, inverse_std + column, weight, bias, y + at},
        {x + at, mean + column, inverse_std + column, running_mean, running_variance, rows.of(part), momentum, eps}};
  };
  if (batch_norms::run_whole(device, rows, channels, pass_of, "running a batch normalisation", x, y)) return;
  if (rows.parts() == 1) {
    batch_norm_observe(device, rows.all, channels, x, eps, momentum, mean, inverse_std, running_mean, running_variance);
    batch_norm_apply<A>(device, rows.all, channels, x, mean, inverse_std, weight, bias, y);
    return;
  }
  for (std::size_t part = 0; part < 2; ++part) {
    auto const [apply, finish] = pass_of(part);
    batch_norm_forward<A>(device, finish.rows, channels, apply.x, eps, momentum, finish.mean, finish.inverse_std, running_mean,
                          running_variance, weight, bias, apply.y);
  }
}

/// Gradients of batch normalisation. With batch statistics, mean and inverse_std depend on x (training); without, they are
/// constants (evaluation); both are [parts, channels]. dx [rows, channels], dweight and dbias [channels] may be null; each group is
/// added to on request. bias is read for an activation alone.
template <batch_norms::activation A = batch_norms::activation::none, precision P, class X>
void batch_norm_backward(basic_cuda<P> const& device, batch_rows rows, std::size_t channels, X const* x, X const* dy,
                         arithmetic_t<X> const* mean, arithmetic_t<X> const* inverse_std, arithmetic_t<X> const* weight,
                         std::type_identity_t<X>* dx, arithmetic_t<X>* dweight, arithmetic_t<X>* dbias, bool accumulate_dx,
                         bool accumulate_parameters, bool use_batch_statistics, arithmetic_t<X> const* bias = nullptr) {
  auto const pass_of = [&](std::size_t part) {
    std::size_t const at = rows.first(part) * channels;
    auto const* const m = mean + part * channels;
    auto const* const s = inverse_std + part * channels;
    return batch_norms::whole_backward<X, A>{
        {channels, x + at, dy + at, m, s, weight, bias},
        {s, weight, dweight, dbias, nullptr, nullptr, rows.of(part), accumulate_parameters || part > 0},
        {channels, x + at, dy + at, m, s, weight, bias, nullptr, nullptr, dx == nullptr ? dx : dx + at, accumulate_dx}};
  };
  bool const tilted = use_batch_statistics && dx != nullptr;
  if (tilted && batch_norms::run_whole(device, rows, channels, pass_of, "computing the gradients of a batch normalisation", x, dy, dx))
    return;
  if (rows.parts() == 2) {
    for (std::size_t part = 0; part < 2; ++part) {
      auto const [terms, finish, body] = pass_of(part);
      batch_norm_backward<A>(device, finish.rows, channels, terms.x, terms.dy, terms.mean, terms.inverse_std, weight, body.dx, dweight,
                             dbias, accumulate_dx, finish.accumulate, use_batch_statistics, bias);
    }
    return;
  }
  constexpr int n = packet_of<X>;
  auto [terms, finish, body] = pass_of(0);
  detail::device_scratch<arithmetic_t<X>> const coefficients(device, 2 * channels);
  if (tilted) {
    body.offset = finish.offset = coefficients.data();
    body.tilt = finish.tilt = coefficients.data() + channels;
  }
  if (tilted || dweight != nullptr || dbias != nullptr)
    column_sums::over_columns<n>(device, 1, rows.all, channels, terms, finish, "summing the gradients of a batch normalisation", x, dy);
  if (dx != nullptr)
    column_walks::over_columns<n>(device, 1, rows.all, channels, body, "computing the gradient of a batch normalisation", x, dy, dx);
}

/// relu of batch_norm_forward's y in the same pass.
template <precision P, class X, class... Rest>
void batch_norm_forward_relu(basic_cuda<P> const& device, batch_rows rows, std::size_t channels, X const* x, Rest... rest) {
  batch_norm_forward<batch_norms::activation::relu>(device, rows, channels, x, rest...);
}

/// relu of batch_norm_apply's y in the same pass.
template <precision P, class X, class... Rest>
void batch_norm_apply_relu(basic_cuda<P> const& device, std::size_t rows, std::size_t channels, X const* x, Rest... rest) {
  batch_norm_apply<batch_norms::activation::relu>(device, rows, channels, x, rest...);
}

/// batch_norm_backward from the gradient of that relu.
template <precision P, class X, class... Rest>
void batch_norm_backward_relu(basic_cuda<P> const& device, batch_rows rows, std::size_t channels, X const* x, Rest... rest) {
  batch_norm_backward<batch_norms::activation::relu>(device, rows, channels, x, rest...);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
