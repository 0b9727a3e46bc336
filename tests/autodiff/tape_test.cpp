// The tape: what is recorded, what flows where, and that a step gives back all the memory it took.
#include <doctest/doctest.h>

#include <optional>
#include <vector>

#include <dvla/autodiff/matmul.hpp>
#include <dvla/autodiff/reduction.hpp>
#include <dvla/expr/functions.hpp>
#include <dvla/nn/module.hpp>

#include "support/poison.hpp"
#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::shape;
using dvla::tensor;

struct two_layers {
  dvla::parameter<shape<16, 8>> first;
  dvla::parameter<shape<4, 16>> second;
  dvla::parameter<shape<16>> bias;
  static constexpr auto members = dvla::fields("first", &two_layers::first, "second", &two_layers::second, "bias", &two_layers::bias);

  void initialise(dvla::initialiser& init) {
    init.uniform(first, 0.3);
    init.uniform(second, 0.3);
    init.uniform(bias, 0.3);
  }
  auto operator()(auto const& x) const {
    return evaluate(square(linear_map(gelu(linear_map(x, first) + bias), second)));
  }
};

}  // namespace

TEST_CASE("Gradients add up in parameters over backward passes until they are set to zero") {
  two_layers model;
  dvla::parameters weights(model);
  dvla::initialise(model, 1);
  auto const x = uniform_tensor<float>(shape<dyn, 8>(5), 1);
  dvla::tape<> t;
  poison(t);
  t.backward(model(t(x)));
  auto const once = weights.gradients().clone();
  t.backward(model(t(x)));
  double largest = 0;
  for (std::size_t i = 0; i < once.size(); ++i) {
    CHECK(std::abs(weights.gradients()(i) - 2 * once(i)) <= 1e-5f * (1 + std::abs(once(i))));
    largest = std::max(largest, static_cast<double>(std::abs(once(i))));
  }
  CHECK(largest > 0.1);
  weights.zero_gradients();
  t.backward(model(t(x)));
  CHECK(same_bits(once.size(), once.data(), weights.gradients().data()));
}

TEST_CASE("After a backward pass the arena holds what the caller's handles hold, after them nothing") {
  two_layers model;
  dvla::parameters weights(model);
  dvla::initialise(model, 1);
  auto const x = uniform_tensor<float>(shape<dyn, 8>(300), 1);
  dvla::tape<> t;
  {
    auto const loss = mean<0>(mean<0>(model(t(x))));
    std::size_t const before = t.memory().bytes_in_use();
    t.backward(loss);
    CHECK(t.memory().bytes_in_use() < before);
    CHECK(t.memory().bytes_in_use() <= 64 * 8);  // the loss: its cell, value and gradient
    CHECK(std::isfinite(loss.value()()));
  }
  CHECK(t.memory().bytes_in_use() == 0);
}

TEST_CASE("Every step gets the memory of the one before: the same addresses, the same peak, no further slab") {
  two_layers model;
  dvla::parameters weights(model);
  dvla::initialise(model, 1);
  auto const x = uniform_tensor<float>(shape<dyn, 8>(3000), 1);
  dvla::tape<> t;
  std::vector<float const*> first;
  std::size_t peak = 0;
  for (int step = 0; step < 4; ++step) {
    auto const hidden = linear_map(t(x), model.first);
    auto const y = model(t(x));
    t.backward(y);
    std::vector<float const*> const addresses{hidden.data_pointer(), y.data_pointer(), y.gradient().data};
    if (step == 0) first = addresses, peak = t.memory().peak_bytes();
    CHECK(addresses == first);
    CHECK(t.memory().peak_bytes() == peak);
    CHECK(t.memory().slab_count() == 1);
  }
  CHECK(t.memory().bytes_in_use() == 0);
}

TEST_CASE("Inference keeps nothing: the peak is that of the widest moment") {
  auto const x = uniform_tensor<float>(shape<dyn>(10000), 1);
  dvla::inference<> context;
  {
    auto y = evaluate(context(x) + 1);
    for (int i = 0; i < 20; ++i) y = evaluate(tanh(y));
  }
  CHECK(context.memory().peak_bytes() <= 2 * 40064 + 4 * 256);
  CHECK(context.memory().bytes_in_use() == 0);
}

