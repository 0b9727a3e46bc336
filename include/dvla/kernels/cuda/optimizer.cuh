// Optimizer steps over one flat buffer of parameters, each a single pass, and the small vector operations around them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/cuda/flat_walk.cuh>
#include <dvla/kernels/cuda/launch.cuh>
#include <dvla/kernels/cuda/memory.cuh>
#include <dvla/kernels/cuda/squared_norm.cuh>
#include <dvla/kernels/replay.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace optimizers {

/// The numbers of an AdamW step that are the same for all elements.
template <class T>
struct adamw_constants {
  T keep, blend, old, fresh, rate, root, epsilon;

  adamw_constants() = default;
  DVLA_HD adamw_constants(double lr, double beta1, double beta2, double eps, double weight_decay, double step)
      : keep(static_cast<T>(1 - lr * weight_decay)),
        blend(static_cast<T>(1 - beta1)),
        old(static_cast<T>(beta2)),
        fresh(static_cast<T>(1 - beta2)),
        rate(static_cast<T>(lr / (1 - std::pow(beta1, step)))),
        root(static_cast<T>(std::sqrt(1 - std::pow(beta2, step)))),
        epsilon(static_cast<T>(eps)) {}
};

/// The flat buffers of AdamW.
template <class T>
struct adamw_buffers {
  T* parameter;
  T const* gradient;
  T* first_moment;
  T* second_moment;
  bfloat16* rounded;  // receives the new parameters as well, unless null

  template <int N>
  __device__ void step(std::size_t i, adamw_constants<T> const& by) const {
    using numbers = packet<T, N>;
    numbers const g = load_packet<T, N>(gradient + i), old_m = load_packet<T, N>(first_moment + i);
    numbers const old_v = load_packet<T, N>(second_moment + i), p = load_packet<T, N>(parameter + i) * numbers(by.keep);
    numbers const m = numbers(by.blend) * (g - old_m) + old_m;
    numbers const v = numbers(by.fresh) * g * g + numbers(by.old) * old_v;
    numbers const result = p - numbers(by.rate) * (m / (sqrt(v) / numbers(by.root) + numbers(by.epsilon)));
    store_packet(first_moment + i, m);
    store_packet(second_moment + i, v);
    store_packet(parameter + i, result);
    if (rounded != nullptr) store_packet(rounded + i, result);
  }
};

template <class T>
struct adamw_body {
  adamw_buffers<T> buffers;
  adamw_constants<T> constants;
  template <int N>
  __device__ void at(std::size_t i) const {
    buffers.template step<N>(i, constants);
  }
};

/// The same with step and factor of the rate in device memory.
template <class T>
struct adamw_state_body {
  adamw_buffers<T> buffers;
  double lr, beta1, beta2, epsilon, weight_decay;
  adamw_state const* state;
  adamw_constants<T> constants{};

  __device__ void prepare() {
    __shared__ adamw_constants<T> of_block;
    if (threadIdx.x == 0)
      of_block = adamw_constants<T>(lr * state->rate_scale, beta1, beta2, epsilon, weight_decay, static_cast<double>(state->step));
    __syncthreads();
    constants = of_block;
  }
  template <int N>
  __device__ void at(std::size_t i) const {
    buffers.template step<N>(i, constants);
  }
};

template <class = void>
__global__ void advance_kernel(adamw_state* state) {
  detail::await_predecessors();
  state->step += 1;
}

template <class T>
struct sgd_body {
  T* parameter;
  T const* gradient;
  T* buffer;
  T rate, momentum, decay;
  bool nesterov;

  template <int N>
  __device__ void at(std::size_t i) const {
    using numbers = packet<T, N>;
    numbers const p = load_packet<T, N>(parameter + i);
    numbers g = numbers(decay) * p + load_packet<T, N>(gradient + i);
    if (momentum != T(0)) {
      numbers const b = numbers(momentum) * load_packet<T, N>(buffer + i) + g;
      store_packet(buffer + i, b);
      g = nesterov ? numbers(momentum) * b + g : b;
    }
    store_packet(parameter + i, p - numbers(rate) * g);
  }
};

template <class T>
struct scale_body {
  T* x;
  T factor;
  template <int N>
  __device__ void at(std::size_t i) const {
    store_packet(x + i, load_packet<T, N>(x + i) * packet<T, N>(factor));
  }
};

