// Cross-entropy of logits against class numbers or soft targets.
#pragma once

#include <span>

#include <dvla/autodiff/operand.hpp>
#include <dvla/kernels/cpu/axis.hpp>
#include <dvla/kernels/cpu/cross_entropy.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

/// The mean cross-entropy of rows; labels or targets is empty.
template <class Source, class T>
[[nodiscard]] auto cross_entropy_rows(Source const& x, std::span<std::uint32_t const> host_labels, std::span<T const> host_targets,
                                      double label_smoothing) {
  auto& context = x.context();
  std::size_t const rows = x.shape()[0], classes = x.shape()[1];
  expect(rows > 0 && classes > 0, "cross_entropy: the logits ", to_string(x.shape()), " are empty");
  auto const label_copy = upload_copy(context, host_labels);
  auto const target_copy = upload_copy(context, host_targets);
  std::uint32_t const* const labels = host_labels.empty() ? nullptr : label_copy.data_pointer();
  T const* const targets = host_targets.empty() ? nullptr : target_copy.data_pointer();
  auto const probabilities = make_variable<T>(context, x.shape());
  auto losses = make_variable<T>(context, shape<1, dyn>(rows));
  auto const smoothing = static_cast<T>(label_smoothing);
  cross_entropy_forward(context.device(), rows, classes, static_cast<T const*>(x.data_pointer()), labels, targets, smoothing,
                        losses.data_pointer(), probabilities.data_pointer());
  auto y = make_variable<T>(context, shape<>{});
  axis_sum(context.device(), 1, rows, 1, static_cast<T const*>(losses.data_pointer()), T(1) / static_cast<T>(rows), y.data_pointer());
  if (recorded(context, x)) {
    if constexpr (std::remove_reference_t<decltype(context)>::records)
      context.record(y.cell(), [&context, rows, classes, labels, targets, label_copy, target_copy, smoothing, probabilities, losses, to = x.gradient_only()](T const* dy) {
        auto const dx = to.add_gradient();
        T* const scale = losses.data_pointer();  // no longer needed as losses
        axis_broadcast(context.device(), 1, rows, 1, dy, T(1) / static_cast<T>(rows), scale, false);
        cross_entropy_backward(context.device(), rows, classes, static_cast<T const*>(probabilities.data_pointer()), labels, targets, smoothing,
                               static_cast<T const*>(scale), dx.data, dx.accumulate);
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
  expect(labels.size() == x.shape()[0], "cross_entropy: ", labels.size(), " labels for logits ", to_string(x.shape()));
  for (std::uint32_t const label : labels)
    expect(label < x.shape()[1], "cross_entropy: label ", label, " for ", x.shape()[1], " classes; labels count from 0");
  return detail::cross_entropy_rows<std::remove_cvref_t<decltype(x)>, T>(x, labels, {}, label_smoothing);
}

/// Mean cross-entropy of logits (B, C) against soft targets (B, C) in host memory.
template <detail::differentiable X, class T, class S>
[[nodiscard]] auto cross_entropy(X const& logits, view<T, S> const& targets, double label_smoothing = 0) {
  auto const x = detail::input(logits);
  using element = typename std::remove_cvref_t<decltype(x)>::value_type;
  static_assert(std::is_same_v<std::remove_const_t<T>, element>, "cross_entropy: logits and targets mix float and double");
  detail::expect_extent("cross_entropy", x.shape(), 0, targets.extents, 0);
  detail::expect_extent("cross_entropy", x.shape(), 1, targets.extents, 1);
  return detail::cross_entropy_rows<std::remove_cvref_t<decltype(x)>, element>(x, {}, {targets.data, targets.size()}, label_smoothing);
}
template <detail::differentiable X, class T, class S>
[[nodiscard]] auto cross_entropy(X const& logits, tensor<T, S> const& targets, double label_smoothing = 0) {
  return cross_entropy(logits, targets.view_of(), label_smoothing);
}

}  // namespace dvla::inline DVLA_ABI