TEST_CASE("A tape that is dropped, or cleared, in the middle gives everything back") {
  auto const x = uniform_tensor<float>(shape<dyn>(100), 1);
  dvla::tape<> t;
  {
    auto const v = t(x);
    v.watch();
    auto const y = evaluate(exp(v));
    auto const z = evaluate(y * v);  // its node keeps y
    (void)z;
  }
  CHECK(t.memory().bytes_in_use() > 0);
  t.clear();
  CHECK(t.memory().bytes_in_use() == 0);
  {
    auto const v = t(x);
    v.watch();
    auto const y = evaluate(exp(v) * v);
    (void)y;
  }
}

TEST_CASE("A value that no derivative reads goes back to the arena during the forward pass") {
  auto const x = uniform_tensor<float>(shape<dyn>(100000), 1);
  dvla::tape<> t;
  auto const v = t(x);
  v.watch();
  std::optional<dvla::variable<float, shape<dyn>, dvla::tape<>>> y = evaluate(v + 1);
  for (int i = 0; i < 10; ++i) y = evaluate(*y + 1);
  CHECK(t.memory().peak_bytes() <= 2 * 400000 + 20 * 512);
  t.backward(*y);
  CHECK(v.gradient()(99999) == 1);
}

TEST_CASE("stop_gradient lets values through and gradients not, and outlives what it came from") {
  auto const x = uniform_tensor<double>(shape<dyn>(9), 1);
  dvla::tape<> t;
  poison(t);
  auto const v = t(x);
  v.watch();
  t.backward(evaluate(v * stop_gradient(v)));
  for (std::size_t i = 0; i < 9; ++i) CHECK(v.gradient()(i) == x(i));
  auto const kept = [&] { return stop_gradient(evaluate(v * 3)); }();
  for (std::size_t i = 0; i < 9; ++i) CHECK(kept.value()(i) == x(i) * 3);
  CHECK_FALSE(kept.wants_gradient());
  CHECK(stop_gradient(stop_gradient(kept)).data_pointer() == kept.data_pointer());
}

TEST_CASE("Nothing is recorded inside no_grad, and recording goes on afterwards") {
  auto const x = uniform_tensor<double>(shape<dyn>(9), 1);
  dvla::tape<> t;
  auto const v = t(x);
  v.watch();
  {
    auto const guard = t.no_grad();
    CHECK_FALSE(t.recording());
    {
      auto const inner = t.no_grad();
    }
    CHECK_FALSE(t.recording());
    auto const y = evaluate(v * v);
    CHECK_FALSE(y.wants_gradient());
    CHECK(contains(message_of([&] { t.backward(y); }), "does not depend on any parameter or watched variable"));
  }
  CHECK(t.recording());
  auto const y = evaluate(v * v);
  t.backward(y);
  CHECK(v.gradient()(3) == 2 * x(3));
}

TEST_CASE("A frozen parameter gets no gradient and the others the same as before") {
  two_layers model;
  dvla::parameters weights(model);
  dvla::initialise(model, 1);
  auto const x = uniform_tensor<float>(shape<dyn, 8>(5), 1);
  dvla::tape<> t;
  t.backward(model(t(x)));
  std::vector<float> const second(model.second.gradient(), model.second.gradient() + model.second.size());
  for (bool first_frozen : {true, false}) {
    weights.zero_gradients();
    model.first.trainable(!first_frozen);
    model.bias.trainable(first_frozen);
    t.backward(model(t(x)));
    CHECK(same_bits(second.size(), second.data(), model.second.gradient()));
    auto const all_zero = [](auto const& p) {
      for (std::size_t i = 0; i < p.size(); ++i)
        if (p.gradient()[i] != 0) return false;
      return true;
    };
    CHECK(all_zero(model.first) == first_frozen);
    CHECK(all_zero(model.bias) == !first_frozen);
  }
  model.first.trainable(false), model.second.trainable(false), model.bias.trainable(false);
  CHECK_FALSE(model(t(x)).wants_gradient());
}

