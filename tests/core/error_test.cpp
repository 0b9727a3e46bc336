// The parts of a message.
#include <doctest/doctest.h>

#include <limits>
#include <string>

#include <dvla/core/error.hpp>

#include "support/tensors.hpp"

TEST_CASE("Messages join strings, characters, truth values and numbers") {
  using dvla::concat;
  CHECK(concat("a", 'b', std::string("c"), std::string_view("d"), true, false) == "abcdtruefalse");
  CHECK(concat(-3, ' ', 7u, ' ', std::size_t(0) - 1) == "-3 7 18446744073709551615");
  CHECK(concat(static_cast<unsigned char>(200), ' ', static_cast<signed char>(-5)) == "200 -5");
  CHECK(concat(0.5, ' ', 0.1f, ' ', 1e300) == "0.5 0.1 1e+300");
  CHECK(contains(concat(std::numeric_limits<double>::quiet_NaN()), "nan"));
  CHECK(concat(-std::numeric_limits<double>::infinity()) == "-inf");
  CHECK(std::stod(concat(-std::numeric_limits<double>::max())) == -std::numeric_limits<double>::max());
  CHECK(std::stod(concat(0.1 + 0.2)) == 0.1 + 0.2);
  CHECK(concat().empty());
}

TEST_CASE("expect throws dvla::error only when the condition does not hold") {
  CHECK_NOTHROW(dvla::expect(true, "unseen"));
  CHECK(message_of([] { dvla::expect(false, "shape ", 3, " given"); }) == "shape 3 given");
  CHECK_THROWS_AS(dvla::fail("x"), std::runtime_error);
}
