// Gradients of any function of variables against central differences, in double.
#pragma once

#include <cmath>
#include <vector>

#include <tuple>

#include <dvla/autodiff/evaluate.hpp>

namespace dvla::inline DVLA_ABI {

/// The largest disagreement found, relative to 1 + |difference quotient|, and where.
struct gradient_check_result {
  double error = 0;
  std::size_t input = 0, element = 0;
};

namespace detail {

/// sum of w_i f(x)_i with fixed weights w, so that every output element counts differently.
template <class Output>
[[nodiscard]] double weighted_sum(Output const& y, std::vector<double>& weights) {
  weights.resize(y.size());
  auto const host = y.host();
  double total = 0;
  random_stream random(0x9E37, draw::test, 1, 0);
  for (std::size_t i = 0; i < y.size(); ++i) {
    weights[i] = random.uniform(-1, 1);
    total += weights[i] * host[i];
  }
  return total;
}

}  // namespace detail

/// Compares the tape's gradient of f(variables...) with (f(x + h) - f(x - h)) / 2h for every element of every input.
/// f takes variables of tensors of double and returns one; `training` is the mode of the context, and Device where it computes.
template <class Device = cpu, class F, class... S>
[[nodiscard]] gradient_check_result gradient_check(F const& f, bool training, tensor<double, S>&... inputs) {
  auto const value = [&] {
    inference<Device> context;
    context.training(training);
    context.begin_step(1, 1);
    std::vector<double> weights;
    return detail::weighted_sum(evaluate(f(context(inputs)...)), weights);
  };
  std::vector<std::vector<double>> gradients;
  {
    tape<Device> t;
    t.training(training);
    t.begin_step(1, 1);
    auto variables = std::make_tuple(t(inputs)...);
    std::apply([](auto&... v) { (v.watch(), ...); }, variables);
    auto const y = evaluate(std::apply(f, variables));
    std::vector<double> weights;
    (void)detail::weighted_sum(y, weights);
    auto const direction = t(view<double const, typename std::remove_cvref_t<decltype(y)>::shape_type>(weights.data(), y.shape()));
    t.backward(y, direction.value());
    auto const keep = [&](auto const& v) {
      gradients.emplace_back(v.size());
      download(t.device(), v.size(), v.gradient().data, gradients.back().data());
    };
    std::apply([&](auto&... v) { (keep(v), ...); }, variables);
  }
  gradient_check_result worst;
  std::size_t index = 0;
  auto const check = [&](auto& x) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      double const kept = x.data()[i], h = 1e-5 * (1 + std::abs(kept));
      x.data()[i] = kept + h;
      double const above = value();
      x.data()[i] = kept - h;
      double const below = value();
      x.data()[i] = kept;
      double const expected = (above - below) / (2 * h);
      double const error = std::abs(gradients[index][i] - expected) / (1 + std::abs(expected));
      if (!(error <= worst.error)) worst = {error, index, i};
    }
    ++index;
  };
  (check(inputs), ...);
  return worst;
}

}  // namespace dvla::inline DVLA_ABI
