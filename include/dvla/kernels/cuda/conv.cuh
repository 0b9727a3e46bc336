// Channels-last convolution on CUDA and its two gradients. bfloat16, and float where products may round to tf32, go to the tensor
// cores wherever the geometry and the addresses let 16 bytes be copied at a time:
//   conv_stem     images of few channels: 7x7 and 3x3 kernels
//   conv_grouped  3x3 in groups of 16 or 24 channels
//   conv_gemm     channels that are a multiple of 16 bytes: patches, any kernel forward, without stride backward
// Everything else goes to conv_direct, which takes every geometry. (The gradient of the bias is a column sum.)
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <dvla/kernels/cuda/conv_direct.cuh>
#include <dvla/kernels/cuda/conv_direct_weight.cuh>
#include <dvla/kernels/cuda/conv_gemm.cuh>
#include <dvla/kernels/cuda/conv_gemm_weight.cuh>
#include <dvla/kernels/cuda/conv_grouped.cuh>
#include <dvla/kernels/cuda/conv_grouped_weight.cuh>
#include <dvla/kernels/cuda/conv_stem.cuh>
#include <dvla/kernels/cuda/conv_stem_weight.cuh>
#include <dvla/kernels/cuda/elementwise.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace conv {

template <class... E>
[[nodiscard]] bool aligned(E const*... operands) {
  return ((reinterpret_cast<std::uintptr_t>(operands) % 16 == 0) && ...);
}

/// Kernels count the elements of an image, of the weight, and all pixels in 31 bits.
inline void expect_countable(conv_geometry const& g) {
  constexpr std::size_t most = std::size_t{1} << 30;
  std::size_t const x = g.height * g.width, y = g.out_height() * g.out_width();
  expect(x * g.in_channels <= most && y * g.out_channels <= most && g.out_channels * g.taps() <= most &&
             g.batch * std::max(x, y) <= most,
         "CUDA convolution: ", g.batch, " images of ", g.height, " x ", g.width, " x ", g.in_channels, " to ", g.out_channels,
         " channels are more than 2^30 pixels, or elements of an image or the weight; use a smaller batch or smaller images");
}

[[nodiscard]] inline bool is_patches(conv_geometry const& g) {
  return g.groups == 1 && g.padding == 0 && g.kernel_h == g.stride && g.kernel_w == g.stride;
}
/// Whether pixels of x lie in no patch.
[[nodiscard]] inline bool has_leftover(conv_geometry const& g) {
  return g.out_height() * g.stride != g.height || g.out_width() * g.stride != g.width;
}

/// A grouped convolution, for those channels a group that there are kernels for; false for others.
template <precision P, class E, class Complete, class Finish>
[[nodiscard]] bool in_groups(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* weight, Complete const& complete,
                             Finish const& finish) {
  if (grouped_fits<24>(g)) return run_grouped<24>(device, g, x, weight, complete, finish), true;
  if (grouped_fits<16>(g)) return run_grouped<16>(device, g, x, weight, complete, finish), true;
  return false;
}
/// The same with a bias and what lies at `old` added, unless these are null.
template <precision P, class E, class Finish>
[[nodiscard]] bool in_groups(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* weight, float const* bias,
                             E const* old, Finish const& finish) {
  if (bias == nullptr && old == nullptr) return in_groups(device, g, x, weight, as_they_are{}, finish);
  return in_groups(device, g, x, weight, with_bias_and_old<E>{bias, old}, finish);
}

/// conv_forward on the tensor cores; false if none of their kernels takes the geometry.
template <precision P, class E>
[[nodiscard]] bool forward_on_tensor_cores(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* weight,
                                           float const* bias, E* y) {
  if (!aligned(y)) return false;
  if (stem_fits<stem_7x7>(g, x)) return run_stem<stem_7x7>(device, g, x, weight, bias, y), true;
  if (stem_fits<stem_3x3>(g, x)) return run_stem<stem_3x3>(device, g, x, weight, bias, y), true;
  if (!aligned(x, weight)) return false;
  if (in_groups(device, g, x, weight, bias, static_cast<E const*>(nullptr), store_image<E>{y})) return true;
  gemm_pass const pass = gemm_pass::forward(g);
  if (gemm_fits<E>(pass)) return run_gemm(device, pass, x, weight, bias, y, false), true;
  return false;
}

