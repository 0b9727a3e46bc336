// The gate's policy: its range, the loss's value and gradient, and that the score function estimates the right derivative.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/nn/optimizer.hpp>
#include <dvla/rl/policy.hpp>

#include "support/poison.hpp"
#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::shape;
using dvla::tensor;
namespace rl = dvla::rl;

using column = tensor<double, shape<dyn, 1>>;

column filled(std::size_t rows, double value) {
  column out(rows);
  out.fill(value);
  return out;
}

}  // namespace

TEST_CASE("A fresh policy answers one half whatever the state") {
  rl::gate_policy<7, 16> policy;
  dvla::parameters weights(policy);
  dvla::initialise(policy, 1);
  dvla::inference<> context;
  auto const states = uniform_tensor<float>(shape<dyn, 7>(5), 1);
  auto const p = policy(context(states));
  for (std::size_t i = 0; i < 5; ++i) CHECK(p.value()(i, 0) == 0.5f);
}

TEST_CASE("The mean stays between eps and 1 - eps for any weights and states") {
  rl::gate_policy<7, 16> policy;
  dvla::parameters weights(policy);
  policy.options.eps = 0.1;
  auto const drawn = uniform_tensor<float>(shape<dyn>(weights.weights().size()), 2, -10, 10);
  for (std::size_t i = 0; i < drawn.size(); ++i) weights.weights()(i) = drawn(i);
  dvla::inference<> context;
  auto const states = uniform_tensor<float>(shape<dyn, 7>(200), 1, -1000, 1000);
  auto const p = policy(context(states));
  float lowest = 1, highest = 0;
  for (std::size_t i = 0; i < 200; ++i) {
    lowest = std::min(lowest, p.value()(i, 0));
    highest = std::max(highest, p.value()(i, 0));
  }
  CHECK(lowest >= 0.0999999f);
  CHECK(highest <= 0.9000001f);
  CHECK(highest - lowest > 0.5f);
}

TEST_CASE("Density, entropy and loss are those of the Beta distribution") {
  column p(3), a(3);
  double const ps[] = {0.2, 0.5, 0.9}, as[] = {0.1, 0.6, 0.95};
  double density = 0, entropy = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    p(i, 0) = ps[i], a(i, 0) = as[i];
    auto const beta = dvla::beta_from_mean(ps[i], 10.0);
    density += beta.log_density(as[i]) / 3, entropy += beta.entropy() / 3;
  }
  dvla::inference<> context;
  poison(context);
  auto const vp = context(p), va = context(a);
  auto const found = rl::evaluate_policy(vp, va, {});
  CHECK(std::abs(found.log_density.value()() - density) <= 1e-13);
  CHECK(std::abs(found.entropy.value()() - entropy) <= 1e-13);
  CHECK(std::abs(rl::reinforce_loss(vp, va, 1.7, 0.2, {}).value()() + 1.7 * density + 0.2 * entropy) <= 1e-13);
}

TEST_CASE("The loss has the gradient of difference quotients in the mean, alone and beside another use of it") {
  auto p = uniform_tensor<double>(shape<dyn, 1>(5), 1, 0.1, 0.9);
  auto const a = uniform_tensor<double>(shape<dyn, 1>(5), 2, 0.1, 0.9);
  for (double advantage : {1.0, -2.5, 0.0}) {
    auto const loss = [&](auto const& v) { return rl::reinforce_loss(v, v.context()(a), advantage, 0.2, {0.05, 7}); };
    CHECK(dvla::gradient_check(loss, false, p).error <= 1e-7);
    CHECK(dvla::gradient_check([&](auto const& v) { return loss(v) * 3 + sum(square(v)); }, false, p).error <= 1e-7);
  }
}

