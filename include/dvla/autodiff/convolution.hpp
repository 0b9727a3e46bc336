// Convolution of images (B, H, W, C), channels last.
#pragma once

#include <optional>

#include <dvla/autodiff/operand.hpp>
#include <dvla/autodiff/weight_gradient.hpp>
#include <dvla/expr/functions.hpp>
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

namespace detail {

/// Stands for a bias that is not there.
struct no_bias {
  [[nodiscard]] static constexpr bool wants_gradient() { return false; }
};

/// Where x is the GELU of a variable z and neither has a gradient yet: the gradient of z in one pass, on a device that has one.
template <class Device, class X, class W, class T>
[[nodiscard]] bool convolve_backward_through_gelu(Device const& device, kernels::conv_geometry const& g, X const& x, W const& w,
                                                  T const* dy) {
  if constexpr (is_variable<X> && requires(T* dz) { conv_backward_input_gelu(device, g, dy, dy, dy, dz); }) {
    auto* const z = x.cell()->gelu_of;
    if (z == nullptr || x.cell()->has_gradient || z->has_gradient) return false;
    auto const dz = add_gradient(*z);
    if (!dz) return false;
    conv_backward_input_gelu(device, g, dy, read_as<T>(w), static_cast<T const*>(z->value), dz.data);
    return true;
  }
  return false;
}

/// Records h = gelu(z), of which the value is there already.
template <class T, class S, class C>
void record_gelu(variable<T, S, C> const& z, variable<T, S, C> const& h) {
  if constexpr (C::records) {
    if (!recorded(z.context(), z)) return;
    auto const expression = gelu(z);
    z.context().record(h.cell(), [&context = z.context(), extents = z.shape(), kept = keep<false>(expression)](T const* dy) {
      backward_loop<arithmetic_t<T>, true>(context, extents, kept, view<T const, S>(dy, extents));
    });
    mark_gelu(h, expression);
  }
}

/// The convolution, or with Gelu its GELU.
template <convolution_options Options, bool Gelu = false, class X, class W, class B>
[[nodiscard]] auto convolve(X const& x, W const& w, B const& b) {
  using SX = typename std::remove_cvref_t<decltype(x)>::shape_type;
  using SW = typename std::remove_cvref_t<decltype(w)>::shape_type;
  using T = typename std::remove_cvref_t<decltype(x)>::value_type;
  static_assert(SX::rank == 4 && SW::rank == 4, "convolution: the image is (B, H, W, C) and the weight (O, kh, kw, C / groups)");
  constexpr std::size_t in = SX::statics[3], per_group = SW::statics[3], out = SW::statics[0];
  detail::require_fit<in == dyn || per_group == dyn || in == per_group * Options.groups, op::convolution, SX, SW>();
  auto const& s = x.shape();
  auto const& k = w.shape();
  expect(s[3] == k[3] * Options.groups && k[0] % Options.groups == 0, "convolution: image ", s, ", weight ", k,
         " and ", Options.groups, " groups do not fit; the weight must be (O, kh, kw, C / groups) with O divisible by groups");
  expect(s[1] + 2 * Options.padding >= k[1] && s[2] + 2 * Options.padding >= k[2], "convolution: the image ", s,
         " is smaller than the kernel of weight ", k, "; use larger images or a smaller kernel");
  using result = shape<SX::statics[0], detail::convolved(SX::statics[1], SW::statics[1], Options),
                       detail::convolved(SX::statics[2], SW::statics[2], Options), out>;
  kernels::conv_geometry const g{s[0], s[1], s[2], s[3], k[0], k[1], k[2], Options.stride, Options.padding, Options.groups};
  arithmetic_t<T> const* bias = nullptr;
  if constexpr (!std::is_same_v<B, no_bias>) {
    static_assert(B::shape_type::rank == 1, "convolution: the bias has one element an output channel");
    detail::expect_extent("convolution", b.shape(), 0, k, 0);
    bias = b.data_pointer();
  }
  auto& context = x.context();
  bool const keep = recorded(context, x, w, b);
  auto y = make_variable<T>(context, result(s[0], detail::convolved(s[1], k[1], Options), detail::convolved(s[2], k[2], Options), k[0]));
  std::optional<decltype(y)> h;
  if constexpr (Gelu && requires(T* z) { conv_forward_gelu(context.device(), g, z, z, bias, z, z); }) {
    auto const run = [&](T* before, T* activated) {
      conv_forward_gelu(context.device(), g, static_cast<T const*>(x.data_pointer()), read_as<T>(w), bias, before, activated);
    };
    if (!keep) return run(nullptr, y.data_pointer()), y;
    h.emplace(make_variable<T>(context, y.shape()));
    run(y.data_pointer(), h->data_pointer());
  } else {
    conv_forward(context.device(), g, static_cast<T const*>(x.data_pointer()), read_as<T>(w), bias, y.data_pointer());
  }
  if constexpr (std::remove_reference_t<decltype(context)>::records) {
    if (keep)
      context.record(y.cell(), [&context, g, x, w, b](detail::cell<T>& cell) {
        static_cast<void>(b);  // clang: a capture that is not used without a bias
        T const* const dy = cell.gradient;
        add_weight_gradient(
            context, w, cell,
            [&](auto const& on, auto const& dw) {
              conv_backward_weight(on, g, static_cast<T const*>(x.data_pointer()), dy, dw.data, dw.accumulate);
            },
            x, detail::cell_reference<T, false>(&cell));
        if constexpr (!std::is_same_v<B, no_bias>) {
          if (auto const db = b.add_gradient())
            column_sum(context.device(), g.batch * g.out_height() * g.out_width(), g.out_channels, dy, db.data, db.accumulate);
        }
        if (!x.wants_gradient() || !convolve_backward_through_gelu(context.device(), g, x, w, dy))
          if (auto const dx = x.add_gradient())
            conv_backward_input(context.device(), g, dy, read_as<T>(w), dx.data, dx.accumulate);
      });
  }
  if constexpr (Gelu) {
    if (!h) return evaluate(gelu(y));
    record_gelu(y, *h);
    return *h;
  } else {
    return y;
  }
}

}  // namespace detail

/// Convolution of x (B, H, W, I) with weight (O, kh, kw, I / groups), zero padding: (B, H', W', O), extents rounded down.
template <convolution_options Options, class X, class W>
[[nodiscard]] auto convolution(X const& image, W const& kernel) {
  return detail::convolve<Options>(detail::input(image), detail::input(kernel), detail::no_bias{});
}

/// The same plus a bias (O).
template <convolution_options Options, class X, class W, class B>
[[nodiscard]] auto convolution(X const& image, W const& kernel, B const& bias) {
  return detail::convolve<Options>(detail::input(image), detail::input(kernel), detail::input(bias));
}

/// gelu(convolution<Options>(image, kernel)), in one pass where the device has one.
template <convolution_options Options, class X, class W>
[[nodiscard]] auto convolution_gelu(X const& image, W const& kernel) {
  return detail::convolve<Options, true>(detail::input(image), detail::input(kernel), detail::no_bias{});
}

}  // namespace dvla::inline DVLA_ABI
