// Attention: values against its formula, gradients against difference quotients, in every arrangement of operands.
#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include <dvla/autodiff/attention.hpp>
#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/autodiff/rearrange.hpp>
#include <dvla/core/thread_pool.hpp>
#include <dvla/expr/functions.hpp>

#include "support/poison.hpp"
#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::gradient_check;
using dvla::shape;
using dvla::tensor;

constexpr double bound = 1e-7, scale = 0.5;
constexpr auto attend = [](auto const& q, auto const& k, auto const& v) { return dvla::attention(q, k, v, scale); };

}  // namespace

TEST_CASE("Attention has the value of its formula") {
  for (std::size_t keys : {1u, 3u, 17u, 49u}) {
    auto const q = uniform_tensor<double>(shape<dyn, 5, 2, 4>(3), 1, -2, 2);
    auto const k = uniform_tensor<double>(shape<dyn, dyn, 2, 4>(3, keys), 2, -2, 2);
    auto const v = uniform_tensor<double>(shape<dyn, dyn, 2, 4>(3, keys), 3);
    dvla::inference<> context;
    poison(context);
    auto const y = attend(context(q), context(k), context(v));
    for (std::size_t b = 0; b < 3; ++b)
      for (std::size_t i = 0; i < 5; ++i)
        for (std::size_t h = 0; h < 2; ++h) {
          std::vector<double> weight(keys, 0);
          double total = 0;
          for (std::size_t j = 0; j < keys; ++j) {
            for (std::size_t d = 0; d < 4; ++d) weight[j] += q(b, i, h, d) * k(b, j, h, d);
            total += weight[j] = std::exp(scale * weight[j]);
          }
          for (std::size_t d = 0; d < 4; ++d) {
            double expected = 0;
            for (std::size_t j = 0; j < keys; ++j) expected += weight[j] / total * v(b, j, h, d);
            CHECK(std::abs(y.value()(b, i, h, d) - expected) <= 1e-13);
          }
        }
  }
}

TEST_CASE("Attention has the gradients of difference quotients, with operands shared by the batch or not") {
  auto q = uniform_tensor<double>(shape<dyn, 3, 2, 4>(2), 1), k = uniform_tensor<double>(shape<dyn, 3, 2, 4>(2), 2);
  auto v = uniform_tensor<double>(shape<dyn, 3, 2, 4>(2), 3);
  auto shared_q = uniform_tensor<double>(shape<3, 2, 4>{}, 4);
  auto shared_k = uniform_tensor<double>(shape<dyn, 2, 4>(5), 5), shared_v = uniform_tensor<double>(shape<dyn, 2, 4>(5), 6);
  CHECK(gradient_check(attend, false, q, k, v).error <= bound);
  CHECK(gradient_check(attend, false, shared_q, k, v).error <= bound);
  CHECK(gradient_check(attend, false, q, shared_k, shared_v).error <= bound);
  CHECK(gradient_check(attend, false, shared_q, shared_k, shared_v).error <= bound);
  CHECK(gradient_check([](auto const& x) { return attend(x, x, x); }, false, q).error <= bound);
  CHECK(gradient_check([](auto const& x) { return attend(x, x, x); }, false, shared_k).error <= bound);
  CHECK(gradient_check([](auto const& x, auto const& y) { return attend(x * 2, y, tanh(y)); }, false, q, k).error <= bound);
}

TEST_CASE("Packed self-attention is attention of its parts, in value and gradient") {
  auto packed = uniform_tensor<double>(shape<dyn, 5, 3, 2, 4>(2), 1);
  CHECK(gradient_check([](auto const& x) { return dvla::self_attention(x, scale); }, false, packed).error <= bound);
  tensor<double, shape<dyn, 5, 2, 4>> parts[3] = {tensor<double, shape<dyn, 5, 2, 4>>(2), tensor<double, shape<dyn, 5, 2, 4>>(2),
                                                  tensor<double, shape<dyn, 5, 2, 4>>(2)};
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t n = 0; n < 5; ++n)
      for (std::size_t p = 0; p < 3; ++p)
        for (std::size_t h = 0; h < 2; ++h)
          for (std::size_t d = 0; d < 4; ++d) parts[p](b, n, h, d) = packed(b, n, p, h, d);
  dvla::inference<> context;
  auto const together = dvla::self_attention(context(packed), scale);
  auto const apart = attend(context(parts[0]), context(parts[1]), context(parts[2]));
  CHECK(distance(together.size(), together.value().data, apart.value().data) <= 1e-14);
}