TEST_CASE("Drawn actions have the policy's mean and variance, and belong to seed and step") {
  auto const p = filled(20000, 0.3);
  dvla::inference<> context;
  context.begin_step(1, 5);
  auto const a = rl::sample_actions(context(p), {0.05, 10});
  double mean = 0, squares = 0;
  for (std::size_t i = 0; i < 20000; ++i) {
    double const x = a.value()(i, 0);
    REQUIRE(x > 0);
    REQUIRE(x < 1);
    mean += x / 20000;
    squares += (x - 0.3) * (x - 0.3) / 20000;
  }
  double const variance = 0.3 * 0.7 / 11;
  CHECK(std::abs(mean - 0.3) < 5 * std::sqrt(variance / 20000));
  CHECK(std::abs(squares / variance - 1) < 0.1);
  context.begin_step(1, 5);
  CHECK(same_bits(20000, rl::sample_actions(context(p), {0.05, 10}).data_pointer(), a.data_pointer()));
  auto const other = rl::sample_actions(context(p), {0.05, 10});
  CHECK_FALSE(same_bits(20000, other.data_pointer(), a.data_pointer()));
}

TEST_CASE("The mean score-function gradient is the derivative of the expected reward, with any baseline") {
  // R(a) = a^2: E[R] = var + p^2 with var = p (1 - p) / (kappa + 1), so dE/dp = (1 - 2 p) / (kappa + 1) + 2 p.
  double const p = 0.35, kappa = 10, expected = (1 - 2 * p) / (kappa + 1) + 2 * p;
  std::size_t const draws = 40000;
  dvla::tape<> t;
  t.begin_step(2, 0);
  auto const means = filled(draws, p);
  auto const actions = rl::sample_actions(t(means), {0.05, kappa});
  auto const single = filled(1, p);
  for (double baseline : {0.0, 0.14}) {
    double mean = 0, squares = 0;
    for (std::size_t i = 0; i < draws; ++i) {
      double const a = actions.value()(i, 0);
      auto const drawn = filled(1, a);
      auto const v = t(single), action = t(drawn);
      v.watch();
      t.backward(rl::reinforce_loss(v, action, a * a - baseline, 0, {0.05, kappa}));
      double const g = -v.gradient()(0, 0);
      mean += g / double(draws);
      squares += g * g / double(draws);
    }
    double const deviation = std::sqrt((squares - mean * mean) / double(draws));
    CAPTURE(baseline);
    CHECK(std::abs(mean - expected) < 4 * deviation);
    CHECK(deviation < 0.02 * expected);
  }
}

TEST_CASE("Gradient steps move the policy towards the actions that are rewarded, entropy holds it back") {
  auto const learned = [](double tau) {
    rl::gate_policy<3, 8> policy;
    dvla::parameters weights(policy);
    dvla::initialise(policy, 1);
    dvla::adamw optimizer(weights, 0.02);
    rl::moving_baseline baseline;
    tensor<float, shape<dyn, 3>> state(1);
    state.fill(0.5f);
    dvla::tape<> t;
    float p = 0;
    for (std::uint64_t step = 0; step < 400; ++step) {
      t.begin_step(3, step);
      weights.zero_gradients();
      auto const mean = policy(t(state));
      auto const action = rl::sample_actions(stop_gradient(mean), policy.options);
      double const reward = action.value()(0, 0);
      t.backward(rl::reinforce_loss(mean, action, reward - (baseline.started() ? baseline.value() : reward), tau, policy.options));
      optimizer.step();
      baseline.update(reward);
      p = mean.value()(0, 0);
    }
    return p;
  };
  CHECK(learned(0) > 0.75f);
  CHECK(learned(5) < 0.7f);
}

TEST_CASE("The baseline starts at the first reward and follows as an exponential average") {
  rl::moving_baseline b(0.75);
  CHECK_FALSE(b.started());
  b.update(2);
  CHECK(b.started());
  CHECK(b.value() == 2);
  b.update(4);
  CHECK(b.value() == 2.5);
  rl::moving_baseline resumed(0.75);
  resumed.restore(b.value(), b.started());
  resumed.update(0), b.update(0);
  CHECK(resumed.value() == b.value());
}

TEST_CASE("An action at an end of the interval, and a mean there, are refused") {
  dvla::inference<> context;
  auto const half = filled(1, 0.5), end = filled(1, 1.0), zero = filled(1, 0.0);
  CHECK(contains(message_of([&] { (void)rl::reinforce_loss(context(half), context(end), 1, 0, {}); }), "strictly between 0 and 1"));
  CHECK(contains(message_of([&] { (void)rl::sample_actions(context(zero), {}); }), "the mean must lie strictly between 0 and 1"));
}