/// conv_backward_input on the tensor cores; false if none of their kernels takes the geometry.
template <precision P, class E>
[[nodiscard]] bool backward_input_on_tensor_cores(basic_cuda<P> const& device, conv_geometry const& g, E const* dy, E const* weight,
                                                  E* dx, bool accumulate) {
  bool const by_channel = g.stride == 1;
  if (!aligned(dy, dx) || !(by_channel || is_patches(g))) return false;
  gemm_pass const pass = by_channel ? gemm_pass::backward(g) : gemm_pass::backward_patches(g);
  if (!grouped_fits<24>(g) && !grouped_fits<16>(g) && !gemm_fits<E>(pass)) return false;
  detail::device_scratch<E> const filters(device, g.out_channels * g.taps());
  turn_filters(device, g, weight, filters.data(), by_channel);
  E const* const old = accumulate ? dx : nullptr;
  if (!in_groups(device, g, dy, static_cast<E const*>(filters.data()), nullptr, old, store_image<E>{dx}))
    run_gemm(device, pass, dy, filters.data(), nullptr, dx, accumulate);
  return true;
}

/// conv_backward_weight on the tensor cores; false if none of their kernels takes the geometry.
template <precision P, class E>
[[nodiscard]] bool backward_weight_on_tensor_cores(basic_cuda<P> const& device, conv_geometry const& g, E const* x, E const* dy,
                                                   float* dweight, bool accumulate) {
  if (!aligned(dy)) return false;
  if (stem_weight_fits<stem_7x7>(g, x)) return run_stem_weight<stem_7x7>(device, g, x, dy, dweight, accumulate), true;
  if (stem_weight_fits<stem_3x3>(g, x)) return run_stem_weight<stem_3x3>(device, g, x, dy, dweight, accumulate), true;
  if (!aligned(x)) return false;
  if (grouped_fits<24>(g)) return run_grouped_weight<24>(device, g, x, dy, dweight, accumulate), true;
  if (grouped_fits<16>(g)) return run_grouped_weight<16>(device, g, x, dy, dweight, accumulate), true;
  if (gemm_weight_fits<E>(g)) return run_gemm_weight(device, g, x, dy, dweight, accumulate), true;
  return false;
}

/// y = gelu(x), element by element.
template <precision P, class X>
void apply_gelu(basic_cuda<P> const& device, std::size_t count, X const* x, X* y) {
  using leaf = bound::elements<X, bound::inner::unit, 1>;
  evaluate<arithmetic_t<X>>(device, std::array{count}, bound::operation<op::gelu, leaf>{{leaf{x, {1}}}},
                            bound::target<X, bound::inner::unit, 1>{y, {1}});
}

/// d = d * gelu'(z), element by element.
template <precision P, class X>
void multiply_gelu_gradient(basic_cuda<P> const& device, std::size_t count, X const* z, X* d) {
  using leaf = bound::tracked_elements<X, bound::inner::unit, X, bound::inner::unit, 1, true>;
  leaf const at{{z, {1}}, {d, {1}}, bound::sink::write};
  evaluate_backward<arithmetic_t<X>>(device, std::array{count}, bound::operation<op::gelu, leaf>{{at}},
                                     bound::elements<X, bound::inner::unit, 1>{d, {1}});
}

}  // namespace conv

/// y = convolution of x with weight, plus bias (one for every output channel) unless that is null: added before y is rounded.
template <precision P, class X>
void conv_forward(basic_cuda<P> const& device, conv_geometry const& g, X const* x, std::type_identity_t<X> const* weight,
                  std::type_identity_t<arithmetic_t<X>> const* bias, std::type_identity_t<X>* y) {
  if (g.batch == 0 || g.out_channels == 0) return;
  conv::expect_countable(g);
  if constexpr (conv::on_tensor_cores<P, X>)
    if (conv::forward_on_tensor_cores(device, g, x, weight, bias, y)) return;
  conv::run_direct(device, conv::direct_pass::forward(g), x, weight, bias, y, false);
}

