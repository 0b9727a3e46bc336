// Gradients of leaves that broadcast, and of constants beside them.
#include <doctest/doctest.h>

#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/expr/functions.hpp>

#include "support/poison.hpp"
#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::gradient_check;
using dvla::shape;
using dvla::tensor;

constexpr double bound = 1e-7;

}  // namespace

TEST_CASE("Broadcast leaves of every kind have the gradients of difference quotients") {
  auto x = uniform_tensor<double>(shape<dyn, 3, dyn>(2, 5), 1, 0.5, 2);
  auto row = uniform_tensor<double>(shape<dyn>(5), 2);
  auto per_row = uniform_tensor<double>(shape<dyn, 3, 1>(2), 3);
  auto per_sample = uniform_tensor<double>(shape<dyn, 1, 1>(2), 4);
  auto plane = uniform_tensor<double>(shape<3, dyn>(5), 5);
  auto column = uniform_tensor<double>(shape<3, 1>{}, 6);
  auto scalar = uniform_tensor<double>(shape<>{}, 7);
  auto one = uniform_tensor<double>(shape<1>{}, 8);
  auto const f = [](auto const& v, auto const& r, auto const& pr, auto const& ps, auto const& p, auto const& c, auto const& s, auto const& o) {
    return tanh(v * r + pr) * ps + sigmoid(p * c - v) / (s * s + 1) + square(o) * v;
  };
  CHECK(gradient_check(f, false, x, row, per_row, per_sample, plane, column, scalar, one).error <= bound);
}

TEST_CASE("Leaves that only meet each other by broadcasting have the right gradients") {
  auto column = uniform_tensor<double>(shape<dyn, 1>(7), 1);
  auto row = uniform_tensor<double>(shape<5>{}, 2);
  CHECK(gradient_check([](auto const& c, auto const& r) { return c * r + tanh(c); }, false, column, row).error <= bound);
  CHECK(gradient_check([](auto const& c, auto const& r) { return exp(c - r) * r; }, false, column, row).error <= bound);
}

TEST_CASE("Constants inside an expression get no gradient and cost none") {
  auto x = uniform_tensor<double>(shape<dyn, 5>(4), 1);
  auto const weights = uniform_tensor<double>(shape<dyn, 5>(4), 2);
  auto const row = uniform_tensor<double>(shape<5>{}, 3);
  dvla::tape<> t;
  auto const v = t(x), constant = t(weights);
  auto const constant_row = t(row);
  v.watch();
  t.backward(evaluate(v * constant + constant_row * v - constant_row));
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < 5; ++j) CHECK(v.gradient()(i, j) == weights(i, j) + row(j));
  CHECK_FALSE(constant.wants_gradient());
  CHECK(contains(message_of([&] { (void)constant.gradient(); }), "has no gradient"));
  CHECK(gradient_check([&](auto const& y) { return y * weights.view_of() + row.view_of() / y; }, false, x).error <= bound);
}

TEST_CASE("An expression may broadcast as many variables as it likes") {
  auto x = uniform_tensor<double>(shape<dyn, 3>(2), 1);
  auto row = uniform_tensor<double>(shape<3>{}, 2);
  dvla::tape<> t;
  auto const v = t(x);
  auto const r = t(row);
  v.watch(), r.watch();
  t.backward(evaluate(v + r + r + r + r + r + r + r + r + r + r));
  for (std::size_t j = 0; j < 3; ++j) CHECK(r.gradient()(j) == 20);
}

TEST_CASE("An expression over no rows has gradients of zero for what it broadcasts") {
  tensor<double, shape<dyn, 3>> x(0);
  auto row = uniform_tensor<double>(shape<3>{}, 2);
  dvla::tape<> t;
  poison(t);
  auto const v = t(x);
  auto const r = t(row);
  v.watch(), r.watch();
  t.backward(evaluate(v * r));
  for (std::size_t j = 0; j < 3; ++j) CHECK(r.gradient()(j) == 0);
}
