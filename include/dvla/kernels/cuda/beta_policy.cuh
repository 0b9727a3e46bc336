// Log-densities and entropies of Beta(kappa p, kappa (1 - p)) with their derivatives by p, and draws.
#pragma once

#include <cstddef>
#include <limits>
#include <type_traits>

#include <dvla/kernels/beta_policy_values.hpp>
#include <dvla/kernels/cuda/flat_walk.cuh>
#include <dvla/kernels/cuda/launch.cuh>
#include <dvla/rl/beta.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace beta_policies {

/// beta_from_mean without its checks.
template <class T>
__device__ dvla::detail::beta_formulas formulas_of(T p, T kappa) {
  return {static_cast<double>(kappa * p), static_cast<double>(kappa * (1 - p))};
}

template <class T>
struct values_body {
  T kappa;
  T const* p;
  T const* action;
  beta_policy_values<T> out;

  template <int>
  __device__ void at(std::size_t i) const {
    auto const d = formulas_of(p[i], kappa);
    auto const at = static_cast<double>(action[i]);
    auto const score = d.d_log_density(at), spread = d.d_entropy();
    out.log_density[i] = static_cast<T>(d.log_density(at));
    out.entropy[i] = static_cast<T>(d.entropy());
    out.d_log_density[i] =
        kappa * (static_cast<T>(score.alpha) - static_cast<T>(score.beta));  // alpha = kappa p, beta = kappa (1 - p)
    out.d_entropy[i] = kappa * (static_cast<T>(spread.alpha) - static_cast<T>(spread.beta));
  }
};

/// One thread: where in the stream a draw begins depends on the draws before it.
template <class T>
__global__ void sample_kernel(std::size_t count, T kappa, T const* p, random_stream const from,
                              unsigned long long const* steps_later, T* action) {
  detail::await_predecessors();
  random_stream random = from.later(*steps_later);
  constexpr double largest = std::numeric_limits<double>::max();
  for (std::size_t i = 0; i < count; ++i) {
    auto const d = formulas_of(p[i], kappa);
    bool const valid = d.a > 0 && d.a <= largest && d.b > 0 && d.b <= largest;
    action[i] = valid ? d.template sample<T>(random) : std::numeric_limits<T>::quiet_NaN();
  }
}

inline void check_concentration(double kappa) {
  expect(kappa > 0 && kappa <= std::numeric_limits<double>::max(), "Beta distribution: the concentration kappa is ", kappa,
         "; it must be positive and finite");
}

}  // namespace beta_policies

/// As on the CPU; but means and actions outside of (0, 1), which throw there, give NaN. Throws if kappa is not positive and finite.
template <precision P, class T>
void beta_policy(basic_cuda<P> const& device, std::size_t count, std::type_identity_t<T> kappa, T const* p, T const* action,
                 beta_policy_values<T> const& out) {
  beta_policies::check_concentration(static_cast<double>(kappa));
  flat_walks::over_elements<1>(device, count, beta_policies::values_body<T>{kappa, p, action, out}, "evaluating a Beta policy", p);
}

/// One draw from Beta(kappa p, kappa (1 - p)) an element, one after another from the same stream: the CPU's actions up to rounding.
/// A replayed step draws from its own step's stream. A mean outside of (0, 1) gives NaN; throws if kappa is not positive and
/// finite.
template <precision P, class T>
void beta_sample(basic_cuda<P> const& device, std::size_t count, std::type_identity_t<T> kappa, T const* p, random_stream random,
                 T* action) {
  beta_policies::check_concentration(static_cast<double>(kappa));
  if (count == 0) return;
  detail::start(*device.queue, "drawing from a Beta policy", beta_policies::sample_kernel<T>, 1, 1, 0, count, kappa, p, random,
                device.queue->steps_later(), action);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