/// conv_forward that also stores the exact GELU of y, at `activated`; y may be null.
template <precision P, class X>
void conv_forward_gelu(basic_cuda<P> const& device, conv_geometry const& g, X const* x, std::type_identity_t<X> const* weight,
                       std::type_identity_t<arithmetic_t<X>> const* bias, std::type_identity_t<X>* y,
                       std::type_identity_t<X>* activated) {
  if (g.batch == 0 || g.out_channels == 0) return;
  if constexpr (conv::on_tensor_cores<P, X>) {
    conv::expect_countable(g);
    if (conv::aligned(x, weight, y, activated) &&
        conv::in_groups(device, g, x, weight, bias, static_cast<X const*>(nullptr), conv::store_image_gelu<X>{y, activated}))
      return;
  }
  if (y == nullptr) y = activated;
  conv_forward(device, g, x, weight, bias, y);
  conv::apply_gelu(device, g.batch * g.out_height() * g.out_width() * g.out_channels, static_cast<X const*>(y), activated);
}

/// dx = (accumulate ? dx : 0) + the gradient of x, where dy is that of y.
template <precision P, class X>
void conv_backward_input(basic_cuda<P> const& device, conv_geometry const& g, X const* dy, std::type_identity_t<X> const* weight,
                         std::type_identity_t<X>* dx, bool accumulate) {
  if (g.batch == 0 || g.in_channels == 0) return;
  conv::expect_countable(g);
  bool const patches = conv::is_patches(g);
  if (patches && conv::has_leftover(g) && !accumulate)
    cuda_check(cudaMemsetAsync(dx, 0, g.batch * g.height * g.width * g.in_channels * sizeof(X), device.stream()),
               "clearing a gradient");
  if constexpr (conv::on_tensor_cores<P, X>)
    if (conv::backward_input_on_tensor_cores(device, g, dy, weight, dx, accumulate)) return;
  if (patches)
    conv::run_direct_backward_patches(device, g, dy, weight, dx, accumulate);
  else
    conv::run_direct_backward(device, g, dy, weight, dx, accumulate);
}

/// dz = the gradient of z where the convolution's image is gelu(z) and dy is the gradient of its result.
template <precision P, class X>
requires(conv::on_tensor_cores<P, X>) void conv_backward_input_gelu(basic_cuda<P> const& device, conv_geometry const& g,
                                                                    X const* dy, std::type_identity_t<X> const* weight,
                                                                    std::type_identity_t<X> const* z, std::type_identity_t<X>* dz) {
  if (g.batch == 0 || g.in_channels == 0) return;
  conv::expect_countable(g);
  if (conv::aligned(dy, weight, z, dz) && (conv::grouped_fits<24>(g) || conv::grouped_fits<16>(g))) {
    detail::device_scratch<X> const filters(device, g.out_channels * g.taps());
    conv::turn_filters(device, g, weight, filters.data(), true);
    X const* const turned = filters.data();
    if (conv::in_groups(device, g, dy, turned, conv::as_they_are{}, conv::store_image_slope<X>{dz, z})) return;
  }
  conv_backward_input(device, g, dy, weight, dz, false);
  conv::multiply_gelu_gradient(device, g.batch * g.height * g.width * g.in_channels, z, dz);
}

/// dweight = (accumulate ? dweight : 0) + the gradient of the weight, always the same bits for the same sizes and numbers.
template <precision P, class X>
void conv_backward_weight(basic_cuda<P> const& device, conv_geometry const& g, X const* x, std::type_identity_t<X> const* dy,
                          std::type_identity_t<arithmetic_t<X>>* dweight, bool accumulate) {
  std::size_t const size = g.out_channels * g.taps();
  if (size == 0) return;
  if (g.batch == 0) {
    if (!accumulate) cuda_check(cudaMemsetAsync(dweight, 0, size * sizeof(*dweight), device.stream()), "clearing a gradient");
    return;
  }
  conv::expect_countable(g);
  if constexpr (conv::on_tensor_cores<P, X>)
    if (conv::backward_weight_on_tensor_cores(device, g, x, dy, dweight, accumulate)) return;
  conv::run_direct_weight(device, g, x, dy, dweight, accumulate);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
