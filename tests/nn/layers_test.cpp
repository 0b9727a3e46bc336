// Layers: initial distributions, values against formulas, drop-path.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <dvla/autodiff/reduction.hpp>
#include <dvla/core/thread_pool.hpp>
#include <dvla/nn/drop_path.hpp>
#include <dvla/nn/layers.hpp>

#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::shape;
using dvla::tensor;
namespace nn = dvla::nn;

struct statistics {
  double mean = 0, deviation = 0, largest = 0;
};

template <class P>
statistics statistics_of(P const& p) {
  statistics s;
  auto const n = static_cast<double>(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) {
    s.mean += p.data()[i] / n;
    s.deviation += p.data()[i] * p.data()[i] / n;
    s.largest = std::max(s.largest, static_cast<double>(std::abs(p.data()[i])));
  }
  s.deviation = std::sqrt(s.deviation);
  return s;
}

/// Whether numbers are normal with mean 0 and this deviation, as far as their moments tell.
template <class P>
bool is_normal(P const& p, double deviation) {
  auto const s = statistics_of(p);
  double const n = static_cast<double>(p.size());
  return std::abs(s.mean) < 5 * deviation / std::sqrt(n) && std::abs(s.deviation / deviation - 1) < 5 / std::sqrt(2 * n) &&
         s.largest > 2.5 * deviation && s.largest < 7 * deviation;
}

template <class P>
bool is_uniform(P const& p, double limit) {
  auto const s = statistics_of(p);
  double const n = static_cast<double>(p.size());
  return s.largest <= limit && s.largest > 0.98 * limit && std::abs(s.mean) < 5 * limit / std::sqrt(3 * n) &&
         std::abs(s.deviation * std::sqrt(3.0) / limit - 1) < 5 / std::sqrt(n);
}

}  // namespace

TEST_CASE("Layers start with the published distributions") {
  nn::linear<96, 80> linear;
  nn::projection<dyn, 80> open(120);
  nn::pointwise<96, 80> pointwise;
  nn::conv2d<32, 64, 3, dvla::convolution_options{.groups = 4}> conv;
  nn::conv2d_bias<16, 48, 4> biased;
  nn::batch_norm<80> norm;
  nn::layer_norm<80> layer;
  dvla::parameters a(linear), b(open), c(pointwise), d(conv), e(biased), f(norm), g(layer);
  dvla::initialise(linear, 1), dvla::initialise(open, 1), dvla::initialise(pointwise, 1), dvla::initialise(conv, 1);
  dvla::initialise(biased, 1), dvla::initialise(norm, 1), dvla::initialise(layer, 1);
  CHECK(is_uniform(linear.weight, 1 / std::sqrt(96.0)));
  CHECK(statistics_of(linear.bias).largest <= 1 / std::sqrt(96.0));
  CHECK(is_uniform(open.weight, 1 / std::sqrt(120.0)));
  CHECK(is_normal(pointwise.weight, std::sqrt(2.0 / 80)));
  CHECK(is_normal(conv.weight, std::sqrt(2.0 / (64 * 9))));
  CHECK(is_normal(biased.weight, std::sqrt(2.0 / (48 * 16))));
  CHECK(statistics_of(biased.bias).largest == 0);
  for (std::size_t i = 0; i < 80; ++i) {
    CHECK(norm.weight.data()[i] == 1);
    CHECK(norm.bias.data()[i] == 0);
    CHECK(norm.running_mean.data()[i] == 0);
    CHECK(norm.running_var.data()[i] == 1);
    CHECK(layer.weight.data()[i] == 1);
  }
}

TEST_CASE("A linear layer maps one vector, a batch and tokens") {
  nn::linear<5, 3> layer;
  dvla::parameters weights(layer);
  dvla::initialise(layer, 1);
  dvla::tape<> t;
  auto const one = uniform_tensor<float>(shape<5>{}, 1);
  auto const tokens = uniform_tensor<float>(shape<dyn, 4, 5>(2), 2);
  auto const y = evaluate(layer(t(one)));
  CHECK(y.shape() == shape<3>{});
  auto const element = [&](auto const& x, std::size_t o) {
    float total = layer.bias.data()[o];
    for (std::size_t k = 0; k < 5; ++k) total += layer.weight.data()[o * 5 + k] * x(k);
    return total;
  };
  for (std::size_t o = 0; o < 3; ++o) CHECK(std::abs(y.value()(o) - element(one, o)) <= 1e-6);
  auto const many = evaluate(layer(t(tokens)));
  CHECK(many.shape() == shape<2, 4, 3>{});
  CHECK(std::abs(many.value()(1, 3, 2) - element(tokens.view_of()[1][3], 2)) <= 1e-6);
  t.backward(y);
  for (std::size_t o = 0; o < 3; ++o) {
    CHECK(layer.bias.gradient()[o] == 1);
    for (std::size_t k = 0; k < 5; ++k) CHECK(layer.weight.gradient()[o * 5 + k] == one(k));
  }
}

