// BatchNorm and LayerNorm: values and running statistics against formulas, gradients against difference quotients.
#include <doctest/doctest.h>

#include <vector>

#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/autodiff/normalization.hpp>
#include <dvla/core/thread_pool.hpp>
#include <dvla/expr/functions.hpp>

#include "support/poison.hpp"
#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::gradient_check;
using dvla::shape;
using dvla::tensor;

constexpr double bound = 1e-7, eps = 1e-5;

struct moments {
  double mean = 0, variance = 0;
};

template <class X>
moments channel(X const& x, std::size_t channels, std::size_t c) {
  moments m;
  double const rows = static_cast<double>(x.size() / channels);
  for (std::size_t i = c; i < x.size(); i += channels) m.mean += x.data()[i] / rows;
  for (std::size_t i = c; i < x.size(); i += channels) m.variance += (x.data()[i] - m.mean) * (x.data()[i] - m.mean) / rows;
  return m;
}

}  // namespace

TEST_CASE("BatchNorm in training normalises by the batch and moves the running statistics") {
  for (std::size_t n : {1u, 3u, 17u, 49u}) {
    auto const x = uniform_tensor<double>(shape<dyn, 3, dyn>(2, n), n, -1, 4);
    auto const w = uniform_tensor<double>(shape<dyn>(n), 1), b = uniform_tensor<double>(shape<dyn>(n), 2);
    auto mean = uniform_tensor<double>(shape<dyn>(n), 3), variance = uniform_tensor<double>(shape<dyn>(n), 4, 0.5, 2);
    auto const mean_before = mean.clone(), variance_before = variance.clone();
    dvla::tape<> t;
    poison(t);
    t.training(true);
    auto const y = batch_norm(t(x), t(w), t(b), {mean.data(), variance.data(), 0.1}, eps);
    for (std::size_t c = 0; c < n; ++c) {
      auto const m = channel(x, n, c);
      CHECK(std::abs(mean(c) - (0.9 * mean_before(c) + 0.1 * m.mean)) <= 1e-14);
      CHECK(std::abs(variance(c) - (0.9 * variance_before(c) + 0.1 * m.variance * 6 / 5)) <= 1e-14);
      for (std::size_t i = 0; i < 2; ++i)
        for (std::size_t j = 0; j < 3; ++j)
          CHECK(std::abs(y.value()(i, j, c) - ((x(i, j, c) - m.mean) / std::sqrt(m.variance + eps) * w(c) + b(c))) <= 1e-12);
    }
  }
}

TEST_CASE("BatchNorm in evaluation uses the running statistics and leaves them alone") {
  auto const x = uniform_tensor<double>(shape<dyn, 5>(7), 1);
  auto const w = uniform_tensor<double>(shape<5>{}, 2), b = uniform_tensor<double>(shape<5>{}, 3);
  auto mean = uniform_tensor<double>(shape<5>{}, 4), variance = uniform_tensor<double>(shape<5>{}, 5, 0.5, 2);
  auto const mean_before = mean.clone(), variance_before = variance.clone();
  dvla::inference<> context;
  poison(context);
  auto const y = batch_norm(context(x), context(w), context(b), {mean.data(), variance.data()}, eps);
  CHECK(same_bits(5, mean.data(), mean_before.data()));
  CHECK(same_bits(5, variance.data(), variance_before.data()));
  for (std::size_t i = 0; i < 7; ++i)
    for (std::size_t c = 0; c < 5; ++c)
      CHECK(std::abs(y.value()(i, c) - ((x(i, c) - mean(c)) / std::sqrt(variance(c) + eps) * w(c) + b(c))) <= 1e-14);
}

