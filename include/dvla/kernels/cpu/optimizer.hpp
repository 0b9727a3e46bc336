// Optimizer steps over one flat buffer of parameters, each a single pass, and the small vector operations around them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include <dvla/core/bfloat16.hpp>
#include <dvla/core/parallel.hpp>
#include <dvla/core/simd.hpp>
#include <dvla/kernels/cpu/row_loop.hpp>
#include <dvla/kernels/cpu/workspace.hpp>
#include <dvla/kernels/device.hpp>
#include <dvla/kernels/replay.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace flat {

inline constexpr std::size_t chunk = std::size_t{1} << 15;

/// The number in every lane, rounded to T.
template <class T>
DVLA_INLINE batch<T> constant(double value) {
  return batch<T>(static_cast<T>(value));
}

/// Runs body(i, lanes in use) over count elements, in parallel chunks.
template <class T, class Body>
void over_elements(cpu const& device, std::size_t count, Body const& body) {
  parallel_for(device.pool, count, chunk, [&](std::size_t begin, std::size_t end) { over_lanes<T>(begin, end, body); });
}

}  // namespace flat

/// One step of AdamW as PyTorch takes it (Loshchilov and Hutter, arXiv 1711.05101): decay p *= 1 - lr * weight_decay, moments,
/// then p -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon). step counts from 1.
template <class T>
void adamw_step(cpu const& device, std::size_t count, T* parameter, T const* gradient, T* first_moment, T* second_moment, double lr,
                double beta1, double beta2, double epsilon, double weight_decay, std::uint64_t step) {
  double const correction1 = 1 - std::pow(beta1, double(step)), correction2 = 1 - std::pow(beta2, double(step));
  auto const keep = flat::constant<T>(1 - lr * weight_decay), blend = flat::constant<T>(1 - beta1);
  auto const old = flat::constant<T>(beta2), fresh = flat::constant<T>(1 - beta2);
  auto const rate = flat::constant<T>(lr / correction1), root = flat::constant<T>(std::sqrt(correction2));
  auto const eps = flat::constant<T>(epsilon);
  flat::over_elements<T>(device, count, [&](std::size_t i, auto used) {
    batch<T> const g = read(gradient + i, used);
    batch<T> m = read(first_moment + i, used);
    m = xsimd::fma(blend, g - m, m);
    batch<T> const v = xsimd::fma(fresh * g, g, old * read(second_moment + i, used));
    write(first_moment + i, m, used);
    write(second_moment + i, v, used);
    batch<T> const p = read(parameter + i, used) * keep;
    write(parameter + i, p - rate * (m / (xsimd::sqrt(v) / root + eps)), used);
  });
}

/// The same with the rate's factor and the step in the device's memory.
template <class T>
void adamw_step_at(cpu const& device, std::size_t count, T* parameter, T const* gradient, T* first_moment, T* second_moment, double lr,
                   double beta1, double beta2, double epsilon, double weight_decay, adamw_state const* state, bfloat16* /*rounded*/) {
  adamw_step(device, count, parameter, gradient, first_moment, second_moment, lr * state->rate_scale, beta1, beta2, epsilon, weight_decay,
             state->step);
}

/// One step of stochastic gradient descent as PyTorch takes it, without dampening: g += weight_decay p; b = momentum b + g;
/// p -= lr (nesterov ? g + momentum b : b). The buffer b starts at 0; it may be null when momentum is 0.
template <class T>
void sgd_step(cpu const& device, std::size_t count, T* parameter, T const* gradient, T* buffer, double lr, double momentum,
              bool nesterov, double weight_decay) {
  auto const rate = flat::constant<T>(lr), mu = flat::constant<T>(momentum), decay = flat::constant<T>(weight_decay);
  flat::over_elements<T>(device, count, [&](std::size_t i, auto used) {
    batch<T> const p = read(parameter + i, used);
    batch<T> g = xsimd::fma(decay, p, read(gradient + i, used));
    if (momentum != 0) {
      batch<T> const b = xsimd::fma(mu, read(buffer + i, used), g);
      write(buffer + i, b, used);
      g = nesterov ? xsimd::fma(mu, b, g) : b;
    }
    write(parameter + i, p - rate * g, used);
  });
}

/// The sum of squares. Registers add 2048 elements in T, the rest is double.
template <class T>
[[nodiscard]] double squared_norm(cpu const& device, std::size_t count, T const* x) {
  constexpr std::size_t block = 2048;
  detail::scratch<double> const partial((count + flat::chunk - 1) / flat::chunk);
  parallel_for(device.pool, count, flat::chunk, [&](std::size_t begin, std::size_t end) {
    double total = 0;
    for (std::size_t first = begin; first < end; first += block) {
      std::size_t const last = std::min(end, first + block), whole = first + (last - first) / (4 * lanes<T>)*(4 * lanes<T>);
      batch<T> sum[4] = {batch<T>(T(0)), batch<T>(T(0)), batch<T>(T(0)), batch<T>(T(0))};
      for (std::size_t i = first; i < whole; i += 4 * lanes<T>) {
        DVLA_UNROLL(4)
        for (std::size_t j = 0; j < 4; ++j) {
          batch<T> const value = simd::load(x + i + j * lanes<T>);
          sum[j] = xsimd::fma(value, value, sum[j]);
        }
      }
      over_lanes<T>(whole, last,
                    [&](std::size_t i, auto used) { sum[0] = xsimd::fma(read(x + i, used), read(x + i, used), sum[0]); });
      total += double(simd::reduce_add((sum[0] + sum[1]) + (sum[2] + sum[3])));
    }
    partial.data()[begin / flat::chunk] = total;
  });
  double total = 0;
  for (std::size_t i = 0; i < (count + flat::chunk - 1) / flat::chunk; ++i) total += partial.data()[i];
  return total;
}

/// x *= factor.
template <class T>
void scale(cpu const& device, std::size_t count, T* x, T factor) {
  batch<T> const by(factor);
  flat::over_elements<T>(device, count, [&](std::size_t i, auto used) { write(x + i, read(x + i, used) * by, used); });
}

/// average = decay * average + (1 - decay) * x: a step of an exponential moving average.
template <class T>
void lerp(cpu const& device, std::size_t count, T* average, T const* x, double decay) {
  auto const blend = flat::constant<T>(1 - decay);
  flat::over_elements<T>(device, count, [&](std::size_t i, auto used) {
    batch<T> const old = read(average + i, used);
    write(average + i, xsimd::fma(blend, read(x + i, used) - old, old), used);
  });
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
