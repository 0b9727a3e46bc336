// BatchNorm together with what follows it, against one after the other.
#include <doctest/doctest.h>

#include <cmath>

#include <dvla/autodiff/folded_norm.hpp>
#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/expr/functions.hpp>
#include <dvla/nn/layers.hpp>

#include "support/tensors.hpp"

namespace {

using namespace dvla;

constexpr double eps = 1e-5;

/// What a BatchNorm of n channels needs, and an input of 3 x 7 rows.
struct norm_parts {
  explicit norm_parts(std::size_t n)
      : x(uniform_tensor<double>(shape<dyn, 7, dyn>(3, n), 1, -1, 2)),
        weight(uniform_tensor<double>(shape<dyn>(n), 2)),
        bias(uniform_tensor<double>(shape<dyn>(n), 3)),
        mean(uniform_tensor<double>(shape<dyn>(n), 4)),
        variance(uniform_tensor<double>(shape<dyn>(n), 5, 0.5, 2)) {}

  [[nodiscard]] running_statistics<double> running() { return {mean.data(), variance.data(), 0}; }
  tensor<double, shape<dyn, 7, dyn>> x;
  tensor<double, shape<dyn>> weight, bias, mean, variance;
};

struct norm_and_map {
  nn::batch_norm<5, double> norm;
  nn::pointwise<5, 4, double> map;
  static constexpr auto members = fields("norm", &norm_and_map::norm, "map", &norm_and_map::map);
};

template <class A, class B>
double largest_difference(A const& a, B const& b) {
  double largest = a.size() == b.size() ? 0 : HUGE_VAL;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= largest)) largest = std::abs(a[i] - b[i]);
  return largest;
}

}  // namespace

TEST_CASE("A function that follows a BatchNorm has its value in inference, in training and on a tape") {
  for (std::size_t const n : {1u, 3u, 17u, 49u}) {
    norm_parts p(n);
    auto const check = [&](auto& context) {
      auto const x = context(p.x);
      auto const w = context(p.weight), b = context(p.bias);
      auto const after = [&](auto const& y) { return 2.0 * relu(y) + x; };
      auto const expected = evaluate(after(batch_norm(x, w, b, p.running(), eps))).host();
      CHECK(largest_difference(batch_norm_followed_by(after, x, w, b, p.running(), eps).host(), expected) <= 1e-14);
      auto const rectified = evaluate(relu(batch_norm(x, w, b, p.running(), eps))).host();
      CHECK(largest_difference(batch_norm_relu(x, w, b, p.running(), eps).host(), rectified) <= 1e-14);
    };
    for (bool const training : {false, true}) {
      inference<> context;
      context.training(training);
      check(context);
      tape<> t;
      t.training(training);
      check(t);
    }
  }
}

TEST_CASE("BatchNorm with a ReLU has the gradients of difference quotients in training and in evaluation") {
  norm_parts p(3);
  auto const f = [&](auto const& x, auto const& w, auto const& b) { return batch_norm_relu(x, w, b, p.running(), eps); };
  CHECK(gradient_check(f, true, p.x, p.weight, p.bias).error <= 1e-7);
  CHECK(gradient_check(f, false, p.x, p.weight, p.bias).error <= 1e-7);
}

TEST_CASE("A pointwise map takes a normalisation that is still to be applied") {
  norm_and_map model;
  parameters weights(model);
  initialise(model, 1);
  auto const x = uniform_tensor<double>(shape<dyn, 5>(9), 2, -1, 3);
  for (bool const training : {false, true}) {
    inference<> context;
    context.training(training);
    auto const in = context(x);
    auto const expected = evaluate(gelu(model.map(model.norm(in)))).host();
    CHECK(largest_difference(model.map(model.norm.before_map(in), gelu(accumulator)).host(), expected) <= 1e-14);
    auto const plain = model.map(model.norm(in)).host();
    CHECK(largest_difference(model.map(model.norm.before_map(in)).host(), plain) <= 1e-14);
  }
}
