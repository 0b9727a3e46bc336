// Matrix products in every transposition and batch form: values against loops, gradients against difference quotients.
#include <doctest/doctest.h>

#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/autodiff/matmul.hpp>
#include <dvla/core/thread_pool.hpp>
#include <dvla/expr/functions.hpp>

#include "support/poison.hpp"
#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::gradient_check;
using dvla::matmul;
using dvla::shape;
using dvla::tensor;
using dvla::transpose;

constexpr double bound = 1e-7;

/// The largest error of a product's value against a loop; element(i, j) is the sum over k.
template <class F, class A, class B, class E>
double value_error(F const& f, A const& a, B const& b, E const& element) {
  dvla::inference<> context;
  poison(context);
  auto const y = f(context(a), context(b));
  double worst = 0;
  for (std::size_t i = 0; i < y.shape()[0]; ++i)
    for (std::size_t j = 0; j < y.shape()[1]; ++j) worst = std::max(worst, std::abs(y.value()(i, j) - element(i, j)));
  return worst;
}

double dot(std::size_t n, auto const& term) {
  double total = 0;
  for (std::size_t k = 0; k < n; ++k) total += term(k);
  return total;
}

}  // namespace

TEST_CASE("Products of matrices in all four orientations have the values of loops") {
  std::size_t const m = 19, n = 23, k = 17;
  auto const a = uniform_tensor<double>(shape<dyn, dyn>(m, k), 1), at = uniform_tensor<double>(shape<dyn, dyn>(k, m), 2);
  auto const b = uniform_tensor<double>(shape<dyn, dyn>(k, n), 3), bt = uniform_tensor<double>(shape<dyn, dyn>(n, k), 4);
  CHECK(value_error([](auto const& x, auto const& y) { return matmul(x, y); }, a, b,
                    [&](auto i, auto j) { return dot(k, [&](auto l) { return a(i, l) * b(l, j); }); }) <= 1e-13);
  CHECK(value_error([](auto const& x, auto const& y) { return matmul(transpose(x), y); }, at, b,
                    [&](auto i, auto j) { return dot(k, [&](auto l) { return at(l, i) * b(l, j); }); }) <= 1e-13);
  CHECK(value_error([](auto const& x, auto const& y) { return matmul(x, transpose(y)); }, a, bt,
                    [&](auto i, auto j) { return dot(k, [&](auto l) { return a(i, l) * bt(j, l); }); }) <= 1e-13);
  CHECK(value_error([](auto const& x, auto const& y) { return matmul(transpose(x), transpose(y)); }, at, bt,
                    [&](auto i, auto j) { return dot(k, [&](auto l) { return at(l, i) * bt(j, l); }); }) <= 1e-13);
}

TEST_CASE("Products of matrices in all four orientations have the gradients of difference quotients") {
  auto a = uniform_tensor<double>(shape<dyn, 5>(3), 1);
  auto at = uniform_tensor<double>(shape<dyn, 5>(7), 2);
  auto b = uniform_tensor<double>(shape<5, dyn>(7), 3);
  auto bt = uniform_tensor<double>(shape<5, dyn>(3), 4);
  CHECK(gradient_check([](auto const& x, auto const& y) { return matmul(x, y); }, false, a, b).error <= bound);
  CHECK(gradient_check([](auto const& x, auto const& y) { return matmul(x, transpose(y)); }, false, a, at).error <= bound);
  CHECK(gradient_check([](auto const& x, auto const& y) { return matmul(transpose(x), y); }, false, bt, b).error <= bound);
  CHECK(gradient_check([](auto const& x, auto const& y) { return matmul(transpose(x), transpose(y)); }, false, bt, at).error <= bound);
}

TEST_CASE("Batches of products, and one matrix for a whole batch") {
  auto a = uniform_tensor<double>(shape<dyn, 3, 5>(4), 1);
  auto at = uniform_tensor<double>(shape<dyn, 5, 3>(4), 2);
  auto b = uniform_tensor<double>(shape<dyn, 5, 2>(4), 3);
  auto bt = uniform_tensor<double>(shape<dyn, 2, 5>(4), 4);
  auto w = uniform_tensor<double>(shape<5, 2>{}, 5);
  auto wt = uniform_tensor<double>(shape<2, 5>{}, 6);
  CHECK(gradient_check([](auto const& x, auto const& y) { return matmul(x, y); }, false, a, b).error <= bound);
  CHECK(gradient_check([](auto const& x, auto const& y) { return matmul(x, transpose(y)); }, false, a, bt).error <= bound);
  CHECK(gradient_check([](auto const& x, auto const& y) { return matmul(transpose(x), y); }, false, at, b).error <= bound);
  CHECK(gradient_check([](auto const& x, auto const& y) { return matmul(transpose(x), transpose(y)); }, false, at, bt).error <= bound);
  CHECK(gradient_check([](auto const& x, auto const& y) { return matmul(x, y); }, false, a, w).error <= bound);
  CHECK(gradient_check([](auto const& x, auto const& y) { return matmul(x, transpose(y)); }, false, a, wt).error <= bound);
  dvla::inference<> context;
  auto const batched = matmul(context(a), context(b));
  for (std::size_t i = 0; i < 4; ++i)
    CHECK(std::abs(batched.value()(i, 2, 1) - dot(5, [&](auto k) { return a(i, 2, k) * b(i, k, 1); })) <= 1e-14);
  auto const four = uniform_tensor<double>(shape<2, dyn, 3, 5>(2), 7);
  CHECK(matmul(context(four), context(w)).shape() == shape<2, 2, 3, 2>{});
}

