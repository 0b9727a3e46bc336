// Where the elements of an expression lie: tails, unaligned, strided, transposed and bfloat16 memory, aliasing, threads.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include <dvla/core/thread_pool.hpp>
#include <dvla/expr/assign.hpp>
#include <dvla/expr/functions.hpp>
#include <dvla/kernels/cpu/elementwise.hpp>

#include "support/tensors.hpp"

namespace {

using dvla::assign;
using dvla::bfloat16;
using dvla::dyn;
using dvla::shape;
using dvla::strided;
using dvla::tensor;
using dvla::view;

}  // namespace

TEST_CASE_TEMPLATE("An element has the same bits wherever it stands in a row", T, float, double) {
  auto const x = uniform_tensor<T>(shape<197>{}, 1, -3, 3);
  tensor<T, shape<197>> whole;
  auto const function = [](auto const& v) { return gelu(v * 0.7 + 0.1) * exp(-square(v)) + tanh(v) / (1 + sigmoid(v)); };
  whole = function(x);
  for (std::size_t begin : {0u, 1u, 5u, 100u})
    for (std::size_t count : {1u, 2u, 7u, 16u, 31u, 96u}) {
      tensor<T, shape<dyn>> part(count);
      part = function(slice<0>(x.view_of(), begin, count));
      CHECK(same_bits(count, part.data(), whole.data() + begin));
    }
}

TEST_CASE("Strided, transposed and reversed views read and write the right elements") {
  auto const a = uniform_tensor<float>(shape<dyn, 19>(21), 1);
  auto const b = uniform_tensor<float>(shape<19, dyn>(21), 2);
  tensor<float, shape<19, dyn>> y(21);
  y = transpose(a.view_of()) * 2 + b;
  for (std::size_t i = 0; i < 19; ++i)
    for (std::size_t j = 0; j < 21; ++j) CHECK(y(i, j) == a(j, i) * 2 + b(i, j));

  tensor<float, shape<dyn, 19>> z(21);
  z.fill(-9);
  assign(transpose(z.view_of()), b - 1);
  for (std::size_t i = 0; i < 21; ++i)
    for (std::size_t j = 0; j < 19; ++j) CHECK(z(i, j) == b(j, i) - 1);

  z.fill(-9);
  assign(dvla::slice<1, 5>(z.view_of(), 7), dvla::slice<1, 5>(a.view_of(), 3) + 1);
  for (std::size_t i = 0; i < 21; ++i)
    for (std::size_t j = 0; j < 19; ++j) CHECK(z(i, j) == (j >= 7 && j < 12 ? a(i, j - 4) + 1 : -9));

  auto const row = uniform_tensor<float>(shape<197>{}, 3);
  tensor<float, shape<197>> turned;
  turned = view<float const, shape<197>, strided>(row.data() + 196, {}, {-1}) + 0;
  for (std::size_t i = 0; i < 197; ++i) CHECK(turned(i) == row(196 - i));
}

TEST_CASE("Views at any address are read and written without touching their neighbours") {
  for (std::size_t offset : {1u, 3u, 5u, 15u})
    for (std::size_t n : {1u, 3u, 16u, 17u, 49u}) {
      auto source = uniform_tensor<float>(shape<dyn>(n + 2 * offset), n);
      tensor<float, shape<dyn>> target(n + 2 * offset);
      target.fill(7);
      assign(dvla::slice<0>(target.view_of(), offset, n), dvla::slice<0>(source.view_of(), offset, n) * 2);
      for (std::size_t i = 0; i < n + 2 * offset; ++i)
        CHECK(target(i) == (i >= offset && i < offset + n ? source(i) * 2 : 7));
    }
}

TEST_CASE("A tensor may stand on both sides") {
  auto x = uniform_tensor<double>(shape<dyn, 7>(29), 1);
  auto const before = x.clone();
  x = x + 1;
  for (std::size_t i = 0; i < x.size(); ++i) CHECK(x.data()[i] == before.data()[i] + 1);
  x = x * x - before;
  for (std::size_t i = 0; i < x.size(); ++i) {
    double const once = before.data()[i] + 1;
    CHECK(std::abs(x.data()[i] - (once * once - before.data()[i])) <= 1e-15);
  }
}

TEST_CASE("bfloat16 leaves are computed in float and rounded once on the way out") {
  tensor<bfloat16, shape<dyn>> a(101), y(101);
  auto const b = uniform_tensor<float>(shape<dyn>(101), 2);
  for (std::size_t i = 0; i < 101; ++i) a(i) = b(i) * 3 - 1;
  tensor<float, shape<dyn>> f(101);
  f = a * b + 1;
  y = a * b + 1;
  for (std::size_t i = 0; i < 101; ++i) {
    CHECK(std::abs(f(i) - (static_cast<float>(a(i)) * b(i) + 1)) <= 1e-6);  // a fused multiply-add may round less
    CHECK(y(i).bits == bfloat16(f(i)).bits);
  }
  y = y + y;
  for (std::size_t i = 0; i < 101; ++i) CHECK(static_cast<float>(y(i)) == 2 * static_cast<float>(bfloat16(f(i))));
  tensor<bfloat16, shape<5, 7>> grid;
  assign(transpose(grid.view_of()), transpose(grid.view_of()) + 1.00390625);
  CHECK(static_cast<float>(grid(4, 6)) == 1.0f);
}

TEST_CASE("A double target takes a float expression without losing what doubles can hold") {
  auto const x = uniform_tensor<float>(shape<dyn>(37), 1);
  tensor<double, shape<dyn>> y(37);
  y = x * 0.1;
  for (std::size_t i = 0; i < 37; ++i) CHECK(y(i) == static_cast<double>(x(i)) * 0.1);
}

TEST_CASE("Empty tensors are assigned without being read") {
  tensor<float, shape<dyn, 5>> x(0), y(0);
  tensor<float, shape<5>> const bias;
  y = x + bias;
  CHECK(y.size() == 0);
  tensor<float, shape<dyn, dyn>> a(4, 0), b(4, 0);
  b = exp(a) + 1;
  tensor<float, shape<0>> none;
  none = none + 1;
  CHECK(none.size() == 0);
}

TEST_CASE("Large tensors have the same bits on one thread, on two and on seven") {
  auto const x = uniform_tensor<float>(shape<dyn, 193>(700), 1, -3, 3);
  auto const bias = uniform_tensor<float>(shape<193>{}, 2);
  auto const scale = uniform_tensor<float>(shape<dyn, 1>(700), 3);
  tensor<float, shape<dyn, 193>> one(700), many(700);
  auto const expression = gelu(x * scale + bias);
  assign(one.view_of(), expression);
  auto const flat = uniform_tensor<float>(shape<dyn>(300001), 4);
  tensor<float, shape<dyn>> flat_one(300001), flat_many(300001);
  assign(flat_one.view_of(), tanh(flat) * 2);
  for (std::size_t threads : {1u, 2u, 7u}) {
    dvla::thread_pool pool(threads);
    dvla::cpu const device{&pool};
    many.fill(0);
    flat_many.fill(0);
    assign(many.view_of(), expression, device);
    assign(flat_many.view_of(), tanh(flat) * 2, device);
    CHECK(same_bits(one.size(), one.data(), many.data()));
    CHECK(same_bits(flat_one.size(), flat_one.data(), flat_many.data()));
  }
}
