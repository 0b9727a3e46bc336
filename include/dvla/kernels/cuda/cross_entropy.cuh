// Cross-entropy of rows of logits against class numbers or soft targets, with label smoothing.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <dvla/kernels/cuda/softmax.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace softmax_rows {

/// The targets of rows, in device memory: class numbers, or numbers of distributions where there are none.
template <class T>
struct targets_of_rows {
  std::size_t classes;
  std::uint32_t const* labels;
  T const* soft;
  T smoothing;

  /// (1 - s) target + s / classes at classes [c, c + N) of a row.
  template <int N>
  __device__ packet<T, N> smoothed(std::size_t row, std::size_t c) const {
    packet<T, N> const spread(smoothing / static_cast<T>(classes)), keep(T(1) - smoothing);
    if (labels == nullptr) return load_packet<T, N>(soft + row * classes + c) * keep + spread;
    packet<T, N> out = spread;
    std::size_t const label = labels[row];
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (c + static_cast<std::size_t>(i) == label) out.at[i] += keep.at[i];
    return out;
  }
  /// Sum of the smoothed targets of a row.
  template <int N, class Team>
  __device__ T total(Team const& team, std::size_t row) const {
    if (labels != nullptr) return T(1);
    packet<T, N> sum(T(0));
    team.template over<N>(classes, [&](std::size_t c) { sum = sum + load_packet<T, N>(soft + row * classes + c); });
    return (T(1) - smoothing) * team.sum(sum) + smoothing;
  }
};

template <class T>
struct cross_entropy_body {
  targets_of_rows<T> targets;
  T const* logits;
  T* per_row_loss;
  T* probabilities;

  template <int N, class Team>
  __device__ void row(Team const& team, std::size_t r) const {
    std::size_t const classes = targets.classes;
    T const* const x = logits + r * classes;
    auto const [largest, sum] = scale_of<N>(team, classes, x);
    // -log p_c = log(sum) - (x_c - largest)
    packet<T, N> const top(largest), factor(T(1) / sum), log_sum(std::log(sum));
    if (probabilities != nullptr) {
      T* const p = probabilities + r * classes;
      team.template over<N>(classes, [&](std::size_t c) { store_packet(p + c, exp(load_packet<T, N>(x + c) - top) * factor); });
    }
    T loss;
    if (targets.labels != nullptr && targets.smoothing == T(0)) {
      loss = log_sum.at[0] - (x[targets.labels[r]] - largest);
    } else {
      packet<T, N> weighted(T(0));
      team.template over<N>(classes, [&](std::size_t c) {
        weighted = weighted + targets.template smoothed<N>(r, c) * (log_sum - (load_packet<T, N>(x + c) - top));
      });
      loss = team.sum(weighted);
    }
    if (team.rank == 0) per_row_loss[r] = loss;
  }
};

template <class T>
struct cross_entropy_gradient_body {
  targets_of_rows<T> targets;
  T const* probabilities;
  T const* row_scale;
  T* d_logits;
  bool accumulate;

  template <int N, class Team>
  __device__ void row(Team const& team, std::size_t r) const {
    std::size_t const classes = targets.classes;
    T const* const p = probabilities + r * classes;
    T* const to = d_logits + r * classes;
    packet<T, N> const total(targets.template total<N>(team, r)), scale(row_scale[r]);
    team.template over<N>(classes, [&](std::size_t c) {
      auto const g = (load_packet<T, N>(p + c) * total - targets.template smoothed<N>(r, c)) * scale;
      store_packet(to + c, accumulate ? load_packet<T, N>(to + c) + g : g);
    });
  }
};

}  // namespace softmax_rows

/// per_row_loss = - sum_c t_c log softmax(logits)_c for each row, with t = (1 - s) target + s / classes and s = label_smoothing,
/// as PyTorch. The target is one-hot at labels [rows], or targets [rows, classes] where labels is null. probabilities
/// [rows, classes] receives softmax(logits), for the backward pass; null skips it. Labels must be below classes: the device does
/// not check them.
template <precision P, class T>
void cross_entropy_forward(basic_cuda<P> const& device, std::size_t rows, std::size_t classes, T const* logits,
                           std::uint32_t const* labels, std::type_identity_t<T> const* targets,
                           std::type_identity_t<T> label_smoothing, T* per_row_loss, std::type_identity_t<T>* probabilities) {
  softmax_rows::targets_of_rows<T> const of_rows{classes, labels, labels == nullptr ? targets : nullptr, label_smoothing};
  row_teams::over_rows<packet_of<T>>(device, rows, classes,
                                     softmax_rows::cross_entropy_body<T>{of_rows, logits, per_row_loss, probabilities},
                                     "computing a cross-entropy", logits, of_rows.soft, probabilities);
}

/// d_logits = (p sum(t) - t) * row_scale[row] for the p and t of cross_entropy_forward(); overwritten or added to.
template <precision P, class T>
void cross_entropy_backward(basic_cuda<P> const& device, std::size_t rows, std::size_t classes, T const* probabilities,
                            std::uint32_t const* labels, std::type_identity_t<T> const* targets,
                            std::type_identity_t<T> label_smoothing, T const* row_scale, T* d_logits, bool accumulate) {
  softmax_rows::targets_of_rows<T> const of_rows{classes, labels, labels == nullptr ? targets : nullptr, label_smoothing};
  row_teams::over_rows<packet_of<T>>(
      device, rows, classes, softmax_rows::cross_entropy_gradient_body<T>{of_rows, probabilities, row_scale, d_logits, accumulate},
      "computing the gradient of a cross-entropy", probabilities, of_rows.soft, d_logits);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