TEST_CASE("The same matrix on both sides gets both gradients") {
  auto x = uniform_tensor<double>(shape<dyn, 4>(4), 1);
  CHECK(gradient_check([](auto const& v) { return matmul(v, transpose(v)); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& v) { return matmul(transpose(v), v); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& v) { return matmul(v, matmul(v, v)); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& v) { return matmul(v * 2 + 1, transpose(exp(v))); }, false, x).error <= bound);
}

TEST_CASE("A linear map acts on the last axis of any number of axes") {
  auto w = uniform_tensor<double>(shape<3, 5>{}, 1);
  auto one = uniform_tensor<double>(shape<5>{}, 2);
  auto open = uniform_tensor<double>(shape<dyn>(5), 3);
  auto two = uniform_tensor<double>(shape<dyn, 5>(2), 4);
  auto four = uniform_tensor<double>(shape<2, dyn, 2, 5>(3), 5);
  auto const map = [](auto const& x, auto const& y) { return linear_map(x, y); };
  CHECK(gradient_check(map, false, one, w).error <= bound);
  CHECK(gradient_check(map, false, open, w).error <= bound);
  CHECK(gradient_check(map, false, two, w).error <= bound);
  CHECK(gradient_check(map, false, four, w).error <= bound);
  dvla::inference<> context;
  auto const y = linear_map(context(one), context(w));
  CHECK(y.shape() == shape<3>{});
  for (std::size_t i = 0; i < 3; ++i) CHECK(std::abs(y.value()(i) - dot(5, [&](auto k) { return w(i, k) * one(k); })) <= 1e-15);
  CHECK(linear_map(context(four), context(w)).shape() == shape<2, 3, 2, 3>{});
}

TEST_CASE("Products without rows, columns or terms are empty or zero") {
  dvla::tape<> t;
  poison(t);
  tensor<double, shape<dyn, dyn>> const none(0, 5), matrix(5, 3), tall(4, 0), flat(0, 3);
  CHECK(matmul(t(none), t(matrix)).size() == 0);
  auto const left = t(tall), right = t(flat);
  left.watch(), right.watch();
  auto const y = matmul(left, right);
  for (std::size_t i = 0; i < 12; ++i) CHECK(y.value().data[i] == 0);
  t.backward(y);
  CHECK(left.gradient().size() == 0);
}

TEST_CASE("Extents that do not fit are named") {
  dvla::inference<> context;
  tensor<double, shape<dyn, dyn>> const a(2, 3), b(4, 5);
  tensor<double, shape<dyn, 2, 3>> const batch(4);
  tensor<double, shape<dyn, 3, 2>> const other(5);
  std::string const message = message_of([&] { (void)matmul(context(a), context(b)); });
  CHECK(contains(message, "(2, 3) and (4, 5)"));
  CHECK(contains(message, "3 and 4"));
  CHECK(contains(message_of([&] { (void)matmul(context(batch), context(other)); }), "leading extents of (4, 2, 3) and (5, 3, 2) differ"));
}

TEST_CASE("Products and their gradients are bit-equal on one thread and three") {
  auto const a = uniform_tensor<float>(shape<dyn, 131>(517), 1);
  auto const b = uniform_tensor<float>(shape<131, dyn>(263), 2);
  auto const run = [&](dvla::executor* pool) {
    dvla::tape<> t(dvla::cpu{pool});
    auto const x = t(a);
    auto const y = t(b);
    x.watch(), y.watch();
    auto const z = matmul(x, y);
    t.backward(z);
    std::vector<float> all(z.value().data, z.value().data + z.size());
    all.insert(all.end(), x.gradient().data, x.gradient().data + x.size());
    all.insert(all.end(), y.gradient().data, y.gradient().data + y.size());
    return all;
  };
  dvla::thread_pool pool(3);
  CHECK(run(nullptr) == run(&pool));
}