TEST_CASE("Samples that are normalised apart get what two batches one after the other give") {
  auto const x = uniform_tensor<double>(shape<dyn, 3, 5>(7), 1), dy = uniform_tensor<double>(shape<dyn, 3, 5>(7), 2);
  auto const w = uniform_tensor<double>(shape<5>{}, 3), b = uniform_tensor<double>(shape<5>{}, 4);
  for (std::size_t const apart : {1u, 2u, 6u}) {
    dvla::tape<> t;
    poison(t);
    t.training(true);
    auto const start = [&] { return std::pair(std::vector<double>(5, 0.5), std::vector<double>(5, 2)); };
    auto [mean, variance] = start();
    auto [expected_mean, expected_variance] = start();
    auto const v = t(x);
    auto const u = t(w), c = t(b), u2 = t(w), c2 = t(b);
    for (auto const* p : {&u, &c, &u2, &c2}) p->watch();
    v.watch();
    auto const normalised = [&](std::size_t first, std::size_t count) {
      auto const part = t(slice<0>(x.view_of(), first, count));
      part.watch();
      auto const y = batch_norm(part, u2, c2, {expected_mean.data(), expected_variance.data(), 0.1}, eps);
      t.backward(evaluate(y * t(slice<0>(dy.view_of(), first, count))));
      return std::pair(part, y);
    };
    auto const y = [&] {
      auto const guard = t.normalise_apart(apart);
      return batch_norm(v, u, c, {mean.data(), variance.data(), 0.1}, eps);
    }();
    CHECK(t.apart() == 0);
    t.backward(evaluate(y * t(dy)));
    auto const [first, y_first] = normalised(0, apart);
    auto const [rest, y_rest] = normalised(apart, 7 - apart);
    std::size_t const cut = apart * 15;
    CHECK(same_bits(cut, y.value().data, y_first.value().data));
    CHECK(same_bits(105 - cut, y.value().data + cut, y_rest.value().data));
    CHECK(same_bits(cut, v.gradient().data, first.gradient().data));
    CHECK(same_bits(105 - cut, v.gradient().data + cut, rest.gradient().data));
    CHECK(distance(5, u.gradient().data, u2.gradient().data) <= 1e-14);
    CHECK(distance(5, c.gradient().data, c2.gradient().data) <= 1e-14);
    CHECK(mean == expected_mean);
    CHECK(variance == expected_variance);
  }
}

TEST_CASE("BatchNorm has the gradients of difference quotients in training and in evaluation") {
  auto x = uniform_tensor<double>(shape<dyn, 3, 5>(2), 1);
  auto w = uniform_tensor<double>(shape<5>{}, 2), b = uniform_tensor<double>(shape<5>{}, 3);
  auto mean = uniform_tensor<double>(shape<5>{}, 4), variance = uniform_tensor<double>(shape<5>{}, 5, 0.5, 2);
  auto const f = [&](auto const& v, auto const& u, auto const& c) {
    return batch_norm(v, u, c, {mean.data(), variance.data(), 0.0}, eps);
  };
  CHECK(gradient_check(f, true, x, w, b).error <= bound);
  CHECK(gradient_check(f, false, x, w, b).error <= bound);
  CHECK(gradient_check([&](auto const& v, auto const& u, auto const& c) { return f(v * v, u, c) * v; }, true, x, w, b).error <= bound);
  auto const apart = [&](auto const& v, auto const& u, auto const& c) {
    auto const guard = v.context().normalise_apart(1);
    return f(v, u, c);
  };
  CHECK(gradient_check(apart, true, x, w, b).error <= bound);
}

TEST_CASE("LayerNorm has the value of its formula and the gradients of difference quotients") {
  for (std::size_t n : {1u, 3u, 17u, 196u}) {
    auto const x = uniform_tensor<double>(shape<dyn, dyn>(4, n), n, -1, 4);
    auto const w = uniform_tensor<double>(shape<dyn>(n), 1), b = uniform_tensor<double>(shape<dyn>(n), 2);
    dvla::inference<> context;
    poison(context);
    auto const y = layer_norm(context(x), context(w), context(b));
    for (std::size_t i = 0; i < 4; ++i) {
      double mean = 0, variance = 0;
      for (std::size_t j = 0; j < n; ++j) mean += x(i, j) / double(n);
      for (std::size_t j = 0; j < n; ++j) variance += (x(i, j) - mean) * (x(i, j) - mean) / double(n);
      for (std::size_t j = 0; j < n; ++j)
        CHECK(std::abs(y.value()(i, j) - ((x(i, j) - mean) / std::sqrt(variance + eps) * w(j) + b(j))) <= 1e-12);
    }
  }
  auto x = uniform_tensor<double>(shape<dyn, 3, 5>(2), 1);
  auto w = uniform_tensor<double>(shape<5>{}, 2), b = uniform_tensor<double>(shape<5>{}, 3);
  CHECK(gradient_check([](auto const& v, auto const& u, auto const& c) { return layer_norm(v, u, c); }, false, x, w, b).error <= bound);
}

