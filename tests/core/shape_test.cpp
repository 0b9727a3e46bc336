// Shapes: which extents are stored, how shapes convert, and what is said when they do not fit.
#include <doctest/doctest.h>

#include <type_traits>

#include <dvla/core/shape.hpp>

#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::shape;

}  // namespace

TEST_CASE("A static shape takes no storage and a dynamic one a number for each open extent") {
  CHECK(std::is_empty_v<shape<>>);
  CHECK(std::is_empty_v<shape<3, 4>>);
  CHECK(sizeof(shape<dyn>) == sizeof(std::size_t));
  CHECK(sizeof(shape<dyn, 196, dyn>) == 2 * sizeof(std::size_t));
  CHECK(std::is_trivially_copyable_v<shape<dyn, 196>>);
}

TEST_CASE("A shape knows its extents, their product and which are static") {
  using mixed = shape<dyn, 196, dyn, 3>;
  mixed const s(5, 7);
  CHECK(mixed::rank == 4);
  CHECK(mixed::dynamic_rank == 2);
  CHECK(mixed::static_extent(1) == 196);
  CHECK(s[0] == 5);
  CHECK(s[1] == 196);
  CHECK(s[2] == 7);
  CHECK(s[3] == 3);
  CHECK(s.size() == 5u * 196 * 7 * 3);
  CHECK(s.extents() == std::array<std::size_t, 4>{5, 196, 7, 3});
  CHECK(to_string(s) == "(5, 196, 7, 3)");
  CHECK(shape<>{}.size() == 1);
  CHECK(to_string(shape<>{}) == "()");
  CHECK(shape<4, 0, 3>{}.size() == 0);
  static_assert(shape<2, 3>{}.size() == 6);
  static_assert(shape<dyn, 3>(4).size() == 12);
}

TEST_CASE("All extents may be given; a static one must be the type's") {
  shape<dyn, 3> const s(2, 3);
  CHECK(s[0] == 2);
  std::string const message = message_of([] { (void)shape<dyn, 3>(2, 4); });
  CHECK(contains(message, "extent 1 is 3 in the type but 4 was given"));
}

TEST_CASE("Shapes convert where their static extents allow it") {
  shape<dyn, 3> const open(4);
  shape<4, dyn> const other = open;
  CHECK(other[0] == 4);
  CHECK(other[1] == 3);
  shape<4, 3> const closed = open;
  CHECK(closed.size() == 12);
  shape<dyn, dyn> const widest = closed;
  CHECK(widest == closed);
  CHECK(contains(message_of([&] { shape<5, 3> const wrong = open; (void)wrong; }), "extent 0 is 5 in the type but 4 was given"));
  CHECK(std::is_convertible_v<shape<4, 3>, shape<dyn, 3>>);
  CHECK_FALSE(std::is_convertible_v<shape<4, 3>, shape<4, 2>>);
  CHECK_FALSE(std::is_convertible_v<shape<4, 3>, shape<dyn>>);
}

TEST_CASE("Shapes are equal when all their numbers are") {
  CHECK(shape<dyn, 3>(2) == shape<2, 3>{});
  CHECK(shape<dyn, 3>(2) != shape<3, 3>{});
  CHECK(shape<dyn>(2) != shape<2, 1>{});
  CHECK(shape<>{} == shape<>{});
}

TEST_CASE("Shapes are cut, joined and changed in the type") {
  CHECK(std::is_same_v<dvla::drop_front<shape<2, dyn, 4>>, shape<dyn, 4>>);
  CHECK(std::is_same_v<dvla::drop_front<shape<2, dyn, 4>, 3>, shape<>>);
  CHECK(std::is_same_v<dvla::keep_front<shape<2, dyn, 4>, 2>, shape<2, dyn>>);
  CHECK(std::is_same_v<dvla::replace_extent<shape<2, dyn, 4>, 1, 7>, shape<2, 7, 4>>);
  CHECK(std::is_same_v<dvla::join_shapes<shape<2>, shape<dyn, 4>>, shape<2, dyn, 4>>);
}
