// Optimizers over a model's flat buffer against a plain reimplementation, groups, clipping and averaging.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <dvla/autodiff/matmul.hpp>
#include <dvla/autodiff/reduction.hpp>
#include <dvla/nn/layers.hpp>
#include <dvla/nn/optimizer.hpp>

#include "support/tensors.hpp"

namespace {

using dvla::shape;
namespace nn = dvla::nn;

struct model {
  nn::linear<7, 5, double> body;
  nn::batch_norm<5, double> norm;
  nn::linear<5, 3, double> head;
  static constexpr auto members = dvla::fields("body", &model::body, "norm", &model::norm, "head", &model::head);
};

/// A bound, initialised model whose gradients are drawn anew each step.
struct fixture {
  model net;
  dvla::parameters<double> weights{net};
  fixture() { dvla::initialise(net, 3); }

  void draw_gradients(std::uint64_t step) {
    for (auto const& e : weights.entries()) {
      if (e.kind != dvla::role::weight) continue;
      auto const g = uniform_tensor<double>(shape<dvla::dyn>(e.count), step * 100 + e.offset);
      for (std::size_t i = 0; i < e.count; ++i) weights.gradients()(e.offset + i) = g(i);
    }
  }
};

/// The hyper-parameters a plain reimplementation gives each parameter.
struct settings {
  double lr, decay;
};

settings of(std::string const& name, std::vector<dvla::parameter_group> const& groups) {
  for (auto const& g : groups)
    if (name.rfind(g.prefix, 0) == 0) return {g.lr, g.weight_decay};
  return {0, 0};
}

std::vector<dvla::parameter_group> const groups{{"head.weight", 0.01, 0.1}, {"norm", 0, 0.5}, {"", 0.001, 0.02}};

}  // namespace

TEST_CASE("AdamW with groups follows its formula element by element; a frozen group and the padding stay") {
  fixture f;
  dvla::adamw optimizer(f.weights, groups, {0.8, 0.95, 1e-6});
  std::map<std::size_t, double> p, m, v;
  for (std::size_t i = 0; i < f.weights.weights().size(); ++i) p[i] = f.weights.weights()(i);
  for (int step = 1; step <= 7; ++step) {
    f.draw_gradients(static_cast<std::uint64_t>(step));
    double const scale = step % 2 ? 1 : 0.5;
    optimizer.step(scale);
    for (auto const& e : f.weights.entries()) {
      auto const [lr, decay] = of(e.name, groups);
      if (e.kind != dvla::role::weight || lr == 0) continue;
      for (std::size_t i = e.offset; i < e.offset + e.count; ++i) {
        double const g = f.weights.gradients()(i);
        p[i] *= 1 - lr * scale * decay;
        m[i] = 0.8 * m[i] + 0.2 * g;
        v[i] = 0.95 * v[i] + 0.05 * g * g;
        double const corrected = std::sqrt(v[i] / (1 - std::pow(0.95, step)));
        p[i] -= lr * scale * m[i] / (1 - std::pow(0.8, step)) / (corrected + 1e-6);
      }
    }
  }
  double worst = 0;
  for (auto const& [i, value] : p) worst = std::max(worst, std::abs(f.weights.weights()(i) - value));
  CHECK(worst <= 1e-13);
  for (std::size_t i = 0; i < 5; ++i) CHECK(f.net.norm.weight.data()[i] == 1);
  CHECK(optimizer.steps() == 7);
}

TEST_CASE("SGD with momentum, Nesterov or neither follows its formula") {
  for (int kind = 0; kind < 3; ++kind) {
    fixture f;
    double const momentum = kind == 0 ? 0 : 0.9;
    dvla::sgd optimizer(f.weights, groups, momentum, kind == 2);
    std::map<std::size_t, double> p, b;
    for (std::size_t i = 0; i < f.weights.weights().size(); ++i) p[i] = f.weights.weights()(i);
    for (int step = 1; step <= 5; ++step) {
      f.draw_gradients(static_cast<std::uint64_t>(step));
      optimizer.step();
      for (auto const& e : f.weights.entries()) {
        auto const [lr, decay] = of(e.name, groups);
        if (e.kind != dvla::role::weight || lr == 0) continue;
        for (std::size_t i = e.offset; i < e.offset + e.count; ++i) {
          double const g = f.weights.gradients()(i) + decay * p[i];
          b[i] = momentum * b[i] + g;
          p[i] -= lr * (kind == 2 ? g + momentum * b[i] : b[i]);
        }
      }
    }
    double worst = 0;
    for (auto const& [i, value] : p) worst = std::max(worst, std::abs(f.weights.weights()(i) - value));
    CHECK(worst <= 1e-13);
  }
}

