// Views: where their elements lie after slicing, permuting, transposing and reshaping.
#include <doctest/doctest.h>

#include <type_traits>

#include <dvla/core/tensor.hpp>

#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::shape;
using dvla::strided;
using dvla::tensor;
using dvla::view;

tensor<int, shape<dyn, 3, 4>> numbered(std::size_t outer) {
  tensor<int, shape<dyn, 3, 4>> t(outer);
  for (std::size_t i = 0; i < t.size(); ++i) t.data()[i] = static_cast<int>(i);
  return t;
}

}  // namespace

TEST_CASE("Views are trivially copyable, and static contiguous ones are a pointer") {
  CHECK(std::is_trivially_copyable_v<view<float, shape<dyn, 3>>>);
  CHECK(std::is_trivially_copyable_v<view<float, shape<dyn, 3>, strided>>);
  CHECK(sizeof(view<float, shape<2, 3>>) == sizeof(float*));
}

TEST_CASE("A contiguous view has row-major strides") {
  auto t = numbered(2);
  auto const v = t.view_of();
  CHECK(v.stride(0) == 12);
  CHECK(v.stride(1) == 4);
  CHECK(v.stride(2) == 1);
  CHECK(v(1, 2, 3) == 23);
  CHECK(&v(0, 0, 0) == t.data());
}

TEST_CASE("Indexing drops the outermost axis") {
  auto t = numbered(3);
  auto const row = t.view_of()[2][1];
  CHECK(std::is_same_v<std::remove_const_t<decltype(row)>, view<int, shape<4>>>);
  CHECK(row(3) == 31);
  row(3) = -1;
  CHECK(t(2, 1, 3) == -1);
  auto const element = row[0];
  CHECK(decltype(element)::rank == 0);
  CHECK(element() == 28);
}

TEST_CASE("A slice of the first axis stays contiguous, one of another axis becomes strided") {
  auto t = numbered(5);
  auto const outer = slice<0>(t.view_of(), 1, 2);
  CHECK(std::is_same_v<std::remove_const_t<decltype(outer)>, view<int, shape<dyn, 3, 4>>>);
  CHECK(outer.shape()[0] == 2);
  CHECK(outer(1, 2, 3) == t(2, 2, 3));
  auto const inner = slice<2, 2>(t.view_of(), 1);
  CHECK(std::is_same_v<std::remove_const_t<decltype(inner)>, view<int, shape<dyn, 3, 2>, strided>>);
  CHECK(inner(4, 2, 1) == t(4, 2, 2));
  auto const both = slice<0, 2>(slice<1>(inner, 1, 2), 3);
  CHECK(both(1, 1, 1) == t(4, 2, 2));
  CHECK(slice<0>(t.view_of(), 5, 0).size() == 0);
}

TEST_CASE("A slice outside the axis is refused with the shape") {
  auto t = numbered(5);
  std::string const message = message_of([&] { (void)slice<1>(t.view_of(), 2, 2); });
  CHECK(contains(message, "elements 2 to 4 of axis 1"));
  CHECK(contains(message, "(5, 3, 4)"));
  CHECK(contains(message_of([&] { (void)slice<0>(t.view_of(), 6, 0); }), "axis 0"));
  CHECK(contains(message_of([&] { (void)slice<0>(t.view_of(), 1, static_cast<std::size_t>(-1)); }), "axis 0"));
}

TEST_CASE("A slice whose count is in the type refuses another count") {
  auto t = numbered(5);
  CHECK(contains(message_of([&] { (void)slice<1, 2>(t.view_of(), 0, 3); }), "extent 1 is 2 in the type but 3 was given"));
}

TEST_CASE("Permuting reorders axes without moving elements") {
  auto t = numbered(2);
  auto const p = dvla::permute<2, 0, 1>(t.view_of());
  CHECK(std::is_same_v<std::remove_const_t<decltype(p)>, view<int, shape<4, dyn, 3>, strided>>);
  for (std::size_t i = 0; i < 2; ++i)
    for (std::size_t j = 0; j < 3; ++j)
      for (std::size_t k = 0; k < 4; ++k) CHECK(p(k, i, j) == t(i, j, k));
  auto const back = dvla::permute<1, 2, 0>(p);
  for (std::size_t axis = 0; axis < 3; ++axis) CHECK(back.stride(axis) == t.view_of().stride(axis));
}

TEST_CASE("Transposing swaps the last two axes, twice gives the view back") {
  auto t = numbered(2);
  auto const flipped = transpose(t.view_of());
  CHECK(flipped.shape() == shape<dyn, 4, 3>(2));
  CHECK(flipped(1, 3, 2) == t(1, 2, 3));
  CHECK(transpose(flipped)(1, 2, 3) == t(1, 2, 3));
}

TEST_CASE("Strides may be zero or negative") {
  int row[] = {1, 2, 3};
  view<int, shape<2, 3>, strided> const repeated(row, {}, {0, 1});
  CHECK(repeated(1, 2) == 3);
  view<int, shape<3>, strided> const reversed(row + 2, {}, {-1});
  CHECK(reversed(0) == 3);
  CHECK(reversed(2) == 1);
  CHECK(dvla::slice<0, 2>(reversed, 1)(1) == 1);
}

TEST_CASE("Reshaping keeps the elements and refuses another number of them") {
  auto t = numbered(2);
  auto const flat = dvla::reshape<shape<24>>(t.view_of());
  CHECK(flat(23) == 23);
  auto const square = reshape(t.view_of(), shape<dyn, 6>(4));
  CHECK(square(3, 5) == 23);
  std::string const message = message_of([&] { (void)reshape(t.view_of(), shape<dyn>(23)); });
  CHECK(contains(message, "(2, 3, 4) has 24 elements, (23) would have 23"));
}

TEST_CASE("A view of mutable elements becomes one of const elements, not the reverse") {
  CHECK(std::is_convertible_v<view<int, shape<3>>, view<int const, shape<3>>>);
  CHECK_FALSE(std::is_convertible_v<view<int const, shape<3>>, view<int, shape<3>>>);
  auto t = numbered(1);
  view<int const, shape<dyn, 4, 3>, strided> const flipped = transpose(t.view_of());
  CHECK(flipped(0, 3, 2) == 11);
}
