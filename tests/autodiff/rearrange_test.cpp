// Slices, concatenation and rows by index: values, gradients, refusals.
#include <doctest/doctest.h>

#include <vector>

#include <dvla/autodiff/embedding.hpp>
#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/autodiff/rearrange.hpp>
#include <dvla/expr/functions.hpp>

#include "support/poison.hpp"
#include "support/tensors.hpp"

namespace {

using dvla::concatenate;
using dvla::dyn;
using dvla::gather;
using dvla::gradient_check;
using dvla::shape;
using dvla::slice;
using dvla::tensor;

constexpr double bound = 1e-7;

}  // namespace

TEST_CASE("Slices of every axis have the right elements and gradients") {
  auto x = uniform_tensor<double>(shape<dyn, 5, dyn>(4, 7), 1);
  dvla::inference<> context;
  poison(context);
  auto const v = context(x);
  CHECK(slice<0>(v, 1, 2).value()(1, 4, 6) == x(2, 4, 6));
  CHECK(slice<1, 2>(v, 3).value()(3, 1, 6) == x(3, 4, 6));
  CHECK(slice<1, 2>(v, 3).shape() == shape<4, 2, 7>{});
  CHECK(slice<2>(v, 2, 5).value()(3, 4, 4) == x(3, 4, 6));
  CHECK(slice<2>(v, 7, 0).size() == 0);
  CHECK(gradient_check([](auto const& u) { return slice<0>(u, 1, 2); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& u) { return slice<1, 2>(u, 3); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& u) { return slice<2>(square(u), 2, 5); }, false, x).error <= bound);
  CHECK(gradient_check([](auto const& u) { return slice<2>(u, 0, 5) * slice<2>(u, 2, 5); }, false, x).error <= bound);
  CHECK(contains(message_of([&] { (void)slice<1>(v, 4, 2); }), "elements 4 to 6 of axis 1 were asked for, but the shape is (4, 5, 7)"));
}

TEST_CASE("Concatenation along every axis has the right elements and gradients") {
  auto x = uniform_tensor<double>(shape<dyn, 2, 3>(2), 1);
  auto outer = uniform_tensor<double>(shape<dyn, 2, 3>(1), 2);
  auto middle = uniform_tensor<double>(shape<dyn, 4, 3>(2), 3);
  auto inner = uniform_tensor<double>(shape<dyn, 2, dyn>(2, 5), 4);
  dvla::inference<> context;
  poison(context);
  auto const joined = concatenate<1>(context(x), context(middle));
  CHECK(std::remove_cvref_t<decltype(joined)>::shape_type::statics[1] == 6);
  CHECK(joined.value()(1, 1, 2) == x(1, 1, 2));
  CHECK(joined.value()(1, 5, 2) == middle(1, 3, 2));
  CHECK(concatenate<2>(context(x), context(inner)).value()(1, 1, 7) == inner(1, 1, 4));
  CHECK(gradient_check([](auto const& a, auto const& b) { return concatenate<0>(a, b); }, false, x, outer).error <= bound);
  CHECK(gradient_check([](auto const& a, auto const& b) { return concatenate<1>(a * a, b); }, false, x, middle).error <= bound);
  CHECK(gradient_check([](auto const& a, auto const& b) { return concatenate<2>(b, a); }, false, x, inner).error <= bound);
  auto const three = concatenate<1>(context(middle), context(x), context(middle));
  CHECK(three.shape()[1] == 2 * middle.shape()[1] + x.shape()[1]);
  CHECK(three.value()(1, three.shape()[1] - 1, 2) == middle(1, middle.shape()[1] - 1, 2));
  CHECK(gradient_check([](auto const& a, auto const& b) { return concatenate<1>(b, a * a, b); }, false, x, middle).error <= bound);
  CHECK(gradient_check([](auto const& a) { return concatenate<1>(a, a) * concatenate<1>(a, a * a); }, false, x).error <= bound);
  tensor<double, shape<dyn, 2, 3>> const none(0);
  CHECK(concatenate<0>(context(none), context(x)).value()(1, 1, 2) == x(1, 1, 2));
  tensor<double, shape<dyn, dyn, 3>> const wrong(3, 2);
  CHECK(contains(message_of([&] { (void)concatenate<1>(context(x), context(wrong)); }), "concatenate: extent 0 of (2, 2, 3)"));
}

TEST_CASE("Rows by index may repeat, and gradients of repeated rows add up") {
  auto x = uniform_tensor<double>(shape<dyn, 2, 3>(4), 1);
  std::vector<std::uint32_t> const rows{2, 0, 2, 3, 2};
  CHECK(gradient_check([&](auto const& u) { return gather(u, rows); }, false, x).error <= bound);
  dvla::tape<> t;
  poison(t);
  auto const v = t(x);
  v.watch();
  auto const y = [&] {
    std::vector<std::uint32_t> const temporary = rows;
    return gather(v, temporary);  // the positions need not outlive the call
  }();
  CHECK(y.value()(2, 1, 2) == x(2, 1, 2));
  t.backward(evaluate(y + y));
  CHECK(v.gradient()(2, 1, 2) == 6);
  CHECK(v.gradient()(1, 1, 2) == 0);
  CHECK(gather(v, std::vector<std::uint32_t>{}).size() == 0);
  CHECK(contains(message_of([&] { (void)gather(v, std::vector<std::uint32_t>{0, 4}); }), "gather: row 4 of a tensor of shape (4, 2, 3)"));
  t.clear();
}

TEST_CASE("Embedding takes rows of a table by id, adds gradients to them, and names an id beyond the table") {
  auto table = uniform_tensor<double>(shape<dyn, dyn>(4, 3), 1);
  std::vector<std::uint32_t> const ids{2, 0, 2};
  CHECK(gradient_check([&](auto const& x) { return dvla::embedding(x.context(), x, ids); }, false, table).error <= bound);
  dvla::inference<> context;
  auto const rows = dvla::embedding(context, context(table), ids);
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t k = 0; k < 3; ++k) CHECK(rows.value()(i, k) == table(ids[i], k));
  std::vector<std::uint32_t> const beyond{4};
  CHECK(contains(message_of([&] { (void)dvla::embedding(context, context(table), beyond); }), "embedding: id 4 of a table of shape (4, 3)"));
}
