// bfloat16 against rounding computed in double.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/core/philox.hpp>

namespace {

using dvla::bfloat16;

/// The nearest number with 8 significant bits, ties to even, by arithmetic: for normal results.
double nearest(float x) {
  int exponent = 0;
  double const fraction = std::frexp(static_cast<double>(x), &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, 8)), exponent - 8);
}

}  // namespace

TEST_CASE("Every bfloat16 survives the way through float") {
  std::size_t wrong = 0;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    bfloat16 b;
    b.bits = static_cast<std::uint16_t>(bits);
    float const f = b;
    bfloat16 const back(f);
    bool const is_nan = f != f;
    wrong += is_nan ? !(static_cast<float>(back) != static_cast<float>(back)) : back.bits != b.bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE("Rounding is to nearest, ties to even") {
  CHECK(static_cast<float>(bfloat16(1.0f + 0x1p-8f)) == 1.0f);
  CHECK(static_cast<float>(bfloat16(1.0f + 3 * 0x1p-8f)) == 1.0f + 4 * 0x1p-8f);
  CHECK(static_cast<float>(bfloat16(1.0f + 0x1p-8f + 0x1p-23f)) == 1.0f + 2 * 0x1p-8f);
  dvla::random_stream random(1, dvla::draw::test, 0, 0);
  std::size_t wrong = 0;
  for (int i = 0; i < 100000; ++i) {
    auto const x = static_cast<float>(random.normal() * std::exp2(random.uniform(-60, 60)));
    wrong += !(static_cast<double>(static_cast<float>(bfloat16(x))) == nearest(x));
  }
  CHECK(wrong == 0);
}

TEST_CASE("A float beyond the largest bfloat16 rounds to infinity, infinities stay, signs are kept") {
  float const infinity = std::numeric_limits<float>::infinity();
  CHECK(static_cast<float>(bfloat16(std::numeric_limits<float>::max())) == infinity);
  CHECK(static_cast<float>(bfloat16(-std::numeric_limits<float>::max())) == -infinity);
  CHECK(static_cast<float>(bfloat16(infinity)) == infinity);
  CHECK(bfloat16(-0.0f).bits == 0x8000);
}

TEST_CASE("A NaN stays one, whatever its payload and sign") {
  for (std::uint32_t bits : {0x7F800001u, 0x7FFFFFFFu, 0xFF800001u, 0xFFFFFFFFu, 0x7FC00000u}) {
    float const f = bfloat16(std::bit_cast<float>(bits));
    CHECK(f != f);
  }
}

TEST_CASE("Subnormal floats round like others") {
  CHECK(bfloat16(std::bit_cast<float>(0x00010000u)).bits == 1);
  CHECK(bfloat16(std::bit_cast<float>(0x00008000u)).bits == 0);       // a tie goes to even
  CHECK(bfloat16(std::bit_cast<float>(0x00018000u)).bits == 2);       // and up
  CHECK(bfloat16(std::bit_cast<float>(0x00008001u)).bits == 1);
  CHECK(bfloat16(std::numeric_limits<float>::denorm_min()).bits == 0);
}
