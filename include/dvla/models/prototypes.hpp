// Class prototypes and the cosine classifier (Snell et al., arXiv 1703.05175, with unit features).
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include <dvla/autodiff/matmul.hpp>
#include <dvla/autodiff/reduction.hpp>
#include <dvla/expr/functions.hpp>
#include <dvla/kernels/cpu/classification.hpp>

namespace dvla::inline DVLA_ABI {

/// Rows of unit length: x / |x|, a row shorter than 1e-12 divided by that.
template <class X>
[[nodiscard]] auto unit(X const& input_x) {
  auto const x = detail::input(input_x);
  return evaluate(x * rsqrt(maximum(sum(square(x)), 1e-24)));
}

/// Unit mean of the unit features of each class; features (way * shot, F), class by class: (way, F).
template <class X>
[[nodiscard]] auto prototypes(X const& features, std::size_t way) {
  using S = typename X::shape_type;
  expect(way > 0 && features.shape()[0] % way == 0, "prototypes: ", features.shape()[0], " support features cannot be shared evenly by ", way,
         " classes");
  constexpr std::size_t width = S::statics[1];
  return unit(mean<1>(reshape(unit(features), shape<dyn, dyn, width>(way, features.shape()[0] / way, features.shape()[1]))));
}

/// cos(feature, prototype) / temperature: (Q, way).
template <class X, class P>
[[nodiscard]] auto cosine_logits(X const& features, P const& class_prototypes, double temperature) {
  return evaluate(matmul(unit(features), transpose(class_prototypes)) * (1 / temperature));
}

/// For every row the position of its largest element; the first one wins ties.
template <class X>
[[nodiscard]] std::vector<std::uint32_t> argmax_rows(X const& logits) {
  using T = typename X::value_type;
  std::size_t const rows = logits.shape()[0], columns = logits.shape()[1];
  std::vector<T> host(logits.size());
  download(logits.context().device(), host.size(), static_cast<T const*>(logits.data_pointer()), host.data());
  std::vector<std::uint32_t> best(rows, 0);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 1; c < columns; ++c)
      if (host[r * columns + c] > host[r * columns + best[r]]) best[r] = static_cast<std::uint32_t>(c);
  return best;
}

/// The share of rows whose largest logit is at their label, as a scalar; labels in the memory of the context's device.
template <class T, class S, class C>
[[nodiscard]] variable<T, shape<>, C> accuracy_at(variable<T, S, C> const& logits, std::uint32_t const* labels) {
  auto const share = make_variable<T>(logits.context(), shape<>{});
  share_correct(logits.context().device(), logits.shape()[0], logits.shape()[1], static_cast<T const*>(logits.data_pointer()), labels,
                share.data_pointer());
  return share;
}

/// A share of `count` things as the nearest one that is a whole number of them: undoes its rounding to float.
[[nodiscard]] inline double exact_share(double share, std::size_t count) {
  return std::round(share * static_cast<double>(count)) / static_cast<double>(count);
}

/// The mean over rows of the element at the row's label, as a scalar; labels in the memory of the context's device.
template <class T, class S, class C>
[[nodiscard]] variable<T, shape<>, C> mean_at(variable<T, S, C> const& x, std::uint32_t const* labels) {
  auto const mean = make_variable<T>(x.context(), shape<>{});
  mean_at_label(x.context().device(), x.shape()[0], x.shape()[1], static_cast<T const*>(x.data_pointer()), labels, mean.data_pointer());
  return mean;
}

/// The share of rows whose largest logit is at their label.
template <class X>
[[nodiscard]] double accuracy(X const& logits, std::span<std::uint32_t const> labels) {
  auto const predicted = argmax_rows(logits);
  expect(predicted.size() == labels.size() && !labels.empty(), "accuracy: ", labels.size(), " labels for ", predicted.size(), " rows");
  std::size_t correct = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) correct += predicted[i] == labels[i];
  return static_cast<double>(correct) / static_cast<double>(labels.size());
}

}  // namespace dvla::inline DVLA_ABI
