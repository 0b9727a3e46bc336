// BatchNorm with known statistics folded into the linear map behind it: W ((x - mean) gamma / std + beta) = W' x + c.
#pragma once

#include <cmath>
#include <cstddef>

#include <dvla/kernels/cuda/row_team.cuh>
#include <dvla/kernels/cuda/tensor_core.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace batch_norms {

/// A row of W' and its constant. The constant is that of W' as the product will read it, rounded: the rounding of W' then only
/// touches deviations from the mean, not the mean.
template <precision P, class T>
struct fold_body {
  using number = arithmetic_t<T>;
  std::size_t columns;
  number const* weight;
  number const* mean;
  number const* variance;
  number const* gamma;
  number const* beta;
  number eps;
  T* folded;
  number* constants;
  T* rounded_constants;

  template <int N, class Team>
  __device__ void row(Team const& team, std::size_t row) const {
    struct operands {
      packet<number, N> weight, mean, variance, gamma, beta;
    };
    double own = 0;
    team.template read<N>(
        columns,
        [&](std::size_t c) -> operands {
          return {load_packet<number, N>(weight + row * columns + c), load_packet<number, N>(mean + c),
                  load_packet<number, N>(variance + c), load_packet<number, N>(gamma + c), load_packet<number, N>(beta + c)};
        },
        [&](std::size_t c, operands const& at) {
          auto const scaled = at.weight * (at.gamma / sqrt(at.variance + packet<number, N>(eps)));
          packet<number, N> rounded;
#pragma unroll
          for (int i = 0; i < N; ++i) rounded.at[i] = static_cast<number>(as_multiplied(scaled.at[i]));
          store_packet(folded + row * columns + c, rounded);
          auto const terms = at.weight * at.beta - rounded * at.mean;
#pragma unroll
          for (int i = 0; i < N; ++i) own += static_cast<double>(terms.at[i]);
        });
    double const total = team.sum(own);
    if (team.rank != 0) return;
    constants[row] = static_cast<number>(total);
    rounded_constants[row] = static_cast<T>(total);
  }

 private:
  [[nodiscard]] __device__ static T as_multiplied(number value) {
    if constexpr (std::is_same_v<T, float> && P == precision::tf32) return __uint_as_float(tensor_core::as_tf32(__float_as_uint(value)));
    else return static_cast<T>(value);
  }
};

}  // namespace batch_norms

/// folded (rows, columns) and constants (rows), also as T, such that folded x + constants is weight (rows, columns) applied to
/// the normalised x. mean, variance, gamma and beta have `columns` elements.
template <precision P, class T>
void fold_norm(basic_cuda<P> const& device, std::size_t rows, std::size_t columns, arithmetic_t<T> const* weight,
               arithmetic_t<T> const* mean, arithmetic_t<T> const* variance, arithmetic_t<T> const* gamma, arithmetic_t<T> const* beta,
               double eps, T* folded, arithmetic_t<T>* constants, T* rounded_constants) {
  batch_norms::fold_body<P, T> const body{columns, weight, mean, variance, gamma, beta, static_cast<arithmetic_t<T>>(eps), folded,
                                          constants, rounded_constants};
  row_teams::over_rows<packet_of<arithmetic_t<T>>>(device, rows, columns, body, "folding a batch normalisation", weight, mean, variance,
                                                   gamma, beta, folded);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
