// Max-pooling of images (B, H, W, C), channels last.
#pragma once

#include <dvla/autodiff/operand.hpp>
#include <dvla/kernels/cpu/pooling.hpp>

namespace dvla::inline DVLA_ABI {

/// The largest element of each Size x Size window, windows side by side: x (B, H, W, C) to (B, H / Size, W / Size, C), rounded
/// down. The gradient goes to the first of equal elements.
template <std::size_t Size, detail::differentiable X>
[[nodiscard]] auto max_pool2d(X const& image) {
  static_assert(Size >= 1 && Size * Size <= 256, "max_pool2d: windows of 1x1 to 16x16");
  auto const x = detail::input(image);
  using S = typename std::remove_cvref_t<decltype(x)>::shape_type;
  using T = typename std::remove_cvref_t<decltype(x)>::value_type;
  static_assert(S::rank == 4, "max_pool2d: the image is (B, H, W, C)");
  constexpr auto pooled = [](std::size_t extent) { return extent == dyn ? dyn : extent / Size; };
  auto const& s = x.shape();
  expect(s[1] >= Size && s[2] >= Size, "max_pool2d: the image ", s, " is smaller than a window of ", Size, "x", Size);
  kernels::pool_geometry const g{s[0], s[1], s[2], s[3], Size};
  auto& context = x.context();
  using result = shape<S::statics[0], pooled(S::statics[1]), pooled(S::statics[2]), S::statics[3]>;
  auto y = make_variable<T>(context, result(s[0], g.out_height(), g.out_width(), s[3]));
  auto const place = make_variable<std::uint8_t>(context, shape<dyn>(y.size()));
  max_pool_forward(context.device(), g, static_cast<T const*>(x.data_pointer()), y.data_pointer(), place.data_pointer());
  if (recorded(context, x)) {
    if constexpr (std::remove_reference_t<decltype(context)>::records)
      context.record(y.cell(), [&context, g, place, to = x.gradient_only()](T const* dy) {
        auto const dx = to.add_gradient();
        max_pool_backward(context.device(), g, dy, static_cast<std::uint8_t const*>(place.data_pointer()), dx.data, dx.accumulate);
      });
  }
  return y;
}

}  // namespace dvla::inline DVLA_ABI