TEST_CASE("backward with a gradient given scales by it, and refuses what was not recorded") {
  auto const x = uniform_tensor<double>(shape<dyn>(5), 1), g = uniform_tensor<double>(shape<dyn>(5), 2);
  dvla::tape<> t;
  auto const v = t(x);
  CHECK(contains(message_of([&] { t.backward(evaluate(v * 2), g.view_of()); }), "does not depend on any parameter or watched variable"));
  v.watch();
  t.backward(evaluate(v * v), g.view_of());
  for (std::size_t i = 0; i < 5; ++i) CHECK(std::abs(v.gradient()(i) - 2 * x(i) * g(i)) <= 1e-15);
  tensor<double, shape<dyn>> const wrong(4);
  CHECK(contains(message_of([&] { t.backward(evaluate(v * v), wrong.view_of()); }), "(4)"));
  t.clear();
}

TEST_CASE("Branches that lead nowhere cost nothing and confuse nothing") {
  auto const x = uniform_tensor<double>(shape<dyn>(5), 1);
  dvla::tape<> t;
  poison(t);
  auto const v = t(x);
  v.watch();
  auto const unused = evaluate(exp(v));
  auto const used = evaluate(v * 3);
  auto const unused_too = evaluate(used * unused);
  t.backward(used);
  for (std::size_t i = 0; i < 5; ++i) CHECK(v.gradient()(i) == 3);
  CHECK(contains(message_of([&] { (void)unused.gradient(); }), "(5) has no gradient"));
}

TEST_CASE("A recording runs backwards once; asking again says so") {
  auto const x = uniform_tensor<double>(shape<dyn>(5), 1);
  dvla::tape<> t;
  auto const v = t(x);
  v.watch();
  auto const loss = evaluate(v * v);
  t.backward(loss);
  CHECK(contains(message_of([&] { t.backward(loss); }), "has been run backwards already; compute the loss again"));
  t.backward(evaluate(v * 2));  // a new recording on the same variable adds to its gradient
  for (std::size_t i = 0; i < 5; ++i) CHECK(std::abs(v.gradient()(i) - 2 * x(i) - 2) <= 1e-15);
}

TEST_CASE("Variables of two contexts do not meet in one expression") {
  auto const x = uniform_tensor<double>(shape<dyn>(5), 1);
  dvla::tape<> one, other;
  CHECK(contains(message_of([&] { (void)evaluate(one(x) + other(x)); }), "variables of two contexts"));
}

TEST_CASE("Reshaping shares elements and gradient") {
  auto const x = uniform_tensor<double>(shape<dyn, 6>(4), 1);
  dvla::tape<> t;
  auto const v = t(x);
  v.watch();
  auto const r = dvla::reshape(v, shape<dyn, 3>(8));
  CHECK(r.data_pointer() == v.data_pointer());
  t.backward(evaluate(r * r + dvla::reshape(v, shape<8, 3>{})));
  for (std::size_t i = 0; i < 4; ++i) CHECK(v.gradient()(i, 5) == 2 * x(i, 5) + 1);
  CHECK(contains(message_of([&] { (void)dvla::reshape(v, shape<dyn, 5>(5)); }), "(4, 6) has 24 elements, (5, 5) would have 25"));
}

TEST_CASE("A variable converts to a shape that says more, and refuses one that says otherwise") {
  auto const x = uniform_tensor<double>(shape<dyn, 6>(4), 1);
  dvla::inference<> context;
  dvla::variable<double, shape<4, dyn>, dvla::inference<>> const closed = context(x);
  CHECK(closed.shape()[1] == 6);
  CHECK(contains(message_of([&] { dvla::variable<double, shape<5, 6>, dvla::inference<>> const wrong = context(x); (void)wrong; }),
                 "extent 0 is 5 in the type but 4 was given"));
  CHECK(closed.data_pointer() == x.data());
}

TEST_CASE("A step's random streams are the same again for the same seed and step, and differ within a step") {
  dvla::tape<> a;
  dvla::inference<> b;
  a.begin_step(3, 5), b.begin_step(3, 5);
  auto const first = a.next_stream(dvla::draw::test).at(0);
  CHECK(first == b.next_stream(dvla::draw::test).at(0));
  CHECK(first != a.next_stream(dvla::draw::test).at(0));
  a.begin_step(3, 6);
  CHECK(first != a.next_stream(dvla::draw::test).at(0));
  a.begin_step(3, 5);
  CHECK(first == a.next_stream(dvla::draw::test).at(0));
}
