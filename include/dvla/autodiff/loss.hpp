// Cross-entropy of logits against class numbers or soft targets.
#pragma once

#include <span>

#include <dvla/autodiff/operand.hpp>
#include <dvla/kernels/cpu/axis.hpp>
#include <dvla/kernels/cpu/cross_entropy.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

/// The mean cross-entropy of rows against class numbers or soft targets on the device, of which one is null; `kept` holds on to
/// their memory.
template <class Source, class T, class Kept>
[[nodiscard]] auto cross_entropy_rows(Source const& x, std::uint32_t const* labels, T const* targets, double label_smoothing,
                                      Kept const& kept) {
  auto& context = x.context();
  std::size_t const rows = x.shape()[0], classes = x.shape()[1];
  expect(rows > 0 && classes > 0, "cross_entropy: the logits ", x.shape(), " are empty");
  auto const probabilities = make_variable<T>(context, x.shape());
  auto losses = make_variable<T>(context, shape<1, dyn>(rows));
  auto const smoothing = static_cast<T>(label_smoothing);
  cross_entropy_forward(context.device(), rows, classes, static_cast<T const*>(x.data_pointer()), labels, targets, smoothing,
                        losses.data_pointer(), probabilities.data_pointer());
  auto y = make_variable<T>(context, shape<>{});
  axis_sum(context.device(), 1, rows, 1, static_cast<T const*>(losses.data_pointer()), T(1) / static_cast<T>(rows), y.data_pointer());
  if (recorded(context, x)) {
    if constexpr (std::remove_reference_t<decltype(context)>::records)
      context.record(y.cell(), [&context, rows, classes, labels, targets, kept, smoothing, probabilities, losses,
                                to = x.gradient_only()](T const* dy) {
        static_cast<void>(kept);  // clang: a capture that only holds on to memory
        auto const dx = to.add_gradient();
        T* const scale = losses.data_pointer();  // no longer needed as losses
        axis_broadcast(context.device(), 1, rows, 1, dy, T(1) / static_cast<T>(rows), scale, false);
        cross_entropy_backward(context.device(), rows, classes, static_cast<T const*>(probabilities.data_pointer()), labels, targets,
                               smoothing, static_cast<T const*>(scale), dx.data, dx.accumulate);
      });
  }
  return y;
}

}  // namespace detail

/// Mean cross-entropy of logits (B, C) against class numbers. With label smoothing s the target is (1 - s) at the label plus
/// s / C everywhere. A label that is not below C throws.
template <detail::differentiable X>
[[nodiscard]] auto cross_entropy(X const& logits, std::span<std::uint32_t const> labels, double label_smoothing = 0) {
  auto const x = detail::input(logits);
  using T = typename std::remove_cvref_t<decltype(x)>::value_type;
  static_assert(std::remove_cvref_t<decltype(x)>::rank == 2, "cross_entropy: logits are (batch, classes)");
  expect(labels.size() == x.shape()[0], "cross_entropy: ", labels.size(), " labels for logits ", x.shape());
  for (std::uint32_t const label : labels)
    expect(label < x.shape()[1], "cross_entropy: label ", label, " for ", x.shape()[1], " classes; labels count from 0");
  auto const copy = upload_copy(x.context(), labels);
  return detail::cross_entropy_rows(x, copy.data_pointer(), static_cast<T const*>(nullptr), label_smoothing, copy);
}

/// The same with class numbers in the memory of the context's device, which must outlive the recording; they are not checked.
template <detail::differentiable X>
[[nodiscard]] auto cross_entropy(X const& logits, std::uint32_t const* labels, double label_smoothing = 0) {
  auto const x = detail::input(logits);
  using T = typename std::remove_cvref_t<decltype(x)>::value_type;
  static_assert(std::remove_cvref_t<decltype(x)>::rank == 2, "cross_entropy: logits are (batch, classes)");
  return detail::cross_entropy_rows(x, labels, static_cast<T const*>(nullptr), label_smoothing, nullptr);
}

/// Mean cross-entropy of logits (B, C) against soft targets (B, C), in host memory or in that of the context's device; the
/// latter must outlive the recording.
template <detail::differentiable X, class T, class S, class D>
[[nodiscard]] auto cross_entropy(X const& logits, view<T, S, contiguous, D> const& targets, double label_smoothing = 0) {
  auto const x = detail::input(logits);
  using element = typename std::remove_cvref_t<decltype(x)>::value_type;
  static_assert(std::is_same_v<std::remove_const_t<T>, element>, "cross_entropy: logits and targets mix float and double");
  detail::expect_extent("cross_entropy", x.shape(), 0, targets.extents, 0);
  detail::expect_extent("cross_entropy", x.shape(), 1, targets.extents, 1);
  constexpr std::uint32_t const* no_labels = nullptr;
  if constexpr (D::is_host) {
    auto const copy = upload_copy(x.context(), std::span<element const>(targets.data, targets.size()));
    return detail::cross_entropy_rows(x, no_labels, static_cast<element const*>(copy.data_pointer()), label_smoothing, copy);
  } else {
    return detail::cross_entropy_rows(x, no_labels, static_cast<element const*>(targets.data), label_smoothing, nullptr);
  }
}
template <detail::differentiable X, class T, class S, class D>
[[nodiscard]] auto cross_entropy(X const& logits, tensor<T, S, D> const& targets, double label_smoothing = 0) {
  return cross_entropy(logits, targets.view_of(), label_smoothing);
}

}  // namespace dvla::inline DVLA_ABI
