// The fused backward loop against the same expression evaluated piece by piece, in any memory and on any number of threads.
#include <doctest/doctest.h>

#include <vector>

#include <dvla/autodiff/gradient_check.hpp>
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

template <class... T>
std::vector<std::vector<double>> gradients_of(dvla::executor* pool, auto const& f, T&... inputs) {
  dvla::tape<> t(dvla::cpu{pool});
  poison(t);
  auto const variables = std::make_tuple(t(inputs)...);
  std::apply([](auto const&... v) { (v.watch(), ...); }, variables);
  t.backward(std::apply(f, variables));
  std::vector<std::vector<double>> out;
  std::apply([&](auto const&... v) { (out.emplace_back(v.gradient().data, v.gradient().data + v.size()), ...); }, variables);
  return out;
}

double distance(std::vector<std::vector<double>> const& a, std::vector<std::vector<double>> const& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, ::distance(a[i].size(), a[i].data(), b[i].data()));
  return worst;
}

}  // namespace

TEST_CASE("Results of one element a row, and scalars, have the right gradients whatever was in memory before") {
  auto column = uniform_tensor<double>(shape<dyn, 1>(7), 1), other = uniform_tensor<double>(shape<dyn, 1>(7), 2);
  auto scalar = uniform_tensor<double>(shape<>{}, 3), factor = uniform_tensor<double>(shape<>{}, 4);
  auto one = uniform_tensor<double>(shape<1>{}, 5);
  auto const product = [](auto const& a, auto const& b) { return evaluate(a * b); };
  auto const columns = gradients_of(nullptr, product, column, other);
  for (std::size_t i = 0; i < 7; ++i) {
    CHECK(columns[0][i] == other(i, 0));
    CHECK(columns[1][i] == column(i, 0));
  }
  auto const scalars = gradients_of(nullptr, product, scalar, factor);
  CHECK(scalars[0][0] == factor());
  CHECK(scalars[1][0] == scalar());
  auto const square = gradients_of(nullptr, [](auto const& a) { return evaluate(a * a + a); }, one);
  CHECK(square[0][0] == 2 * one(0) + 1);
  auto const twice = gradients_of(nullptr, [](auto const& a) { return evaluate(a * evaluate(a * a)); }, scalar);
  CHECK(std::abs(twice[0][0] - 3 * scalar() * scalar()) <= 1e-15);
}

TEST_CASE("A variable may stand in an expression in its own shape and in another one") {
  auto x = uniform_tensor<double>(shape<1, 6>{}, 1);
  auto const broadcast_first = [](auto const& v) { return dvla::reshape(v, shape<6>{}) * dvla::reshape(v, shape<dyn, 6>(1)); };
  auto const broadcast_last = [](auto const& v) { return dvla::reshape(v, shape<dyn, 6>(1)) * dvla::reshape(v, shape<6>{}); };
  CHECK(gradient_check(broadcast_first, false, x).error <= bound);
  CHECK(gradient_check(broadcast_last, false, x).error <= bound);
  auto const after_poison = gradients_of(nullptr, [&](auto const& v) { return evaluate(broadcast_first(v)); }, x);
  for (std::size_t i = 0; i < 6; ++i) CHECK(std::abs(after_poison[0][i] - 2 * x(0, i)) <= 1e-15);
  auto y = uniform_tensor<double>(shape<4>{}, 2);
  CHECK(gradient_check([](auto const& v) { return dvla::reshape(v, shape<4, 1>{}) * v + v * v; }, false, y).error <= bound);
}

TEST_CASE("A fused expression has the gradients of its parts evaluated one by one, at every size") {
  for (std::size_t n : {1u, 3u, 17u, 49u, 196u, 197u})
    for (std::size_t rows : {1u, 5u}) {
      auto x = uniform_tensor<double>(shape<dyn, dyn>(rows, n), n), r = uniform_tensor<double>(shape<dyn, dyn>(rows, n), n + 1);
      auto scale = uniform_tensor<double>(shape<dyn>(n), n + 2);
      auto shift = uniform_tensor<double>(shape<dyn, 1>(rows), n + 3);
      auto const fused = [](auto const& v, auto const& u, auto const& a, auto const& b) { return evaluate(gelu(v * a + b) + u * v); };
      auto const parts = [](auto const& v, auto const& u, auto const& a, auto const& b) {
        auto const product = evaluate(v * a);
        auto const sum = evaluate(product + b);
        auto const activated = evaluate(gelu(sum));
        auto const residual = evaluate(u * v);
        return evaluate(activated + residual);
      };
      CAPTURE(n);
      CHECK(distance(gradients_of(nullptr, fused, x, r, scale, shift), gradients_of(nullptr, parts, x, r, scale, shift)) <= 1e-12);
    }
}

TEST_CASE("Gradients are bit-equal on one thread, two and five") {
  auto x = uniform_tensor<double>(shape<dyn, 193>(701), 1);
  auto scale = uniform_tensor<double>(shape<193>{}, 2);
  auto shift = uniform_tensor<double>(shape<dyn, 1>(701), 3);
  auto gain = uniform_tensor<double>(shape<>{}, 4);
  auto const f = [](auto const& v, auto const& a, auto const& b, auto const& g) { return evaluate(gelu(v * a + b) * g); };
  auto const alone = gradients_of(nullptr, f, x, scale, shift, gain);
  for (std::size_t threads : {2u, 5u}) {
    dvla::thread_pool pool(threads);
    CHECK(gradients_of(&pool, f, x, scale, shift, gain) == alone);
  }
}

TEST_CASE("Gradients in float are near those in double") {
  auto x = uniform_tensor<float>(shape<dyn, 49>(33), 1);
  auto scale = uniform_tensor<float>(shape<49>{}, 2);
  tensor<double, shape<dyn, 49>> xd(33);
  tensor<double, shape<49>> scaled;
  xd = x * 1, scaled = scale * 1;
  auto const f = [](auto const& v, auto const& a) { return evaluate(gelu(v * a) + sigmoid(v)); };
  CHECK(distance(gradients_of(nullptr, f, x, scale), gradients_of(nullptr, f, xd, scaled)) <= 1e-5);
}
