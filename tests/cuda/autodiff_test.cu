// Differentiable functions on a card: gradients in double against difference quotients computed there, and in float and bfloat16
// against those in double.
#include <doctest/doctest.h>

#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/autodiff/pooling.hpp>
#include <dvla/cuda.hpp>
#include <dvla/rl/policy.hpp>

#include "support/tensors.hpp"

namespace {

using namespace dvla;

constexpr double tolerance = 1e-7;

template <class F, class... S>
double gradient_error(F const& f, bool training, tensor<double, S>&... inputs) {
  return gradient_check<cuda>(f, training, inputs...).error;
}

auto numbers(auto const& s, std::uint64_t seed) { return uniform_tensor<double>(s, seed, -1, 1); }

}  // namespace

TEST_CASE("A fused expression's gradients on a card") {
  auto x = numbers(shape<dyn, 5, 17>(3), 1);
  auto y = numbers(shape<dyn, 5, 17>(3), 2);
  auto row = numbers(shape<17>{}, 3);
  auto map = numbers(shape<5, 17>{}, 4);
  auto image = numbers(shape<dyn, 1, 1>(3), 5);
  auto one = numbers(shape<>{}, 6);
  CHECK(gradient_error([](auto a, auto b) { return gelu(a * b) + tanh(a) * b; }, false, x, y) <= tolerance);
  CHECK(gradient_error([](auto a, auto r) { return a * r + r; }, false, x, row) <= tolerance);
  CHECK(gradient_error([](auto a, auto m, auto i) { return (a + m) * i * i; }, false, x, map, image) <= tolerance);
  CHECK(gradient_error([](auto a, auto s) { return exp(a * s) / (2.0 + sigmoid(a)); }, false, x, one) <= tolerance);
  CHECK(gradient_error([](auto r, auto i, auto a) { return r * i + 0.0 * a; }, false, row, image, x) <= tolerance);
}

TEST_CASE("Reductions and rearrangements on a card") {
  auto x = numbers(shape<dyn, 5, 17>(3), 1);
  auto y = numbers(shape<dyn, 4, 17>(3), 2);
  CHECK(gradient_error([](auto a) { return sum(a * a); }, false, x) <= tolerance);
  CHECK(gradient_error([](auto a) { return mean<1>(a); }, false, x) <= tolerance);
  CHECK(gradient_error([](auto a) { return sum<0>(a); }, false, x) <= tolerance);
  CHECK(gradient_error([](auto a) { return softmax(a); }, false, x) <= tolerance);
  CHECK(gradient_error([](auto a) { return log_sum_exp(a); }, false, x) <= tolerance);
  CHECK(gradient_error([](auto a) { return max(a); }, false, x) <= tolerance);
  CHECK(gradient_error([](auto a) { return slice<1>(a, 1, 3); }, false, x) <= tolerance);
  CHECK(gradient_error([](auto a, auto b) { return concatenate<1>(a, b); }, false, x, y) <= tolerance);
  std::vector<std::uint32_t> const positions{2, 0, 2};
  CHECK(gradient_error([&](auto a) { return gather(a, positions); }, false, x) <= tolerance);
}

TEST_CASE("Products on a card, in every orientation, and with an epilogue") {
  auto a = numbers(shape<dyn, 7, 5>(3), 1);
  auto b = numbers(shape<5, 9>{}, 2);
  auto bt = numbers(shape<9, 5>{}, 3);
  auto row = numbers(shape<9>{}, 4);
  auto batch = numbers(shape<dyn, 5, 9>(3), 5);
  auto at = numbers(shape<dyn, 5, 7>(3), 6);
  CHECK(gradient_error([](auto x, auto y) { return matmul(x, y); }, false, a, b) <= tolerance);
  CHECK(gradient_error([](auto x, auto y) { return matmul(x, transpose(y)); }, false, a, bt) <= tolerance);
  CHECK(gradient_error([](auto x, auto y) { return matmul(x, y); }, false, a, batch) <= tolerance);
  CHECK(gradient_error([](auto x, auto y) { return matmul(transpose(x), y); }, false, at, batch) <= tolerance);
  CHECK(gradient_error([](auto x, auto y, auto r) { return matmul(x, transpose(y), gelu(accumulator + r)); }, false, a, bt, row) <=
        tolerance);
}

TEST_CASE("Convolution, norms, attention, pooling and losses on a card") {
  auto image = numbers(shape<dyn, 6, 7, 4>(2), 1);
  auto weight = numbers(shape<6, 3, 3, 2>{}, 2);
  auto bias = numbers(shape<6>{}, 3);
  constexpr convolution_options grouped{.stride = 2, .padding = 1, .groups = 2};
  CHECK(gradient_error([](auto x, auto w, auto b) { return convolution<grouped>(x, w, b); }, false, image, weight, bias) <=
        tolerance);
  CHECK(gradient_error([](auto x) { return max_pool2d<2>(x); }, false, image) <= tolerance);
  auto rows = numbers(shape<dyn, 17>(5), 4);
  auto scale = numbers(shape<17>{}, 5);
  auto shift = numbers(shape<17>{}, 6);
  CHECK(gradient_error([](auto x, auto w, auto b) { return layer_norm(x, w, b); }, false, rows, scale, shift) <= tolerance);
  tensor<double, shape<17>, cuda> const zeros, ones = [] {
    tensor<double, shape<17>, cuda> t;
    t.write(std::vector<double>(17, 1));
    return t;
  }();
  for (bool const training : {false, true}) {
    auto const norm = [&](auto x, auto w, auto b) {
      tensor<double, shape<17>, cuda> mean = zeros.clone(), variance = ones.clone();
      auto const y = batch_norm(x, w, b, running_statistics<double>{mean.data(), variance.data(), 0.1}, 1e-5);
      x.context().device().queue->wait();
      return y;
    };
    CHECK(gradient_error(norm, training, rows, scale, shift) <= tolerance);
  }
  auto q = numbers(shape<dyn, 3, 2, 4>(2), 7);
  auto k = numbers(shape<dyn, 5, 2, 4>(2), 8);
  auto v = numbers(shape<dyn, 5, 2, 4>(2), 9);
  auto shared = numbers(shape<3, 2, 4>{}, 10);
  auto packed = numbers(shape<dyn, 5, 3, 2, 4>(2), 11);
  CHECK(gradient_error([](auto a, auto b, auto c) { return attention(a, b, c, 0.5); }, false, q, k, v) <= tolerance);
  CHECK(gradient_error([](auto a, auto b, auto c) { return attention(a, b, c, 0.5); }, false, shared, k, v) <= tolerance);
  CHECK(gradient_error([](auto a) { return self_attention(a, 0.5); }, false, packed) <= tolerance);
  std::vector<std::uint32_t> const labels{0, 16, 3, 3, 7};
  CHECK(gradient_error([&](auto x) { return cross_entropy(x, labels, 0.1); }, false, rows) <= tolerance);
}

TEST_CASE("A policy's gradient on a card") {
  auto p = uniform_tensor<double>(shape<dyn, 1>(5), 1, 0.2, 0.8);
  auto actions = uniform_tensor<double>(shape<dyn, 1>(5), 2, 0.2, 0.8);
  auto const loss = [&](auto const& means) {
    return rl::reinforce_loss(means, means.context()(actions), 1.3, 0.2, rl::policy_options{0.05, 7});
  };
  CHECK(gradient_error(loss, false, p) <= 1e-6);
}
