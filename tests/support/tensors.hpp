// What the tests of tensors share: random contents, the message of an error, equality of bits.
#pragma once

#include <cmath>
#include <cstring>
#include <string>

#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/core/tensor.hpp>

/// A tensor of uniform numbers in [low, high).
template <class T, class S>
dvla::tensor<T, S> uniform_tensor(S const& extents, std::uint64_t seed, double low = -1, double high = 1) {
  dvla::tensor<T, S> out(extents);
  dvla::random_stream random(seed, dvla::draw::test, 0, 0);
  for (std::size_t i = 0; i < out.size(); ++i) out.data()[i] = static_cast<T>(random.uniform(low, high));
  return out;
}

/// What the call's dvla::error says; empty if it throws none.
std::string message_of(auto const& call) {
  try {
    call();
  } catch (dvla::error const& e) {
    return e.what();
  }
  return "";
}

inline bool contains(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

template <class T>
bool same_bits(std::size_t count, T const* a, T const* b) {
  return std::memcmp(a, b, count * sizeof(T)) == 0;
}

/// The largest |a - b| / (1 + |b|); infinite where a number is NaN.
template <class A, class B>
double distance(std::size_t count, A const* a, B const* b) {
  double worst = 0;
  for (std::size_t i = 0; i < count; ++i) {
    double const expected = static_cast<double>(b[i]), error = std::abs(static_cast<double>(a[i]) - expected) / (1 + std::abs(expected));
    if (!(error <= worst)) worst = std::isnan(error) ? HUGE_VAL : error;
  }
  return worst;
}