TEST_CASE("An optimizer that resumes with its moments and step count goes on bit for bit") {
  fixture a, b;
  dvla::adamw first(a.weights, 0.01, 0.1), second(b.weights, 0.01, 0.1);
  for (std::uint64_t step = 1; step <= 3; ++step) a.draw_gradients(step), first.step();
  std::copy_n(a.weights.weights().data(), a.weights.weights().size(), b.weights.weights().data());
  std::copy_n(first.first_moments().data(), first.first_moments().size(), second.first_moments().data());
  std::copy_n(first.second_moments().data(), first.second_moments().size(), second.second_moments().data());
  second.steps(first.steps());
  a.draw_gradients(4), b.draw_gradients(4);
  first.step(), second.step();
  CHECK(same_bits(a.weights.weights().size(), a.weights.weights().data(), b.weights.weights().data()));
}

TEST_CASE("A prefix that fits nothing and a parameter in no group are refused by name") {
  fixture f;
  CHECK(contains(message_of([&] { dvla::adamw<double> o(f.weights, {{"tail", 1, 0}, {"", 1, 0}}); }),
                 "no parameter's name begins with \"tail\""));
  CHECK(contains(message_of([&] { dvla::adamw<double> o(f.weights, {{"body", 1, 0}, {"norm", 1, 0}}); }),
                 "parameter head.weight is in no group"));
  CHECK(contains(message_of([&] { dvla::sgd<double> o(f.weights, {{"body", 1, 0}}); }), "parameter norm.weight is in no group"));
}

TEST_CASE("Parameters without memory for gradients are refused") {
  dvla::nn::linear<3, 5, double> layer;
  dvla::parameters weights(layer, dvla::cpu{}, dvla::gradient_memory::none);
  CHECK(contains(message_of([&] { dvla::adamw<double> o(weights, 1); }), "have no memory for gradients"));
}

TEST_CASE("A parameter group that an earlier one covers wholly is refused with the reason") {
  fixture f;
  std::string const message = message_of([&] { dvla::adamw<double> o(f.weights, {{"", 1, 0}, {"head", 1, 0}}); });
  CHECK(contains(message, "\"head\""));
  CHECK(contains(message, "earlier group"));
}

TEST_CASE("Clipping scales a long gradient to the limit, leaves a short one, and refuses one that is not finite") {
  fixture f;
  f.draw_gradients(1);
  double squares = 0;
  for (std::size_t i = 0; i < f.weights.gradients().size(); ++i) squares += f.weights.gradients()(i) * f.weights.gradients()(i);
  auto const before = f.weights.gradients().clone();
  CHECK(std::abs(clip_gradients(f.weights, 1e9) - std::sqrt(squares)) <= 1e-12);
  CHECK(same_bits(before.size(), before.data(), f.weights.gradients().data()));
  CHECK(std::abs(clip_gradients(f.weights, 0.5) - std::sqrt(squares)) <= 1e-12);
  for (std::size_t i = 0; i < before.size(); ++i)
    CHECK(std::abs(f.weights.gradients()(i) - before(i) * 0.5 / std::sqrt(squares)) <= 1e-15);
  f.weights.gradients()(3) = std::numeric_limits<double>::quiet_NaN();
  CHECK(contains(message_of([&] { (void)clip_gradients(f.weights, 1); }), "not finite"));
  f.weights.gradients()(3) = std::numeric_limits<double>::infinity();
  CHECK(contains(message_of([&] { (void)clip_gradients(f.weights, 1); }), "not finite"));
}

TEST_CASE("A weight average starts at the weights and follows them at its pace") {
  fixture f;
  dvla::weight_average average(f.weights, 0.75);
  auto expected = f.weights.weights().clone();
  CHECK(same_bits(expected.size(), expected.data(), average.average().data()));
  for (int step = 0; step < 4; ++step) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      f.weights.weights()(i) += 0.1;
      expected(i) = 0.75 * expected(i) + 0.25 * f.weights.weights()(i);
    }
    average.update();
  }
  CHECK(distance(expected.size(), average.average().data(), expected.data()) <= 1e-15);
}

TEST_CASE("Training moves a model to the least squares solution") {
  nn::linear<3, 1, double> layer;
  dvla::parameters weights(layer);
  dvla::initialise(layer, 1);
  dvla::adamw optimizer(weights, 0.05);
  auto const x = uniform_tensor<double>(shape<dvla::dyn, 3>(32), 1);
  dvla::tensor<double, shape<dvla::dyn, 1>> target(32);
  for (std::size_t i = 0; i < 32; ++i) target(i, 0) = 2 * x(i, 0) - x(i, 1) + 0.5 * x(i, 2) + 3;
  dvla::tape<> t;
  for (int step = 0; step < 600; ++step) {
    weights.zero_gradients();
    auto const y = t(target);
    t.backward(dvla::mean<0>(square(layer(t(x)) - y)));
    optimizer.step(step < 400 ? 1 : 0.1);
  }
  CHECK(std::abs(layer.weight.data()[0] - 2) <= 1e-3);
  CHECK(std::abs(layer.weight.data()[1] + 1) <= 1e-3);
  CHECK(std::abs(layer.bias.data()[0] - 3) <= 1e-3);
}
