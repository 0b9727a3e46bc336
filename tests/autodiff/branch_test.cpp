// Branches on the host, where they are part of the computation: what is taken carries no gradient back, what leads back does.
#include <doctest/doctest.h>

#include <dvla/autodiff/branch.hpp>
#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/autodiff/reduction.hpp>
#include <dvla/expr/functions.hpp>

#include "support/tensors.hpp"

using namespace dvla;

TEST_CASE("What a branch takes carries no gradient back, and its results do") {
  auto const x = uniform_tensor<double>(shape<dyn, 5>(3), 1);
  auto const w = uniform_tensor<double>(shape<5>{}, 2);
  tape<> t;
  auto const v = t(x);
  auto const u = t(w);
  v.watch(), u.watch();
  branch aside(t);
  CHECK_FALSE(aside.beside());
  CHECK(&aside.context() == &t);
  auto const taken = aside.take(v);
  CHECK_FALSE(taken.wants_gradient());
  auto const y = evaluate(taken * u);
  auto const back = aside.result(y);
  t.backward(evaluate(back * v));
  for (std::size_t c = 0; c < 5; ++c) {
    double of_column = 0;
    for (std::size_t r = 0; r < 3; ++r) {
      of_column += x(r, c) * x(r, c);
      CHECK(std::abs(v.gradient()(r, c) - x(r, c) * w(c)) <= 1e-15);  // through v alone, not through what was taken of it
    }
    CHECK(std::abs(u.gradient()(c) - of_column) <= 1e-14);
  }
}

TEST_CASE("A loss of two parts has the gradients of both") {
  auto x = uniform_tensor<double>(shape<dyn, 5>(3), 1);
  auto w = uniform_tensor<double>(shape<5>{}, 2);
  auto const total = [](auto const& v) {
    return variable<double, shape<>, std::remove_reference_t<decltype(v.context())>>(
        reshape(sum<0>(reshape(v, shape<dyn>(v.size()))), shape<>{}));
  };
  auto const loss = [&](auto const& v, auto const& u) {
    branch aside(v.context());
    auto const part = total(evaluate(tanh(u) * u));
    return aside.sum(total(evaluate(v * v)), part);
  };
  CHECK(gradient_check(loss, false, x, w).error <= 1e-8);
  inference<> context;
  auto const a = loss(context(x), context(w));
  auto const b = evaluate(total(evaluate(context(x) * context(x))) + total(evaluate(tanh(context(w)) * context(w))));
  CHECK(a.value()() == b.value()());
}