TEST_CASE("Any of input, weight and bias may be constant, and gradients that exist already are added to") {
  auto const x = uniform_tensor<double>(shape<dyn, 5>(7), 1);
  auto const w = uniform_tensor<double>(shape<5>{}, 2), b = uniform_tensor<double>(shape<5>{}, 3);
  auto mean = uniform_tensor<double>(shape<5>{}, 4), variance = uniform_tensor<double>(shape<5>{}, 5, 0.5, 2);
  for (int kind = 0; kind < 3; ++kind) {
    std::vector<double> all[3];
    for (unsigned watched = 7; watched > 0; --watched)
      for (unsigned added = 0; added < 8; ++added) {
        if ((added & ~watched) != 0) continue;
        dvla::tape<> t;
        poison(t);
        t.training(kind == 1);
        auto const vx = t(x);
        auto const vw = t(w), vb = t(b);
        if (watched & 1) vx.watch();
        if (watched & 2) vw.watch();
        if (watched & 4) vb.watch();
        auto const y = kind == 2 ? layer_norm(vx, vw, vb) : batch_norm(vx, vw, vb, {mean.data(), variance.data(), 0.0}, eps);
        auto total = evaluate(y * 1);  // uses below come later, so their gradients arrive before the norm's
        if (added & 1) total = evaluate(total + vx);
        if (added & 2) total = evaluate(total + vw);
        if (added & 4) total = evaluate(total + vb);
        t.backward(total);
        auto const same = [&](unsigned i, auto const& v, double extra) {
          if (!(watched >> i & 1)) return !v.wants_gradient();
          std::vector<double> g(v.gradient().data, v.gradient().data + v.size());
          if (watched == 7 && added == 0) all[i] = g;
          double worst = 0;
          for (std::size_t k = 0; k < g.size(); ++k) {
            double const error = std::abs(g[k] - all[i][k] - (added >> i & 1 ? extra : 0));
            if (!(error <= worst)) worst = std::isnan(error) ? HUGE_VAL : error;
          }
          return worst <= 1e-13;
        };
        CAPTURE(kind);
        CAPTURE(watched);
        CAPTURE(added);
        CHECK(same(0, vx, 1));
        CHECK(same(1, vw, 7));
        CHECK(same(2, vb, 7));
      }
  }
}

TEST_CASE("BatchNorm refuses to train on one value a channel, and extents that do not fit") {
  tensor<double, shape<dyn, 5>> const x(1);
  tensor<double, shape<dyn>> const w(5), wrong(4);
  tensor<double, shape<dyn>> mean(5), variance(5);
  dvla::inference<> context;
  context.training(true);
  CHECK(contains(message_of([&] { (void)batch_norm(context(x), context(w), context(w), {mean.data(), variance.data()}, eps); }),
                 "more than one value a channel, but the input is (1, 5)"));
  tensor<double, shape<dyn, 5>> const two(2);
  auto const apart = [&](std::size_t samples) {
    auto const guard = context.normalise_apart(samples);
    (void)batch_norm(context(two), context(w), context(w), {mean.data(), variance.data()}, eps);
  };
  CHECK(contains(message_of([&] { apart(1); }), "more than one value a channel, but the input is (2, 5)"));
  CHECK(contains(message_of([&] { apart(2); }), "2 samples are to be normalised apart from the rest, but the batch has 2"));
  context.training(false);
  CHECK_NOTHROW(apart(2));
  CHECK(contains(message_of([&] { (void)batch_norm(context(x), context(wrong), context(w), {mean.data(), variance.data()}, eps); }), "(1, 5)"));
  CHECK(contains(message_of([&] { (void)batch_norm(context(x), context(w), context(wrong), {mean.data(), variance.data()}, eps); }), "(4)"));
  CHECK(contains(message_of([&] { (void)layer_norm(context(x), context(wrong), context(wrong)); }), "(1, 5)"));
  CHECK(contains(message_of([&] { (void)layer_norm(context(x), context(w), context(wrong)); }), "(4)"));
}

TEST_CASE("Norms and their gradients are bit-equal on one thread and three") {
  auto const x = uniform_tensor<float>(shape<dyn, 96>(1567), 1);
  auto const w = uniform_tensor<float>(shape<96>{}, 2), b = uniform_tensor<float>(shape<96>{}, 3);
  auto const run = [&](dvla::executor* pool) {
    dvla::tape<> t(dvla::cpu{pool});
    t.training(true);
    std::vector<float> mean(96, 0), variance(96, 1);
    auto const v = t(x);
    auto const u = t(w), c = t(b);
    v.watch(), u.watch(), c.watch();
    auto const y = layer_norm(batch_norm(v, u, c, {mean.data(), variance.data(), 0.1}, eps), u, c);
    t.backward(evaluate(y * y * v));
    std::vector<float> all(y.value().data, y.value().data + y.size());
    all.insert(all.end(), v.gradient().data, v.gradient().data + v.size());
    all.insert(all.end(), u.gradient().data, u.gradient().data + u.size());
    all.insert(all.end(), c.gradient().data, c.gradient().data + c.size());
    all.insert(all.end(), variance.begin(), variance.end());
    return all;
  };
  dvla::thread_pool pool(3);
  CHECK(run(nullptr) == run(&pool));
}
