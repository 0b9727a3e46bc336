// Numbers of another element type: what enters a network that stores its activations as bfloat16.
#pragma once

#include <dvla/autodiff/operand.hpp>

namespace dvla::inline DVLA_ABI {

/// The same numbers as elements of To; a gradient flows back in x's own type. No copy where they are of that type already.
template <class To, detail::differentiable X>
[[nodiscard]] auto convert(X const& input_x) {
  auto const x = detail::input(input_x);
  using From = typename std::remove_cvref_t<decltype(x)>::value_type;
  if constexpr (std::is_same_v<From, To>) {
    return x;
  } else {
    auto& context = x.context();
    auto y = make_variable<To>(context, x.shape());
    convert(context.device(), x.size(), static_cast<From const*>(x.data_pointer()), y.data_pointer(), false);
    if (recorded(context, x)) {
      if constexpr (std::remove_reference_t<decltype(context)>::records)
        context.record(y.cell(), [&context, to = x.gradient_only()](To const* dy) {
          auto const dx = to.add_gradient();
          convert(context.device(), to.size(), dy, dx.data, dx.accumulate);
        });
    }
    return y;
  }
}

/// x as its device stores activations: bfloat16 on a device of that precision, unchanged elsewhere.
template <detail::differentiable X>
[[nodiscard]] auto as_activations(X const& x) {
  using T = detail::element_of<X>;
  using device = typename std::remove_cvref_t<decltype(detail::input(x))>::context_type::device_type;
  return convert<typename device::template stored<T>>(x);
}

}  // namespace dvla::inline DVLA_ABI
