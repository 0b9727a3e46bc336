#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include <dvla/io/safetensors.hpp>

#include "io_support.hpp"

namespace {

using namespace dvla;
using namespace dvla_test;

/// Value of a binary floating-point pattern, from the definition in IEEE 754.
double decoded(unsigned bits, int exponent_bits, int fraction_bits) {
  unsigned const fraction = bits & ((1u << fraction_bits) - 1);
  int const exponent = static_cast<int>((bits >> fraction_bits) & ((1u << exponent_bits) - 1));
  int const bias = (1 << (exponent_bits - 1)) - 1;
  double const sign = (bits >> (exponent_bits + fraction_bits)) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction != 0 ? std::nan("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1u << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

template <class T>
stored_tensor tensor_of(T const& value, dtype type = dtype_of<T>()) {
  return {"x", type, {}, std::as_bytes(std::span(&value, 1))};
}

}  // namespace

TEST_CASE("all 65536 patterns of F16 and BF16 have the value that IEEE 754 gives them") {
  std::size_t wrong = 0;
  auto const differ = [](float got, double wanted) {
    if (std::isnan(wanted)) return !std::isnan(got);
    return !(got == wanted && std::signbit(got) == std::signbit(wanted));
  };
  for (unsigned bits = 0; bits <= 0xffff; ++bits) {
    auto const half = static_cast<std::uint16_t>(bits);
    wrong += differ(f16_bits_to_float(half), decoded(bits, 5, 10));
    wrong += differ(bf16_bits_to_float(half), decoded(bits, 8, 7));
  }
  CHECK(wrong == 0);
}

TEST_CASE("well-known F16 values are read") {
  CHECK(f16_bits_to_float(0x3c00) == 1.0f);
  CHECK(f16_bits_to_float(0x0001) == 0x1p-24f);
  CHECK(f16_bits_to_float(0x03ff) == 1023 * 0x1p-24f);
  CHECK(f16_bits_to_float(0x7bff) == 65504.0f);
  CHECK(f16_bits_to_float(0xfc00) == -INFINITY);
}

TEST_CASE("names, sizes and C++ types of the element types agree") {
  for (unsigned i = 0; i < 13; ++i) CHECK(dtype_of_name(dtype_name(static_cast<dtype>(i))) == static_cast<dtype>(i));
  CHECK(!dtype_of_name("F8_E4M3"));
  CHECK(dtype_of<float>() == dtype::f32);
  CHECK(dtype_of<std::int16_t>() == dtype::i16);
  CHECK(dtype_of<unsigned long long>() == dtype::u64);
  CHECK(dtype_of<bool>() == dtype::boolean);
  CHECK(dtype_size(dtype::bf16) == 2);
}

TEST_CASE("an integer target takes only numbers that it holds exactly, and the message names the element") {
  CHECK(read_as<std::uint8_t>(tensor_of(255.0f)).front() == 255);
  CHECK(read_as<std::int8_t>(tensor_of(std::int64_t{-128})).front() == -128);
  CHECK(read_as<std::int64_t>(tensor_of(-0x1p63)).front() == std::numeric_limits<std::int64_t>::min());
  CHECK(read_as<std::uint64_t>(tensor_of(0x1p63)).front() == std::uint64_t{1} << 63);
  CHECK(message_of([] { (void)read_as<std::uint8_t>(tensor_of(256.0f)); }) ==
        "element 0 of tensor 'x' is 256, which U8 cannot hold");
  CHECK(has(message_of([] { (void)read_as<std::int32_t>(tensor_of(1.5)); }), "which I32 cannot hold"));
  CHECK(has(message_of([] { (void)read_as<std::int32_t>(tensor_of(NAN)); }), "which I32 cannot hold"));
  CHECK(has(message_of([] { (void)read_as<std::uint64_t>(tensor_of(std::int32_t{-1})); }), "-1, which U64 cannot hold"));
  CHECK(has(message_of([] { (void)read_as<std::int64_t>(tensor_of(0x1p63)); }), "which I64 cannot hold"));
  CHECK(has(message_of([] { (void)read_as<std::int64_t>(tensor_of(~std::uint64_t{0})); }), "which I64 cannot hold"));
}

TEST_CASE("a floating-point target rounds to nearest, and any byte but zero is true") {
  CHECK(read_as<float>(tensor_of(0.1)).front() == 0.1f);
  CHECK(read_as<float>(tensor_of(std::int64_t{16777217})).front() == 16777216.0f);
  CHECK(read_as<float>(tensor_of(std::uint8_t{2}, dtype::boolean)).front() == 1.0f);
}
