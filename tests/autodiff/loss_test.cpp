// Cross-entropy: values against its formula, gradients against difference quotients, bad labels.
#include <doctest/doctest.h>

#include <vector>

#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/autodiff/loss.hpp>
#include <dvla/expr/functions.hpp>

#include "support/poison.hpp"
#include "support/tensors.hpp"

namespace {

using dvla::cross_entropy;
using dvla::dyn;
using dvla::gradient_check;
using dvla::shape;
using dvla::tensor;

constexpr double bound = 1e-7;

/// - mean over rows of sum_c target(r, c) log softmax(x)(r, c).
template <class X, class F>
double reference(X const& x, F const& target) {
  double total = 0;
  for (std::size_t r = 0; r < x.shape()[0]; ++r) {
    double normaliser = 0;
    for (std::size_t c = 0; c < x.shape()[1]; ++c) normaliser += std::exp(x(r, c) - x(r, 0));
    for (std::size_t c = 0; c < x.shape()[1]; ++c) total -= target(r, c) * (x(r, c) - x(r, 0) - std::log(normaliser));
  }
  return total / static_cast<double>(x.shape()[0]);
}

}  // namespace

TEST_CASE("Cross-entropy of labels, with and without smoothing, has the value of its formula") {
  for (std::size_t classes : {2u, 5u, 17u, 197u}) {
    auto const x = uniform_tensor<double>(shape<dyn, dyn>(7, classes), classes, -4, 4);
    std::vector<std::uint32_t> labels(7);
    for (std::size_t i = 0; i < 7; ++i) labels[i] = static_cast<std::uint32_t>(i * 3 % classes);
    dvla::inference<> context;
    poison(context);
    for (double smoothing : {0.0, 0.1}) {
      auto const target = [&](std::size_t r, std::size_t c) { return (1 - smoothing) * (labels[r] == c) + smoothing / double(classes); };
      CHECK(std::abs(cross_entropy(context(x), labels, smoothing).value()() - reference(x, target)) <= 1e-12);
    }
  }
}

TEST_CASE("Cross-entropy of soft targets has the value of its formula") {
  auto const x = uniform_tensor<double>(shape<dyn, 5>(7), 1, -4, 4), targets = uniform_tensor<double>(shape<dyn, 5>(7), 2, 0, 1);
  dvla::inference<> context;
  double const expected = reference(x, [&](auto r, auto c) { return targets(r, c); });
  CHECK(std::abs(cross_entropy(context(x), targets.view_of()).value()() - expected) <= 1e-12);
  auto writable = targets.clone();
  CHECK(std::abs(cross_entropy(context(x), writable).value()() - expected) <= 1e-12);
  CHECK(std::abs(cross_entropy(context(x), writable.view_of()).value()() - expected) <= 1e-12);
}

TEST_CASE("Cross-entropy has the gradients of difference quotients") {
  auto x = uniform_tensor<double>(shape<dyn, 5>(4), 1, -2, 2);
  auto const targets = uniform_tensor<double>(shape<dyn, 5>(4), 2, 0, 1);
  std::vector<std::uint32_t> const labels{0, 4, 2, 2};
  CHECK(gradient_check([&](auto const& v) { return cross_entropy(v, labels); }, false, x).error <= bound);
  CHECK(gradient_check([&](auto const& v) { return cross_entropy(v, labels, 0.1); }, false, x).error <= bound);
  CHECK(gradient_check([&](auto const& v) { return cross_entropy(v * v, targets.view_of()); }, false, x).error <= bound);
  CHECK(gradient_check([&](auto const& v) { return cross_entropy(v, labels) * 3 + cross_entropy(v, targets.view_of()); }, false, x).error <= bound);
}

TEST_CASE("Labels need not outlive the call, and large logits do not overflow") {
  tensor<double, shape<dyn, 3>> x(2);
  x(0, 0) = 1000, x(1, 2) = -1000;
  dvla::tape<> t;
  poison(t);
  auto const v = t(x);
  v.watch();
  auto const loss = [&] { return cross_entropy(v, std::vector<std::uint32_t>{1, 2}); }();
  CHECK(std::abs(loss.value()() - (1000 + 1000 + std::log(2.0)) / 2) <= 1e-9);
  t.backward(loss);
  CHECK(v.gradient()(0, 0) == 0.5);
  CHECK(v.gradient()(0, 1) == -0.5);
  CHECK(v.gradient()(1, 2) == -0.5);
}

TEST_CASE("Labels that do not fit the logits are named") {
  tensor<double, shape<dyn, dyn>> const x(2, 3), none(0, 3);
  tensor<double, shape<dyn, dyn>> const targets(2, 4);
  dvla::inference<> context;
  CHECK(contains(message_of([&] { (void)cross_entropy(context(x), std::vector<std::uint32_t>{0, 3}); }), "label 3 for 3 classes"));
  CHECK(contains(message_of([&] { (void)cross_entropy(context(x), std::vector<std::uint32_t>{0}); }), "1 labels for logits (2, 3)"));
  CHECK(contains(message_of([&] { (void)cross_entropy(context(none), std::vector<std::uint32_t>{}); }), "(0, 3) are empty"));
  CHECK(contains(message_of([&] { (void)cross_entropy(context(x), targets.view_of()); }), "(2, 4)"));
}