template <class T>
struct lerp_body {
  T* average;
  T const* x;
  T blend;
  template <int N>
  __device__ void at(std::size_t i) const {
    packet<T, N> const old = load_packet<T, N>(average + i);
    store_packet(average + i, packet<T, N>(blend) * (load_packet<T, N>(x + i) - old) + old);
  }
};

}  // namespace optimizers

/// One step of AdamW as PyTorch takes it (Loshchilov and Hutter, arXiv 1711.05101): decay p *= 1 - lr * weight_decay, moments,
/// then p -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon). step counts from 1.
template <precision P, class T>
void adamw_step(basic_cuda<P> const& device, std::size_t count, T* parameter, T const* gradient, T* first_moment, T* second_moment,
                double lr, double beta1, double beta2, double epsilon, double weight_decay, std::uint64_t step) {
  optimizers::adamw_body<T> const body{{parameter, gradient, first_moment, second_moment, nullptr},
                                       {lr, beta1, beta2, epsilon, weight_decay, static_cast<double>(step)}};
  flat_walks::over_elements<packet_of<T>>(device, count, body, "taking a step of AdamW", parameter, gradient, first_moment,
                                          second_moment);
}

/// The same with the rate's factor and the step in the device's memory, for steps that are recorded and replayed. `rounded`
/// receives the new parameters as bfloat16, unless null.
template <precision P, class T>
void adamw_step_at(basic_cuda<P> const& device, std::size_t count, T* parameter, T const* gradient, T* first_moment,
                   T* second_moment, double lr, double beta1, double beta2, double epsilon, double weight_decay,
                   adamw_state const* state, bfloat16* rounded) {
  optimizers::adamw_state_body<T> const body{
      {parameter, gradient, first_moment, second_moment, rounded}, lr, beta1, beta2, epsilon, weight_decay, state};
  flat_walks::over_elements<packet_of<T>>(device, count, body, "taking a step of AdamW", parameter, gradient, first_moment,
                                          second_moment, rounded);
}

/// Counts a step of AdamW in the device's memory.
template <precision P>
void advance_step(basic_cuda<P> const& device, adamw_state* state) {
  detail::start(*device.queue, "counting a step of AdamW", optimizers::advance_kernel<>, 1, 1, 0, state);
}

/// One step of stochastic gradient descent as PyTorch takes it, without dampening: g += weight_decay p; b = momentum b + g;
/// p -= lr (nesterov ? g + momentum b : b). The buffer b starts at 0; it may be null when momentum is 0.
template <precision P, class T>
void sgd_step(basic_cuda<P> const& device, std::size_t count, T* parameter, T const* gradient, std::type_identity_t<T>* buffer,
              double lr, double momentum, bool nesterov, double weight_decay) {
  optimizers::sgd_body<T> const body{
      parameter, gradient, buffer, static_cast<T>(lr), static_cast<T>(momentum), static_cast<T>(weight_decay), nesterov};
  flat_walks::over_elements<packet_of<T>>(device, count, body, "taking a step of gradient descent", parameter, gradient, buffer);
}

/// The sum of squares, on the host: waits for the device.
template <precision P, class T>
[[nodiscard]] double squared_norm(basic_cuda<P> const& device, std::size_t count, T const* x) {
  detail::device_scratch<double> const result(device, 1);
  squared_norm_at(device, count, x, result.data());
  double host = 0;
  download(device, 1, static_cast<double const*>(result.data()), &host);
  return host;
}

/// x *= factor.
template <precision P, class T>
void scale(basic_cuda<P> const& device, std::size_t count, T* x, std::type_identity_t<T> factor) {
  flat_walks::over_elements<packet_of<T>>(device, count, optimizers::scale_body<T>{x, factor}, "scaling a vector", x);
}

/// average = decay * average + (1 - decay) * x: a step of an exponential moving average.
template <precision P, class T>
void lerp(basic_cuda<P> const& device, std::size_t count, T* average, T const* x, double decay) {
  flat_walks::over_elements<packet_of<T>>(device, count, optimizers::lerp_body<T>{average, x, static_cast<T>(1 - decay)},
                                          "averaging vectors", average, x);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
