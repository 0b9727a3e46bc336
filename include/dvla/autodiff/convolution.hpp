// Convolution of images (B, H, W, C), channels last.
#pragma once

#include <dvla/autodiff/operand.hpp>
#include <dvla/kernels/cpu/conv.hpp>
#include <dvla/kernels/cpu/reduce.hpp>

namespace dvla::inline DVLA_ABI {
namespace op {
struct convolution {};
}  // namespace op

/// How a convolution steps over its input.
struct convolution_options {
  std::size_t stride = 1, padding = 0, groups = 1;
};

namespace detail {

/// The extent of an output axis; an input smaller than the kernel has none.
[[nodiscard]] constexpr std::size_t convolved(std::size_t extent, std::size_t kernel, convolution_options o) {
  if (extent == dyn) return dyn;
  return extent + 2 * o.padding < kernel ? 0 : (extent + 2 * o.padding - kernel) / o.stride + 1;
}

}  // namespace detail

/// Convolution of x (B, H, W, I) with weight (O, kh, kw, I / groups), zero padding: (B, H', W', O), extents rounded down.
template <convolution_options Options, class X, class W>
[[nodiscard]] auto convolution(X const& image, W const& kernel) {
  auto const x = detail::input(image);
  auto const w = detail::input(kernel);
  using SX = typename std::remove_cvref_t<decltype(x)>::shape_type;
  using SW = typename std::remove_cvref_t<decltype(w)>::shape_type;
  using T = typename std::remove_cvref_t<decltype(x)>::value_type;
  static_assert(SX::rank == 4 && SW::rank == 4, "convolution: the image is (B, H, W, C) and the weight (O, kh, kw, C / groups)");
  constexpr std::size_t in = SX::statics[3], per_group = SW::statics[3], out = SW::statics[0];
  detail::require_fit<in == dyn || per_group == dyn || in == per_group * Options.groups, op::convolution, SX, SW>();
  auto const& s = x.shape();
  auto const& k = w.shape();
  expect(s[3] == k[3] * Options.groups && k[0] % Options.groups == 0, "convolution: image ", to_string(s), ", weight ", to_string(k),
         " and ", Options.groups, " groups do not fit; the weight must be (O, kh, kw, C / groups) with O divisible by groups");
  expect(s[1] + 2 * Options.padding >= k[1] && s[2] + 2 * Options.padding >= k[2], "convolution: the image ", to_string(s),
         " is smaller than the kernel of weight ", to_string(k), "; use larger images or a smaller kernel");
  using result = shape<SX::statics[0], detail::convolved(SX::statics[1], SW::statics[1], Options),
                       detail::convolved(SX::statics[2], SW::statics[2], Options), out>;
  kernels::conv_geometry const g{s[0], s[1], s[2], s[3], k[0], k[1], k[2], Options.stride, Options.padding, Options.groups};
  auto& context = x.context();
  auto y = make_variable<T>(context, result(s[0], detail::convolved(s[1], k[1], Options), detail::convolved(s[2], k[2], Options), k[0]));
  conv_forward(context.device(), g, static_cast<T const*>(x.data_pointer()), static_cast<T const*>(w.data_pointer()),
               static_cast<T const*>(nullptr), y.data_pointer());
  if (recorded(context, x, w)) {
    if constexpr (std::remove_reference_t<decltype(context)>::records)
      context.record(y.cell(), [&context, g, x, w](T const* dy) {
        if (auto const dw = w.add_gradient())
          conv_backward_weight(context.device(), g, static_cast<T const*>(x.data_pointer()), dy, dw.data, dw.accumulate);
        if (auto const dx = x.add_gradient())
          conv_backward_input(context.device(), g, dy, static_cast<T const*>(w.data_pointer()), dx.data, dx.accumulate);
      });
  }
  return y;
}

}  // namespace dvla::inline DVLA_ABI
