// Batch normalisation over the rows of x [rows, channels], and its gradients. Layer normalisation is included beside it.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/core/parallel.hpp>
#include <dvla/core/simd.hpp>
#include <dvla/kernels/batch_rows.hpp>
#include <dvla/kernels/cpu/layer_norm.hpp>
#include <dvla/kernels/cpu/norm_sums.hpp>
#include <dvla/kernels/cpu/row_loop.hpp>
#include <dvla/kernels/cpu/workspace.hpp>
#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// Mean and biased variance of each channel over the rows. Digits are kept where |mean| >> standard deviation.
template <class T>
void batch_norm_statistics(cpu const& device, std::size_t rows, std::size_t channels, T const* x, T* mean, T* variance) {
  using namespace norm_sums;
  std::size_t const grain = chunk_rows(channels), chunks = (rows + grain - 1) / grain;
  detail::scratch<double> const partial(chunks * 2 * channels);  // of each chunk: means less x's first row, then squares
  parallel_for(device.pool, rows, grain, [&](std::size_t begin, std::size_t end) {
    double* const means = partial.data() + begin / grain * 2 * channels;
    chunk_moments(end - begin, channels, x + begin * channels, x, means, means + channels);
  });
  for (std::size_t c = 0; c < channels; ++c) {
    // Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    double count = 0, center = 0, squares = 0;
    for (std::size_t i = 0; i < chunks; ++i) {
      double const n = double(std::min(grain, rows - i * grain));
      double const delta = partial.data()[i * 2 * channels + c] - center;
      squares += partial.data()[(i * 2 + 1) * channels + c] + delta * delta * count * n / (count + n);
      count += n;
      center += delta * n / count;
    }
    mean[c] = T(double(x[c]) + center);
    variance[c] = T(squares / double(rows));
  }
}

/// y = (x - mean) * inverse_std * weight + bias, the last four [channels]. y may be x.
template <class T>
void batch_norm_apply(cpu const& device, std::size_t rows, std::size_t channels, T const* x, T const* mean, T const* inverse_std,
                      T const* weight, T const* bias, T* y) {
  parallel_for(device.pool, rows, norm_sums::chunk_rows(channels), [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r)
      over_lanes<T>(0, channels, [&](std::size_t c, auto used) {
        batch<T> const slope = read(inverse_std + c, used) * read(weight + c, used);
        batch<T> const centered = read(x + r * channels + c, used) - read(mean + c, used);
        write(y + r * channels + c, xsimd::fma(centered, slope, read(bias + c, used)), used);
      });
  });
}

/// Gradients of batch normalisation of one part. See batch_norm_backward.
template <class T>
void batch_norm_backward_part(cpu const& device, std::size_t rows, std::size_t channels, T const* x, T const* dy, T const* mean,
                         T const* inverse_std, T const* weight, T* dx, T* dweight, T* dbias, bool accumulate_dx,
                         bool accumulate_parameters, bool use_batch_statistics) {
  using namespace norm_sums;
  std::size_t const grain = chunk_rows(channels);
  detail::scratch<T> const coefficients(3 * channels);  // dx = slope dy - offset - (x - mean) tilt
  T* const slope = coefficients.data();
  T* const offset = slope + channels;
  T* const tilt = offset + channels;
  std::fill_n(offset, 2 * channels, T(0));
  for (std::size_t c = 0; c < channels; ++c) slope[c] = weight[c] * inverse_std[c];
  if (use_batch_statistics || dweight != nullptr || dbias != nullptr) {
    detail::scratch<double> const sums(2 * channels);
    column_sums(device, rows, channels, sums.data(), [&](std::size_t r, std::size_t c, auto used) {
      batch<T> const g = read(dy + r * channels + c, used);
      return sum_pair<T>{g, g * (read(x + r * channels + c, used) - read(mean + c, used))};
    });
    for (std::size_t c = 0; c < channels; ++c) {
      double const total = sums.data()[c], projection = sums.data()[channels + c] * double(inverse_std[c]);
      if (dbias != nullptr) dbias[c] = T(total) + (accumulate_parameters ? dbias[c] : T(0));
      if (dweight != nullptr) dweight[c] = T(projection) + (accumulate_parameters ? dweight[c] : T(0));
      if (use_batch_statistics) {
        offset[c] = T(double(slope[c]) * total / double(rows));
        tilt[c] = T(double(slope[c]) * projection * double(inverse_std[c]) / double(rows));
      }
    }
  }
  if (dx == nullptr) return;
  parallel_for(device.pool, rows, grain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r)
      over_lanes<T>(0, channels, [&](std::size_t c, auto used) {
        std::size_t const i = r * channels + c;
        batch<T> const centered = read(x + i, used) - read(mean + c, used);
        batch<T> g = read(dy + i, used) * read(slope + c, used) - read(offset + c, used);
        g = g - centered * read(tilt + c, used);
        write(dx + i, accumulate_dx ? read(dx + i, used) + g : g, used);
      });
  });
}

/// Gradients of batch normalisation. With batch statistics, mean and inverse_std depend on x (training); without, they are
/// constants (evaluation); both are [parts, channels]. dx [rows, channels], dweight and dbias [channels] may be null; each group is
/// added to on request.
template <class T>
void batch_norm_backward(cpu const& device, batch_rows rows, std::size_t channels, T const* x, T const* dy, T const* mean,
                         T const* inverse_std, T const* weight, T* dx, T* dweight, T* dbias, bool accumulate_dx,
                         bool accumulate_parameters, bool use_batch_statistics) {
  for (std::size_t part = 0; part < rows.parts(); ++part) {
    std::size_t const at = rows.first(part) * channels;
    batch_norm_backward_part(device, rows.of(part), channels, x + at, dy + at, mean + part * channels, inverse_std + part * channels,
                             weight, dx == nullptr ? dx : dx + at, dweight, dbias, accumulate_dx, accumulate_parameters || part > 0,
                             use_batch_statistics);
  }
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
