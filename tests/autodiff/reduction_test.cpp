// Reductions: values against loops, gradients against difference quotients.
#include <doctest/doctest.h>

#include <limits>

#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/autodiff/reduction.hpp>
#include <dvla/core/thread_pool.hpp>
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

TEST_CASE("Sums and means along the last axis, of variables and of fused expressions") {
  for (std::size_t n : {1u, 3u, 17u, 196u, 197u}) {
    auto x = uniform_tensor<double>(shape<dyn, dyn>(3, n), n);
    dvla::inference<> context;
    poison(context);
    auto const v = context(x);
    auto const total = sum(v), average = mean(square(v) + 1);
    CHECK(total.shape() == shape<3, 1>{});
    for (std::size_t i = 0; i < 3; ++i) {
      double s = 0, m = 0;
      for (std::size_t j = 0; j < n; ++j) s += x(i, j), m += x(i, j) * x(i, j) + 1;
      CHECK(std::abs(total.value()(i, 0) - s) <= 1e-13);
      CHECK(std::abs(average.value()(i, 0) - m / double(n)) <= 1e-13);
    }
  }
}

TEST_CASE("Sums and means along the last axis have the gradients of difference quotients") {
  auto x = uniform_tensor<double>(shape<dyn, 5>(3), 1);
  auto row = uniform_tensor<double>(shape<5>{}, 2);
  auto column = uniform_tensor<double>(shape<dyn, 1>(3), 3);
  CHECK(gradient_check([](auto const& v) { return sum(v); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& v) { return mean(tanh(v) * v); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& v, auto const& r, auto const& c) { return sum(exp(v * r) + c); }, false, x, row, column).error <= bound);
  CHECK(gradient_check([](auto const& v) { return v * mean(square(v)); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& v) { return v * rsqrt(sum(square(v)) + 1); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& c) { return sum(c * c); }, false, column).error <= bound);
  CHECK(gradient_check([](auto const& v) { return sum(square(v)); }, false, row).error <= bound);
}

TEST_CASE("Sums and means over any axis drop it") {
  auto x = uniform_tensor<double>(shape<dyn, 3, dyn>(2, 5), 1);
  dvla::inference<> context;
  poison(context);
  auto const v = context(x);
  CHECK(dvla::sum<0>(v).shape() == shape<3, 5>{});
  CHECK(dvla::mean<1>(v).shape() == shape<2, 5>{});
  CHECK(dvla::sum<2>(v).shape() == shape<2, 3>{});
  CHECK(std::abs(dvla::mean<1>(v).value()(1, 4) - (x(1, 0, 4) + x(1, 1, 4) + x(1, 2, 4)) / 3) <= 1e-15);
  CHECK(std::abs(dvla::sum<0>(v).value()(2, 3) - (x(0, 2, 3) + x(1, 2, 3))) <= 1e-15);
  CHECK(gradient_check([](auto const& u) { return dvla::sum<0>(u); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& u) { return dvla::mean<1>(square(u)); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& u) { return dvla::sum<2>(u); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& u) { return dvla::mean<0>(dvla::mean<0>(dvla::mean<0>(u * u))); }, false, x).error <= bound);
}

TEST_CASE("The maximum takes the gradient, elements that tie share it") {
  auto x = uniform_tensor<double>(shape<dyn, 7>(4), 1);
  CHECK(gradient_check([](auto const& v) { return max(v); }, false, x).error <= bound);
  tensor<double, shape<2, 4>> ties;
  double const values[] = {1, 3, 3, 2, 5, 5, 5, 5};
  std::copy_n(values, 8, ties.data());
  dvla::tape<> t;
  poison(t);
  auto const v = t(ties);
  v.watch();
  t.backward(max(v));
  double const expected[] = {0, 0.5, 0.5, 0, 0.25, 0.25, 0.25, 0.25};
  for (std::size_t i = 0; i < 8; ++i) CHECK(v.gradient().data[i] == expected[i]);
  ties(0, 1) = std::numeric_limits<double>::quiet_NaN();
  double const found = max(t(ties)).value()(0, 0);
  CHECK(found != found);
  CHECK(contains(message_of([&] { tensor<double, shape<2, 0>> const none; (void)max(t(none)); }), "no elements"));
}

TEST_CASE("Softmax rows sum to one, also for large numbers, and have the right gradient") {
  for (std::size_t n : {1u, 3u, 17u, 197u}) {
    auto x = uniform_tensor<double>(shape<dyn, dyn>(3, n), n, -5, 5);
    for (std::size_t j = 0; j < n; ++j) x(1, j) += 1000;
    dvla::inference<> context;
    auto const y = softmax(context(x));
    for (std::size_t i = 0; i < 3; ++i) {
      double total = 0, normaliser = 0;
      for (std::size_t j = 0; j < n; ++j) normaliser += std::exp(x(i, j) - x(i, 0));
      for (std::size_t j = 0; j < n; ++j) {
        total += y.value()(i, j);
        CHECK(std::abs(y.value()(i, j) - std::exp(x(i, j) - x(i, 0)) / normaliser) <= 1e-13);
      }
      CHECK(std::abs(total - 1) <= 1e-13);
    }
  }
  auto x = uniform_tensor<double>(shape<dyn, 2, 7>(3), 1, -2, 2);
  CHECK(gradient_check([](auto const& v) { return softmax(v); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& v) { return softmax(2 * v) * v; }, false, x).error <= bound);
}

TEST_CASE("log_sum_exp is stable, and its gradient is the softmax") {
  auto x = uniform_tensor<double>(shape<dyn, 7>(3), 1, -2, 2);
  CHECK(gradient_check([](auto const& v) { return log_sum_exp(v); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& v) { return v - log_sum_exp(v); }, false, x).error <= bound);
  tensor<double, shape<1, 3>> large;
  large.fill(1000);
  dvla::inference<> context;
  CHECK(std::abs(log_sum_exp(context(large)).value()(0, 0) - 1000 - std::log(3.0)) <= 1e-12);
}

TEST_CASE("Reductions and their gradients are bit-equal on one thread and three") {
  auto const a = uniform_tensor<float>(shape<dyn, 61, 131>(41), 1);
  auto const run = [&](dvla::executor* pool) {
    dvla::tape<> t(dvla::cpu{pool});
    auto const x = t(a);
    x.watch();
    auto const y = evaluate(softmax(x) * sum(square(x)) + max(x) - log_sum_exp(x) + dvla::mean<0>(x));
    t.backward(y);
    std::vector<float> all(y.value().data, y.value().data + y.size());
    all.insert(all.end(), x.gradient().data, x.gradient().data + x.size());
    return all;
  };
  dvla::thread_pool pool(3);
  CHECK(run(nullptr) == run(&pool));
}
