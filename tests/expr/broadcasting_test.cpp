// Broadcasting of every kind against plain loops, and what is said when run-time extents disagree.
#include <doctest/doctest.h>

#include <type_traits>

#include <dvla/expr/assign.hpp>
#include <dvla/expr/functions.hpp>
#include <dvla/kernels/cpu/elementwise.hpp>

#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::shape;
using dvla::tensor;

template <class E>
using shape_of = typename std::remove_cvref_t<E>::shape_type;

/// y(i, j, k) = f(i, j, k) everywhere.
template <class Y, class F>
bool holds(Y const& y, F const& f) {
  for (std::size_t i = 0; i < y.shape()[0]; ++i)
    for (std::size_t j = 0; j < y.shape()[1]; ++j)
      for (std::size_t k = 0; k < y.shape()[2]; ++k)
        if (!(y(i, j, k) == f(i, j, k))) return false;
  return true;
}

}  // namespace

TEST_CASE_TEMPLATE("A tensor meets vectors, rows, columns, planes and scalars", T, float, double) {
  for (std::size_t n : {1u, 3u, 17u, 49u}) {
    auto const x = uniform_tensor<T>(shape<dyn, 5, dyn>(2, n), n);
    auto const row = uniform_tensor<T>(shape<dyn>(n), n + 1);
    auto const per_row = uniform_tensor<T>(shape<dyn, 5, 1>(2), n + 2);
    auto const per_sample = uniform_tensor<T>(shape<dyn, 1, 1>(2), n + 3);
    auto const plane = uniform_tensor<T>(shape<5, dyn>(n), n + 4);
    auto const middle = uniform_tensor<T>(shape<5, 1>{}, n + 5);
    auto const outer = uniform_tensor<T>(shape<1, 1, dyn>(n), n + 6);
    tensor<T, shape<>> scalar;
    scalar() = T(0.3);
    tensor<T, shape<dyn, 5, dyn>> y(2, n);
    y = x + row;
    CHECK(holds(y, [&](auto i, auto j, auto k) { return x(i, j, k) + row(k); }));
    y = x * per_row;
    CHECK(holds(y, [&](auto i, auto j, auto k) { return x(i, j, k) * per_row(i, j, 0); }));
    y = per_sample - x;
    CHECK(holds(y, [&](auto i, auto j, auto k) { return per_sample(i, 0, 0) - x(i, j, k); }));
    y = x / (plane + 3);
    CHECK(holds(y, [&](auto i, auto j, auto k) { return x(i, j, k) / (plane(j, k) + 3); }));
    y = x + middle;
    CHECK(holds(y, [&](auto i, auto j, auto k) { return x(i, j, k) + middle(j, 0); }));
    y = maximum(x, outer);
    CHECK(holds(y, [&](auto i, auto j, auto k) { return std::max(x(i, j, k), outer(0, 0, k)); }));
    y = x * scalar;
    CHECK(holds(y, [&](auto i, auto j, auto k) { return x(i, j, k) * scalar(); }));
  }
}

TEST_CASE("Operands that are all smaller than the result fill it together") {
  auto const column = uniform_tensor<float>(shape<dyn, 1>(23), 1);
  auto const row = uniform_tensor<float>(shape<19>{}, 2);
  tensor<float, shape<dyn, 19>> y(23);
  y = column + row;
  for (std::size_t i = 0; i < 23; ++i)
    for (std::size_t j = 0; j < 19; ++j) CHECK(y(i, j) == column(i, 0) + row(j));
  y = row * 2;  // the target itself adds an axis
  for (std::size_t i = 0; i < 23; ++i)
    for (std::size_t j = 0; j < 19; ++j) CHECK(y(i, j) == row(j) * 2);
  tensor<float, shape<1>> one;
  one(0) = 4;
  y = one + 1;
  CHECK(y(22, 18) == 5);
  tensor<float, shape<>> scalar;
  y = scalar + 6;
  CHECK(y(0, 0) == 6);
  scalar = scalar + 2;
  CHECK(scalar() == 2);
}

TEST_CASE("The type of a result keeps what is known") {
  tensor<float, shape<dyn, 1, 4>> const a(2);
  tensor<float, shape<3, dyn>> const b(4);
  CHECK(std::is_same_v<shape_of<decltype(a + b)>, shape<dyn, 3, 4>>);
  CHECK((a + b).extents() == shape<2, 3, 4>{});
  tensor<float, shape<dyn, 5>> const open(7);
  tensor<float, shape<7, dyn>> const other(5);
  CHECK(std::is_same_v<shape_of<decltype(open * other)>, shape<7, 5>>);
  CHECK(std::is_same_v<shape_of<decltype(open * 2)>, shape<dyn, 5>>);
}

TEST_CASE("Run-time extents that disagree are named") {
  tensor<float, shape<dyn, 4>> const a(3), b(5), single(1);
  tensor<float, shape<dyn, 4>> y(3);
  CHECK(contains(message_of([&] { (void)(a + b).extents(); }), "a tensor of shape (5, 4) meets an extent of 3"));
  CHECK(contains(message_of([&] { y = a + b; }), "meets an extent of 3"));
  CHECK(contains(message_of([&] { y = b + 1; }), "a tensor of shape (5, 4) meets an extent of 3"));
  CHECK(contains(message_of([&] { y = a + single; }), "an extent broadcasts only where it is 1 in the type"));
  tensor<float, shape<7, dyn>> const wide(5);
  tensor<float, shape<dyn, dyn>> const narrow(6, 5);
  CHECK(contains(message_of([&] { (void)(wide * narrow).extents(); }), "(6, 5)"));
}

TEST_CASE("A static extent that a run-time one contradicts is named, on whichever side it stands") {
  tensor<float, shape<7, 5>> closed;
  tensor<float, shape<dyn, dyn>> const open(6, 5);
  tensor<float, shape<dyn, dyn>> y(6, 5);
  CHECK(contains(message_of([&] { y = open + closed; }), "meets an extent of"));
  CHECK(contains(message_of([&] { y = closed + open; }), "meets an extent of"));
  CHECK(contains(message_of([&] { closed = open + 1; }), "meets an extent of"));
}

TEST_CASE("A target that is smaller than its expression is refused") {
  tensor<float, shape<dyn, 4>> const x(3);
  tensor<float, shape<1, 4>> row;
  CHECK(contains(message_of([&] { row = x + 1; }), "meets an extent of 1"));
}
