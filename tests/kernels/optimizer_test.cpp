// Optimizer steps against the published update rules in double; the rules' order of operations is PyTorch's.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <dvla/core/thread_pool.hpp>
#include <dvla/kernels/cpu/optimizer.hpp>
#include <kernels/reference.hpp>

using namespace dvla;
using namespace dvla::kernels;

namespace {

constexpr std::size_t odd_sizes[] = {1, 3, 17, 49, 196, 197, 70001};

template <class T>
std::vector<double> doubles(guarded<T> const& x) {
  return {x.data(), x.data() + x.size()};
}

/// The largest distance of any element, in units of T's epsilon times (1 + |element|).
template <class T>
double distance(guarded<T> const& x, std::vector<double> const& expected) {
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    double const d = std::abs(double(x.data()[i]) - expected[i]) / (1 + std::abs(expected[i]));
    worst = std::isnan(d) ? std::numeric_limits<double>::infinity() : std::max(worst, d);
  }
  return worst / double(std::numeric_limits<T>::epsilon());
}

}  // namespace

TEST_CASE_TEMPLATE("five steps of AdamW follow the rule", T, float, double) {
  double const lr = 1e-2, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, decay = 0.05;
  for (std::size_t count : odd_sizes) {
    auto p = random<T>(count, 1);
    guarded<T> m(count, T(0)), v(count, T(0));
    auto expected = doubles(p);
    std::vector<double> first(count), second(count);
    for (std::uint64_t step = 1; step <= 5; ++step) {
      auto const g = random<T>(count, 10 + step);
      adamw_step(cpu{}, count, p.data(), g.data(), m.data(), v.data(), lr, beta1, beta2, epsilon, decay, step);
      double const correction1 = 1 - std::pow(beta1, double(step)), correction2 = 1 - std::pow(beta2, double(step));
      for (std::size_t i = 0; i < count; ++i) {
        double const gradient = double(g.data()[i]);
        expected[i] *= 1 - lr * decay;
        first[i] = beta1 * first[i] + (1 - beta1) * gradient;
        second[i] = beta2 * second[i] + (1 - beta2) * gradient * gradient;
        expected[i] -= lr / correction1 * first[i] / (std::sqrt(second[i]) / std::sqrt(correction2) + epsilon);
      }
    }
    CHECK(distance(p, expected) <= 8);
    CHECK(distance(m, first) <= 4);
    CHECK(distance(v, second) <= 4);
    CHECK((p.intact() && m.intact() && v.intact()));
  }
}

TEST_CASE("AdamW reproduces PyTorch's numbers") {
  // torch.optim.AdamW([1, -2, 3], lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.2), float64, gradients g, then -2 g + 0.1.
  double p[3] = {1, -2, 3}, m[3] = {}, v[3] = {};
  double const first[3] = {0.5, -1e-4, 2}, second[3] = {-0.9, 0.1002, -3.9};
  adamw_step<double>(cpu{}, 3, p, first, m, v, 0.1, 0.8, 0.9, 1e-3, 0.2, 1);
  adamw_step<double>(cpu{}, 3, p, second, m, v, 0.1, 0.8, 0.9, 1e-3, 0.2, 2);
  double const expected[3] = {0.90018074238215517, -1.987369460341754, 2.8238465163827815};
  for (int i = 0; i < 3; ++i) CHECK(std::abs(p[i] - expected[i]) <= 1e-14);
}

TEST_CASE_TEMPLATE("stochastic gradient descent follows the rule with and without momentum", T, float, double) {
  double const lr = 0.05, decay = 0.01;
  for (double momentum : {0.0, 0.9})
    for (bool nesterov : {false, true})
      for (std::size_t count : odd_sizes) {
        auto p = random<T>(count, 1);
        guarded<T> b(count, T(0));
        auto expected = doubles(p);
        std::vector<double> buffer(count);
        for (std::uint64_t step = 0; step < 3; ++step) {
          auto const g = random<T>(count, 10 + step);
          sgd_step(cpu{}, count, p.data(), g.data(), momentum == 0 ? nullptr : b.data(), lr, momentum, nesterov, decay);
          for (std::size_t i = 0; i < count; ++i) {
            double const gradient = double(g.data()[i]) + decay * expected[i];
            buffer[i] = momentum * buffer[i] + gradient;
            expected[i] -= lr * (nesterov ? gradient + momentum * buffer[i] : buffer[i]);
          }
        }
        CHECK(distance(p, expected) <= 4);
        CHECK((p.intact() && b.intact()));
      }
}

TEST_CASE_TEMPLATE("the squared norm, scaling and averaging are accurate at odd sizes", T, float, double) {
  for (std::size_t count : odd_sizes) {
    auto const x = random<T>(count, 1);
    long double square = 0;
    for (long double e : doubles(x)) square += e * e;
    CHECK(std::abs(squared_norm(cpu{}, count, x.data()) - square) <= 8 * square * std::numeric_limits<T>::epsilon());

    auto average = random<T>(count, 2), scaled = x;
    auto expected = doubles(average);
    for (std::size_t i = 0; i < count; ++i) expected[i] = 0.999 * expected[i] + 0.001 * double(x.data()[i]);
    kernels::lerp(cpu{}, count, average.data(), x.data(), 0.999);
    kernels::scale(cpu{}, count, scaled.data(), T(-2.5));
    CHECK(distance(average, expected) <= 1);
    for (std::size_t i = 0; i < count; ++i) CHECK_UNARY(scaled.data()[i] == x.data()[i] * T(-2.5));
    CHECK((average.intact() && scaled.intact()));
  }
  CHECK(squared_norm<T>(cpu{}, 0, nullptr) == 0);
}

TEST_CASE("optimizers give the same bits on one thread and on several") {
  thread_pool pool(2);
  std::size_t const count = 200003;
  auto const g = random<float>(count, 2);
  auto p = random<float>(count, 1), q = p;
  guarded<float> m(count, 0), v(count, 0), n(count, 0), w(count, 0);
  adamw_step(cpu{}, count, p.data(), g.data(), m.data(), v.data(), 0.1, 0.9, 0.999, 1e-8, 0.1, 1);
  adamw_step(cpu{&pool}, count, q.data(), g.data(), n.data(), w.data(), 0.1, 0.9, 0.999, 1e-8, 0.1, 1);
  CHECK(p == q);
  CHECK(m == n);
  CHECK(v == w);
  CHECK(squared_norm(cpu{}, count, g.data()) == squared_norm(cpu{&pool}, count, g.data()));
}
