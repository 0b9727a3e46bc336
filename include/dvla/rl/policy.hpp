// A stochastic gate: a network that maps a state to the mean p of a Beta distribution over (0, 1), and the REINFORCE loss
// (Williams 1992) of the actions drawn from it. Nothing here knows what the gate controls.
#pragma once

#include <dvla/autodiff/rearrange.hpp>
#include <dvla/autodiff/reduction.hpp>
#include <dvla/kernels/cpu/beta_policy.hpp>
#include <dvla/nn/layers.hpp>

namespace dvla::inline DVLA_ABI {
namespace rl {

/// The constants of a Beta policy: p = eps + (1 - 2 eps) sigmoid(.), a ~ Beta(kappa p, kappa (1 - p)).
struct policy_options {
  double eps = 0.05, kappa = 10;
};

/// Two tanh layers and a head that starts at p = 1/2: states (R, State) -> p (R, 1).
template <std::size_t State, std::size_t Hidden = 128, class T = float>
struct gate_policy {
  nn::linear<State, Hidden, T> fc1;
  nn::linear<Hidden, Hidden, T> fc2;
  nn::linear<Hidden, 1, T> head;
  static constexpr auto members = fields("fc1", &gate_policy::fc1, "fc2", &gate_policy::fc2, "head", &gate_policy::head);
  policy_options options{};

  /// After the layers have been initialised: a head of zeros.
  void finish_initialisation(initialiser& init) {
    init.constant(head.weight, 0);
    init.constant(head.bias, 0);
  }

  auto operator()(auto const& state) const { return (*this)(state, options); }
  /// The same with other constants, for a model that keeps those of its policies in one place.
  auto operator()(auto const& state, policy_options const& o) const {
    auto const hidden = evaluate(tanh(fc2(evaluate(tanh(fc1(state))))));
    return evaluate(o.eps + (1 - 2 * o.eps) * sigmoid(head(hidden)));
  }
};

namespace detail {

/// Rows of log-density, entropy and their derivatives by p at the given actions: (4, R).
template <class T, class S, class C>
[[nodiscard]] auto policy_values(variable<T, S, C> const& p, variable<T, S, C> const& actions, policy_options options) {
  std::size_t const n = p.size();
  auto const values = make_variable<T>(p.context(), shape<4, dyn>(n));
  T* const v = values.data_pointer();
  beta_policy(p.context().device(), n, static_cast<T>(options.kappa), static_cast<T const*>(p.data_pointer()),
              static_cast<T const*>(actions.data_pointer()), kernels::beta_policy_values<T>{v, v + n, v + 2 * n, v + 3 * n});
  return values;
}

}  // namespace detail

/// log pi(a | s) and the policy's entropy, means over the rows of p, as scalars.
template <class T, class Context>
struct policy_evaluation {
  variable<T, shape<>, Context> log_density, entropy;
};

/// Of actions (R, 1) under a policy of means p (R, 1).
template <class T, class S, class C>
[[nodiscard]] policy_evaluation<T, C> evaluate_policy(variable<T, S, C> const& p, variable<T, S, C> const& actions, policy_options options) {
  auto const means = evaluate(mean<1>(detail::policy_values(p, actions, options)));
  auto const part = [&](std::size_t i) { return reshape(slice<0, 1>(means, i), shape<>{}); };
  return {part(0), part(1)};
}

/// The REINFORCE loss, - mean over rows of [advantage log pi(a) + tau entropy], as a differentiable scalar of p; actions and
/// advantage are constants.
template <class T, class S, class C>
[[nodiscard]] variable<T, shape<>, C> reinforce_loss(variable<T, S, C> const& p, variable<T, S, C> const& actions,
                                                     variable<T, shape<>, C> const& advantage, double tau, policy_options options) {
  auto& context = p.context();
  std::size_t const n = p.size();
  auto const values = detail::policy_values(p, actions, options);
  using row = shape<dyn>;
  using device = typename C::device_type;
  auto const part = [&](std::size_t i) { return view<T const, row, contiguous, device>(values.data_pointer() + i * n, row(n)); };
  auto y = make_variable<T>(context, shape<>{});
  auto const objective = as_expression(-1.0 * advantage * part(0) - tau * part(1));
  row_sum(context.device(), std::array{n}, dvla::detail::forward_binder<T, 1>::bind(objective), T(1) / static_cast<T>(n), y.data_pointer());
  if (recorded(context, p)) {
    if constexpr (C::records)
      context.record(y.cell(), [&context, values, n, advantage, tau, to = p.gradient_only()](T const* dy) {
        auto const dp = to.add_gradient();
        T const* const d = values.data_pointer() + 2 * n;
        view<T const, row, contiguous, device> const d_log_density(d, row(n)), d_entropy(d + n, row(n));
        view<T, row, contiguous, device> const target(dp.data, row(n));
        view<T const, shape<>, contiguous, device> const scale(dy, {});
        auto const gradient = (d_log_density * advantage * -1.0 - d_entropy * tau) * scale * (1.0 / static_cast<double>(n));
        if (dp.accumulate) assign(target, target + gradient, context.device());
        else assign(target, gradient, context.device());
      });
  }
  return y;
}

/// The same with an advantage known to the host.
template <class T, class S, class C>
[[nodiscard]] variable<T, shape<>, C> reinforce_loss(variable<T, S, C> const& p, variable<T, S, C> const& actions, double advantage, double tau,
                                                     policy_options options) {
  auto const on_device = make_variable<T>(p.context(), shape<>{});
  fill(p.context().device(), 1, on_device.data_pointer(), static_cast<T>(advantage));
  return reinforce_loss(p, actions, on_device, tau, options);
}

/// One draw an element of p.
template <class T, class S, class C>
[[nodiscard]] variable<T, S, C> sample_actions(variable<T, S, C> const& p, policy_options options) {
  auto& context = p.context();
  auto actions = make_variable<T>(context, p.shape());
  beta_sample(context.device(), p.size(), static_cast<T>(options.kappa), static_cast<T const*>(p.data_pointer()),
              context.next_stream(draw::action), actions.data_pointer());
  return actions;
}

/// The exponential moving average of rewards: REINFORCE's baseline, one a decision.
class moving_baseline {
 public:
  moving_baseline() = default;
  explicit moving_baseline(double decay) : decay_(decay) {}
  [[nodiscard]] double value() const { return value_; }
  [[nodiscard]] bool started() const { return started_; }
  void restore(double value, bool started) {
    value_ = value;
    started_ = started;
  }
  /// The first reward becomes the baseline, so that early advantages are not all of one sign.
  void update(double reward) {
    value_ = started_ ? decay_ * value_ + (1 - decay_) * reward : reward;
    started_ = true;
  }

 private:
  double decay_ = 0.9, value_ = 0;
  bool started_ = false;
};

}  // namespace rl
}  // namespace dvla::inline DVLA_ABI
