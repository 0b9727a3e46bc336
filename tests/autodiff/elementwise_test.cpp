// The derivative of every element-wise function against central differences in double.
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

/// The error of f's gradient over numbers in [low, high).
template <class F>
double unary(F const& f, double low, double high) {
  double worst = 0;
  for (std::size_t n : {1u, 3u, 17u}) {
    auto x = uniform_tensor<double>(shape<dyn>(n), n, low, high);
    worst = std::max(worst, gradient_check(f, false, x).error);
  }
  return worst;
}

template <class F>
double binary(F const& f, double low, double high) {
  auto a = uniform_tensor<double>(shape<dyn>(17), 1, low, high), b = uniform_tensor<double>(shape<dyn>(17), 2, low, high);
  for (std::size_t i = 0; i < 17; ++i)
    if (std::abs(a(i) - b(i)) < 0.01) b(i) += 0.02;
  return gradient_check(f, false, a, b).error;
}

}  // namespace

TEST_CASE("The gradients of smooth functions equal difference quotients") {
  CHECK(unary([](auto const& x) { return exp(x); }, -2, 2) <= bound);
  CHECK(unary([](auto const& x) { return log(x); }, 0.3, 3) <= bound);
  CHECK(unary([](auto const& x) { return sqrt(x); }, 0.3, 3) <= bound);
  CHECK(unary([](auto const& x) { return rsqrt(x); }, 0.3, 3) <= bound);
  CHECK(unary([](auto const& x) { return square(x); }, -2, 2) <= bound);
  CHECK(unary([](auto const& x) { return tanh(x); }, -2, 2) <= bound);
  CHECK(unary([](auto const& x) { return sigmoid(x); }, -4, 4) <= bound);
  CHECK(unary([](auto const& x) { return erf(x); }, -2, 2) <= bound);
  CHECK(unary([](auto const& x) { return gelu(x); }, -4, 4) <= bound);
  CHECK(unary([](auto const& x) { return quick_gelu(x); }, -4, 4) <= bound);
  CHECK(unary([](auto const& x) { return -x; }, -2, 2) <= bound);
}

TEST_CASE("The gradients of operators reach both sides") {
  CHECK(binary([](auto const& a, auto const& b) { return a + b; }, -2, 2) <= bound);
  CHECK(binary([](auto const& a, auto const& b) { return a - b; }, -2, 2) <= bound);
  CHECK(binary([](auto const& a, auto const& b) { return a * b; }, -2, 2) <= bound);
  CHECK(binary([](auto const& a, auto const& b) { return a / b; }, 0.5, 2) <= bound);
  CHECK(binary([](auto const& a, auto const& b) { return pow(a, b); }, 0.5, 2) <= bound);
  CHECK(binary([](auto const& a, auto const& b) { return maximum(a, b); }, -2, 2) <= bound);
  CHECK(binary([](auto const& a, auto const& b) { return minimum(a, b); }, -2, 2) <= bound);
  CHECK(binary([](auto const& a, auto const& b) { return select(a < b, a * b, a - b); }, -2, 2) <= bound);
  CHECK(binary([](auto const& a, auto const& b) { return 2 / a - 1 / (b * b); }, 0.5, 2) <= bound);
}

TEST_CASE("Fused expressions have the gradients of difference quotients in every leaf") {
  auto a = uniform_tensor<double>(shape<dyn, 7>(3), 1), b = uniform_tensor<double>(shape<dyn, 7>(3), 2, 0.5, 2);
  auto const f = [](auto const& x, auto const& y) { return gelu(x * 0.7 + y) * tanh(y) + exp(-square(x)) / (1 + sigmoid(x * y)) - log(y); };
  CHECK(gradient_check(f, false, a, b).error <= bound);
  auto const uses = [](auto const& x, auto const& y) { return (x + x * x) * (x - y) / (y + y * y * x * x); };
  CHECK(gradient_check(uses, false, a, b).error <= bound);
}
