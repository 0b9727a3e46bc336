// Layer normalisation over the last axis of x [rows, columns], and its gradients.
#pragma once

#include <cmath>
#include <cstddef>

#include <dvla/core/parallel.hpp>
#include <dvla/core/simd.hpp>
#include <dvla/kernels/cpu/norm_sums.hpp>
#include <dvla/kernels/cpu/row_loop.hpp>
#include <dvla/kernels/cpu/workspace.hpp>
#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// y = (x - mean) / sqrt(variance + eps) * weight + bias with each row's own mean and biased variance; weight and bias are
/// [columns], mean and inverse_std [rows] are kept for the backward pass. y may be x.
template <class T>
void layer_norm_forward(cpu const& device, std::size_t rows, std::size_t columns, T eps, T const* x, T const* weight, T const* bias,
                        T* y, T* mean, T* inverse_std) {
  parallel_for(device.pool, rows, norm_sums::chunk_rows(columns), [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      T const* const row = x + r * columns;
      batch<T> sum(T(0)), squares(T(0));
      over_lanes<T>(0, columns, [&](std::size_t c, auto used) { sum += read(row + c, used); });
      T const center = simd::reduce_add(sum) / T(columns);
      std::size_t const whole = columns / lanes<T> * lanes<T>;
      for (std::size_t c = 0; c < whole; c += lanes<T>) {
        batch<T> const d = simd::load(row + c) - batch<T>(center);
        squares = xsimd::fma(d, d, squares);
      }
      T total = simd::reduce_add(squares);
      for (std::size_t c = whole; c < columns; ++c) total += (row[c] - center) * (row[c] - center);
      T const inverse = T(1) / std::sqrt(total / T(columns) + eps);
      over_lanes<T>(0, columns, [&](std::size_t c, auto used) {
        batch<T> const normal = (read(row + c, used) - batch<T>(center)) * batch<T>(inverse);
        write(y + r * columns + c, xsimd::fma(normal, read(weight + c, used), read(bias + c, used)), used);
      });
      mean[r] = center;
      inverse_std[r] = inverse;
    }
  });
}

/// Gradients of layer_norm_forward(). dx [rows, columns], dweight and dbias [columns] may be null; each group is added to on
/// request.
template <class T>
void layer_norm_backward(cpu const& device, std::size_t rows, std::size_t columns, T const* x, T const* dy, T const* mean,
                         T const* inverse_std, T const* weight, T* dx, T* dweight, T* dbias, bool accumulate_dx,
                         bool accumulate_parameters) {
  using namespace norm_sums;
  if (dweight != nullptr || dbias != nullptr) {
    detail::scratch<double> const sums(2 * columns);
    column_sums(device, rows, columns, sums.data(), [&](std::size_t r, std::size_t c, auto used) {
      batch<T> const g = read(dy + r * columns + c, used);
      return sum_pair<T>{g, g * (read(x + r * columns + c, used) - batch<T>(mean[r])) * batch<T>(inverse_std[r])};
    });
    for (std::size_t c = 0; c < columns; ++c) {
      if (dbias != nullptr) dbias[c] = T(sums.data()[c]) + (accumulate_parameters ? dbias[c] : T(0));
      if (dweight != nullptr) dweight[c] = T(sums.data()[columns + c]) + (accumulate_parameters ? dweight[c] : T(0));
    }
  }
  if (dx == nullptr) return;
  parallel_for(device.pool, rows, chunk_rows(columns), [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      batch<T> const center(mean[r]), inverse(inverse_std[r]);
      batch<T> sum(T(0)), projection(T(0));
      over_lanes<T>(0, columns, [&](std::size_t c, auto used) {
        batch<T> const g = read(dy + r * columns + c, used) * read(weight + c, used);
        sum += g;
        projection = xsimd::fma(g, (read(x + r * columns + c, used) - center) * inverse, projection);
      });
      batch<T> const offset(simd::reduce_add(sum) / T(columns)), tilt(simd::reduce_add(projection) / T(columns));
      over_lanes<T>(0, columns, [&](std::size_t c, auto used) {
        std::size_t const i = r * columns + c;
        batch<T> const normal = (read(x + i, used) - center) * inverse;
        batch<T> const g = (read(dy + i, used) * read(weight + c, used) - offset - normal * tilt) * inverse;
        write(dx + i, accumulate_dx ? read(dx + i, used) + g : g, used);
      });
    }
  });
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
