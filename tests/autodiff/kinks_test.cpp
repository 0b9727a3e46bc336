// Derivatives beside and at kinks, and of powers with a number on one side.
#include <doctest/doctest.h>

#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/expr/functions.hpp>

#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::gradient_check;
using dvla::shape;
using dvla::tensor;

constexpr double bound = 1e-7;

/// The error of f's gradient over numbers in [low, high), none nearer than 0.01 to a multiple of 0.5, where kinks lie.
template <class F>
double unary(F const& f, double low, double high) {
  double worst = 0;
  for (std::size_t n : {1u, 3u, 17u}) {
    auto x = uniform_tensor<double>(shape<dyn>(n), n, low, high);
    for (std::size_t i = 0; i < n; ++i)
      if (std::abs(std::remainder(x(i), 0.5)) < 0.01) x(i) += 0.02;
    worst = std::max(worst, gradient_check(f, false, x).error);
  }
  return worst;
}

}  // namespace

TEST_CASE("The gradients of functions with kinks equal difference quotients beside them") {
  CHECK(unary([](auto const& x) { return abs(x); }, -2, 2) <= bound);
  CHECK(unary([](auto const& x) { return relu(x); }, -2, 2) <= bound);
  CHECK(unary([](auto const& x) { return clamp(x, -0.5, 1); }, -2, 2) <= bound);
  CHECK(unary([](auto const& x) { return maximum(x, 0.5); }, -2, 2) <= bound);
  CHECK(unary([](auto const& x) { return minimum(0.5, x); }, -2, 2) <= bound);
  CHECK(unary([](auto const& x) { return select(x > 0.5, square(x), 3 * x); }, -2, 2) <= bound);
  CHECK(unary([](auto const& x) { return x * (x < 0.5) + 2 * x * (x >= 0.5); }, -2, 2) <= bound);
}

TEST_CASE("A number on either side of a power has no gradient, its partner has") {
  CHECK(unary([](auto const& x) { return pow(x, 3); }, -2, 2) <= bound);
  CHECK(unary([](auto const& x) { return pow(x, -1.5); }, 0.5, 2) <= bound);
  CHECK(unary([](auto const& x) { return pow(2, x); }, -2, 2) <= bound);
}

TEST_CASE("At a kink the derivative is the documented one") {
  tensor<double, shape<3>> zeros, ones;
  ones.fill(1);
  dvla::tape<> t;
  auto const slope = [&](auto const& f) {
    auto const x = t(zeros);
    x.watch();
    t.backward(evaluate(f(x)));
    return x.gradient()(2);
  };
  CHECK(slope([](auto const& x) { return abs(x); }) == 0);
  CHECK(slope([](auto const& x) { return relu(x); }) == 0);
  CHECK(slope([](auto const& x) { return maximum(x, 0); }) == 1);
  CHECK(slope([](auto const& x) { return minimum(0, x); }) == 0);
  CHECK(slope([](auto const& x) { return pow(x, 1); }) == 1);
  CHECK(slope([](auto const& x) { return pow(x, 0); }) == 0);
  CHECK(slope([](auto const& x) { return pow(x, 2); }) == 0);
}