TEST_CASE("A layer with an open number of outputs has those of its constructor") {
  nn::linear<5, dyn> layer(11);
  dvla::parameters weights(layer);
  dvla::initialise(layer, 1);
  dvla::inference<> context;
  auto const x = uniform_tensor<float>(shape<dyn, 5>(2), 1);
  CHECK(evaluate(layer(context(x))).shape() == shape<2, 11>{});
  CHECK(weights.count() == 66);
}

TEST_CASE("BatchNorm's running statistics follow the batches of training only") {
  nn::batch_norm<2> norm;
  dvla::parameters weights(norm);
  dvla::initialise(norm, 1);
  tensor<float, shape<4, 2>> x;
  for (std::size_t i = 0; i < 4; ++i) x(i, 0) = static_cast<float>(i), x(i, 1) = 5;
  dvla::inference<> context;
  context.training(true);
  double mean = 0, variance = 1, other = 1;
  for (int step = 0; step < 3; ++step) {
    (void)norm(context(x));
    mean = 0.9 * mean + 0.1 * 1.5, variance = 0.9 * variance + 0.1 * 5.0 / 3, other *= 0.9;
    CHECK(std::abs(norm.running_mean.data()[0] - mean) <= 1e-6);
    CHECK(std::abs(norm.running_var.data()[0] - variance) <= 1e-6);
    CHECK(std::abs(norm.running_var.data()[1] - other) <= 1e-6);
  }
  context.training(false);
  auto const y = norm(context(x));
  CHECK(std::abs(norm.running_mean.data()[0] - mean) <= 1e-6);
  CHECK(std::abs(y.value()(2, 0) - (2 - mean) / std::sqrt(variance + 1e-5)) <= 1e-5);
}

TEST_CASE("In evaluation, and at rate zero, a residual branch is simply added") {
  auto const x = uniform_tensor<float>(shape<dyn, 3>(8), 1), branch = uniform_tensor<float>(shape<dyn, 3>(8), 2);
  dvla::inference<> context;
  context.begin_step(1, 1);
  for (double rate : {0.0, 0.5}) {
    context.training(rate == 0);
    auto const y = nn::residual(context(x), context(branch), rate);
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(y.value().data[i] == x.data()[i] + branch.data()[i]);
  }
}

TEST_CASE("In training a branch is kept whole and scaled, or dropped whole, with the given rate") {
  std::size_t const samples = 20000;
  tensor<float, shape<dyn, 2, 2>> x(samples), branch(samples);
  x.fill(1), branch.fill(3);
  dvla::inference<> context;
  context.training(true);
  for (double rate : {0.1, 0.5}) {
    context.begin_step(4, 9);
    auto const y = nn::residual(context(x), context(branch), rate);
    double kept = 0;
    bool whole = true;
    auto const scaled = static_cast<float>(1 + 3 * static_cast<float>(1 / (1 - rate)));
    for (std::size_t i = 0; i < samples; ++i) {
      bool const is_kept = y.value()(i, 0, 0) != 1;
      kept += is_kept;
      for (std::size_t k = 0; k < 4; ++k) whole = whole && std::abs(y.value()(i, k / 2, k % 2) - (is_kept ? scaled : 1)) <= 1e-6;
    }
    CHECK(whole);
    CHECK(std::abs(kept / double(samples) - (1 - rate)) < 5 * std::sqrt(rate * (1 - rate) / double(samples)));
  }
}

TEST_CASE("The same step drops the same branches on any number of threads, another step or call others") {
  tensor<float, shape<dyn, 1>> x(40000), branch(40000);
  branch.fill(1);
  auto const mask = [&](dvla::executor* pool, std::uint64_t step, int call) {
    dvla::inference<> context(dvla::cpu{pool});
    context.training(true);
    context.begin_step(4, step);
    for (int i = 0; i < call; ++i) (void)nn::residual(context(x), context(branch), 0.5);
    auto const y = nn::residual(context(x), context(branch), 0.5);
    return std::vector<float>(y.value().data, y.value().data + y.size());
  };
  dvla::thread_pool pool(3);
  auto const first = mask(nullptr, 7, 0);
  CHECK(mask(&pool, 7, 0) == first);
  CHECK(mask(nullptr, 8, 0) != first);
  CHECK(mask(nullptr, 7, 1) != first);
}

TEST_CASE("Gradients pass a dropped branch by") {
  tensor<float, shape<dyn, 3>> x(64), branch(64);
  branch.fill(2);
  dvla::tape<> t;
  t.training(true);
  t.begin_step(1, 2);
  auto const v = t(x), b = t(branch);
  v.watch(), b.watch();
  auto const y = nn::residual(v, b, 0.5);
  t.backward(y);
  for (std::size_t i = 0; i < y.size(); ++i) {
    CHECK(v.gradient().data[i] == 1);
    CHECK(b.gradient().data[i] == y.value().data[i] / 2);
  }
}

TEST_CASE("A rate of one is refused in training") {
  tensor<float, shape<dyn, 3>> const x(4);
  dvla::inference<> context;
  context.training(true);
  CHECK(contains(message_of([&] { (void)nn::residual(context(x), context(x), 1.0); }), "a rate of 1 would drop every branch"));
}