TEST_CASE("Causal attention is that of the plain composition, in value and gradient, on odd sizes") {
  // The composition: every query by itself, with the keys that it sees.
  auto const composed = [](auto const& q, auto const& k, auto const& v) {
    std::size_t const tokens = q.shape()[1];
    auto y = dvla::attention(dvla::slice<1>(q, 0, 1), dvla::slice<1>(k, 0, 1), dvla::slice<1>(v, 0, 1), scale);
    for (std::size_t i = 1; i < tokens; ++i)
      y = dvla::concatenate<1>(y, dvla::attention(dvla::slice<1>(q, i, 1), dvla::slice<1>(k, 0, i + 1), dvla::slice<1>(v, 0, i + 1), scale));
    return y;
  };
  using operand = shape<dyn, dyn, 2, 5>;
  for (std::size_t const tokens : {1u, 2u, 7u, 17u, 67u, 77u}) {
    auto const q = uniform_tensor<double>(operand(3, tokens), 1, -2, 2), k = uniform_tensor<double>(operand(3, tokens), 2, -2, 2);
    auto const v = uniform_tensor<double>(operand(3, tokens), 3), g = uniform_tensor<double>(operand(3, tokens), 4);
    std::vector<double> found[2];
    for (bool const plain : {false, true}) {
      dvla::tape<> t;
      poison(t);
      auto const a = t(q), b = t(k), c = t(v);
      a.watch(), b.watch(), c.watch();
      dvla::variable<double, operand, dvla::tape<>> const y =
          plain ? composed(a, b, c) : dvla::attention<dvla::attention_mask::causal>(a, b, c, scale);
      auto& all = found[plain];
      all.assign(y.value().data, y.value().data + y.size());
      t.backward(y, g.view_of());
      for (auto const& x : {a, b, c}) all.insert(all.end(), x.gradient().data, x.gradient().data + x.size());
    }
    CHECK(distance(found[0].size(), found[0].data(), found[1].data()) <= 1e-13);
  }
}

TEST_CASE("Causal attention has the gradients of difference quotients, packed or not, and needs as many keys as queries") {
  constexpr auto causal = dvla::attention_mask::causal;
  auto q = uniform_tensor<double>(shape<dyn, 5, 2, 3>(2), 1), k = uniform_tensor<double>(shape<dyn, 5, 2, 3>(2), 2);
  auto v = uniform_tensor<double>(shape<dyn, 5, 2, 3>(2), 3);
  auto packed = uniform_tensor<double>(shape<dyn, 5, 3, 2, 3>(2), 4);
  auto shared_k = uniform_tensor<double>(shape<5, 2, 3>{}, 5), shared_v = uniform_tensor<double>(shape<5, 2, 3>{}, 6);
  auto const masked = [](auto const& a, auto const& b, auto const& c) { return dvla::attention<causal>(a, b, c, scale); };
  CHECK(gradient_check(masked, false, q, k, v).error <= bound);
  CHECK(gradient_check(masked, false, q, shared_k, shared_v).error <= bound);
  CHECK(gradient_check([](auto const& x) { return dvla::self_attention<causal>(x, scale); }, false, packed).error <= bound);
  dvla::inference<> context;
  tensor<double, shape<dyn, dyn, 2, 3>> const few(2, 3), many(2, 4);
  CHECK(contains(message_of([&] { (void)masked(context(few), context(many), context(many)); }),
                 "causal attention: extent 1 of (2, 3, 2, 3)"));
  // A key that a query does not see cannot reach it, not even where it is not a number.
  auto spoiled = packed.clone();
  for (std::size_t h = 0; h < 2; ++h) spoiled(0, 4, 1, h, 0) = std::numeric_limits<double>::quiet_NaN();
  auto const clean = dvla::self_attention<causal>(context(packed), scale), dirty = dvla::self_attention<causal>(context(spoiled), scale);
  CHECK(same_bits(4 * 6, clean.value().data, dirty.value().data));
}

TEST_CASE("Any of queries, keys and values may be constant") {
  auto const q = uniform_tensor<double>(shape<dyn, 3, 2, 4>(2), 1), k = uniform_tensor<double>(shape<dyn, 3, 2, 4>(2), 2);
  auto const v = uniform_tensor<double>(shape<dyn, 3, 2, 4>(2), 3);
  std::vector<double> all[3];
  for (unsigned watched = 7; watched > 0; --watched) {
    dvla::tape<> t;
    poison(t);
    dvla::variable<double, shape<dyn, 3, 2, 4>, dvla::tape<>> const inputs[] = {t(q), t(k), t(v)};
    for (unsigned i = 0; i < 3; ++i)
      if (watched >> i & 1) inputs[i].watch();
    t.backward(attend(inputs[0], inputs[1], inputs[2]));
    for (unsigned i = 0; i < 3; ++i) {
      CHECK(inputs[i].wants_gradient() == ((watched >> i & 1) != 0));
      if (!inputs[i].wants_gradient()) continue;
      auto const g = inputs[i].gradient();
      if (watched == 7) all[i].assign(g.data, g.data + g.size());
      CHECK(distance(g.size(), g.data, all[i].data()) <= 1e-14);
    }
  }
}

TEST_CASE("Operands that do not fit are named") {
  dvla::inference<> context;
  tensor<double, shape<dyn, dyn, 2, 4>> const q(2, 3), k(3, 3), v(3, 4);
  CHECK(contains(message_of([&] { (void)attend(context(q), context(k), context(k)); }), "attention: extent 0 of (2, 3, 2, 4)"));
  CHECK(contains(message_of([&] { (void)attend(context(k), context(k), context(v)); }), "attention: extent 1 of (3, 3, 2, 4)"));
}

TEST_CASE("Attention and its gradients are bit-equal on one thread and three") {
  auto const x = uniform_tensor<float>(shape<dyn, 49, 3, 3, 16>(5), 1);
  auto const run = [&](dvla::executor* pool) {
    dvla::tape<> t(dvla::cpu{pool});
    auto const v = t(x);
    v.watch();
    auto const y = dvla::self_attention(v, scale);
    t.backward(y);
    std::vector<float> all(y.value().data, y.value().data + y.size());
    all.insert(all.end(), v.gradient().data, v.gradient().data + v.size());
    return all;
  };
  dvla::thread_pool pool(3);
  CHECK(run(nullptr) == run(&pool));
}
