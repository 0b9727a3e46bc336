// Log-densities and entropies of Beta(kappa p, kappa (1 - p)) with their derivatives by p.
#pragma once

#include <dvla/kernels/beta_policy_values.hpp>
#include <dvla/kernels/device.hpp>
#include <dvla/rl/beta.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

template <class T>
void beta_policy(cpu const&, std::size_t count, T kappa, T const* p, T const* action, beta_policy_values<T> const& out) {
  for (std::size_t i = 0; i < count; ++i) {
    auto const d = beta_from_mean(p[i], kappa);
    auto const score = d.d_log_density(action[i]);
    auto const spread = d.d_entropy();
    out.log_density[i] = d.log_density(action[i]);
    out.entropy[i] = d.entropy();
    out.d_log_density[i] = kappa * (score.alpha - score.beta);  // alpha = kappa p, beta = kappa (1 - p)
    out.d_entropy[i] = kappa * (spread.alpha - spread.beta);
  }
}

/// One draw from Beta(kappa p, kappa (1 - p)) an element, one after another from the same stream.
template <class T>
void beta_sample(cpu const&, std::size_t count, T kappa, T const* p, random_stream random, T* action) {
  for (std::size_t i = 0; i < count; ++i) action[i] = beta_from_mean(p[i], kappa).sample(random);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
