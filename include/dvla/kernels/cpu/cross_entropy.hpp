// Cross-entropy of rows of logits against class numbers or soft targets, with label smoothing.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include <dvla/core/error.hpp>
#include <dvla/core/simd.hpp>
#include <dvla/kernels/cpu/row_loop.hpp>
#include <dvla/kernels/cpu/softmax.hpp>
#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace softmax_rows {

/// The targets of one row before smoothing: a class number, or numbers of a distribution.
template <class T>
struct target_row {
  std::uint32_t label;
  T const* soft;  // null: the label counts

  target_row(std::size_t row, std::size_t classes, std::uint32_t const* labels, T const* targets)
      : label(labels == nullptr ? 0 : labels[row]), soft(labels == nullptr ? targets + row * classes : nullptr) {
    expect(label < classes, "cross_entropy: row ", row, " has label ", label, ", but there are ", classes,
           " classes; labels count from 0 to classes - 1");
  }

  /// Sum of the targets.
  [[nodiscard]] T total(std::size_t classes) const {
    if (soft == nullptr) return T(1);
    batch<T> sum(T(0));
    over_lanes<T>(0, classes, [&](std::size_t c, auto used) { sum += read(soft + c, used); });
    return simd::reduce_add(sum);
  }
};

}  // namespace softmax_rows

/// per_row_loss = - sum_c t_c log softmax(logits)_c for each row, with t = (1 - s) target + s / classes and s = label_smoothing,
/// as PyTorch. The target is one-hot at labels [rows], or targets [rows, classes] where labels is null. probabilities
/// [rows, classes] receives softmax(logits), for the backward pass; null skips it. Throws if a label is not a class.
template <class T>
void cross_entropy_forward(cpu const& device, std::size_t rows, std::size_t classes, T const* logits, std::uint32_t const* labels,
                           T const* targets, T label_smoothing, T* per_row_loss, T* probabilities) {
  softmax_rows::over_rows(device, rows, classes, [&](std::size_t r) {
    T const* const x = logits + r * classes;
    softmax_rows::target_row<T> const target(r, classes, labels, targets);
    T* const p = probabilities == nullptr ? nullptr : probabilities + r * classes;
    auto const [largest, sum] = softmax_rows::exponentiate(classes, x, p);
    if (p != nullptr) softmax_rows::multiply_row(classes, p, T(1) / sum);
    // -log p_c = log(sum) - (x_c - largest)
    batch<T> const top(largest), keep(T(1) - label_smoothing), spread(label_smoothing / T(classes));
    T const log_sum = std::log(sum);
    T loss = T(0);
    if (target.soft == nullptr) loss = (T(1) - label_smoothing) * (log_sum - (x[target.label] - largest));
    if (target.soft != nullptr || label_smoothing != T(0)) {
      batch<T> weighted(T(0));
      T const* const soft = target.soft;
      std::size_t const whole = classes / lanes<T> * lanes<T>;
      for (std::size_t c = 0; c < whole; c += lanes<T>) {
        batch<T> const t = soft == nullptr ? spread : simd::load(soft + c) * keep + spread;
        weighted = xsimd::fma(t, batch<T>(log_sum) - (simd::load(x + c) - top), weighted);
      }
      loss += simd::reduce_add(weighted);
      for (std::size_t c = whole; c < classes; ++c) {
        T const t = (soft == nullptr ? T(0) : soft[c] * (T(1) - label_smoothing)) + label_smoothing / T(classes);
        loss += t * (log_sum - (x[c] - largest));
      }
    }
    per_row_loss[r] = loss;
  });
}

/// d_logits = (p sum(t) - t) * row_scale[row] for the p and t of cross_entropy_forward(); overwritten or added to.
template <class T>
void cross_entropy_backward(cpu const& device, std::size_t rows, std::size_t classes, T const* probabilities,
                            std::uint32_t const* labels, T const* targets, T label_smoothing, T const* row_scale, T* d_logits,
                            bool accumulate) {
  softmax_rows::over_rows(device, rows, classes, [&](std::size_t r) {
    softmax_rows::target_row<T> const target(r, classes, labels, targets);
    T const keep = T(1) - label_smoothing;
    batch<T> const total(keep * target.total(classes) + label_smoothing), spread(label_smoothing / T(classes)), scale(row_scale[r]);
    T* const d = d_logits + r * classes;
    over_lanes<T>(0, classes, [&](std::size_t c, auto used) {
      batch<T> const t = target.soft == nullptr ? spread : read(target.soft + c, used) * batch<T>(keep) + spread;
      batch<T> const g = (read(probabilities + r * classes + c, used) * total - t) * scale;
      write(d + c, accumulate ? read(d + c, used) + g : g, used);
    });
    if (target.soft == nullptr) d[target.label] -= keep * row_scale[r];
  });
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
