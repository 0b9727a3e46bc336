// Philox against the known answers of its authors, and the statistics and independence of streams.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include <dvla/core/philox.hpp>

namespace {

using dvla::draw;
using dvla::random_stream;
using words = std::array<std::uint32_t, 4>;

}  // namespace

TEST_CASE("Philox4x32-10 gives the known answers of Random123") {
  CHECK(dvla::philox4x32({0, 0, 0, 0}, {0, 0}) == words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(dvla::philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(dvla::philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  static_assert(dvla::philox4x32({0, 0, 0, 0}, {0, 0})[0] == 0x6627e8d5);
}

TEST_CASE("Reading in order and by position gives the same words") {
  random_stream const fixed(7, draw::augment, 3, 11);
  random_stream running = fixed;
  for (std::uint64_t i = 0; i < 101; ++i) CHECK(running.next() == fixed.at(i));
}

TEST_CASE("Every coordinate of a stream counts") {
  std::uint64_t const large = std::uint64_t{1} << 32;
  std::vector<random_stream> const streams{{1, draw::test, 0, 0},         {2, draw::test, 0, 0},     {1 + large, draw::test, 0, 0},
                                           {1, draw::shuffle, 0, 0},      {1, draw::test, 1, 0},     {1, draw::test, 0, 1},
                                           {1, draw::test, 0, large},     {1, draw::test, 0, 1 + large}};
  std::set<std::vector<std::uint32_t>> seen;
  for (auto stream : streams) seen.insert({stream.next(), stream.next(), stream.next(), stream.next()});
  CHECK(seen.size() == streams.size());
}

TEST_CASE("Uniform numbers lie in [0, 1) with mean 1/2, variance 1/12 and no correlation of neighbours") {
  random_stream random(5, draw::test, 0, 0);
  std::size_t const n = 200000;
  double sum = 0, squares = 0, products = 0, last = 0.5;
  bool inside = true;
  for (std::size_t i = 0; i < n; ++i) {
    double const u = random.uniform();
    inside = inside && u >= 0 && u < 1;
    sum += u - 0.5;
    squares += (u - 0.5) * (u - 0.5);
    products += (u - 0.5) * (last - 0.5);
    last = u;
  }
  CHECK(inside);
  CHECK(std::abs(sum / n) < 5 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(squares / n - 1.0 / 12) < 5 * std::sqrt(1.0 / 180 / n));
  CHECK(std::abs(products / n) < 5.0 / 12 / std::sqrt(double(n)));
}

TEST_CASE("Normal numbers have the moments of the normal distribution") {
  random_stream random(6, draw::test, 0, 0);
  std::size_t const n = 200000;
  double moment[5] = {};
  for (std::size_t i = 0; i < n; ++i) {
    double const x = random.normal();
    for (int k = 1; k <= 4; ++k) moment[k] += std::pow(x, k) / n;
  }
  CHECK(std::abs(moment[1]) < 5 / std::sqrt(double(n)));
  CHECK(std::abs(moment[2] - 1) < 5 * std::sqrt(2.0 / n));
  CHECK(std::abs(moment[3]) < 5 * std::sqrt(15.0 / n));
  CHECK(std::abs(moment[4] - 3) < 5 * std::sqrt(96.0 / n));
}

TEST_CASE("Integers below n are equally frequent, also where n does not divide 2^32") {
  random_stream random(8, draw::test, 0, 0);
  for (std::uint32_t n : {1u, 2u, 3u, 7u, 64u, 100u}) {
    std::vector<double> counts(n, 0);
    std::size_t const draws = 20000;
    for (std::size_t i = 0; i < draws; ++i) {
      std::uint32_t const x = random.below(n);
      REQUIRE(x < n);
      ++counts[x];
    }
    double chi2 = 0;
    for (double c : counts) chi2 += (c - double(draws) / n) * (c - double(draws) / n) / (double(draws) / n);
    CHECK(chi2 <= (n - 1) + 5 * std::sqrt(2.0 * (n - 1)) + 1e-9);
  }
  // Two thirds of 2^32: a modulo would hit the lower half twice as often.
  std::uint32_t const n = 2863311530u;
  double low = 0;
  for (int i = 0; i < 20000; ++i) low += random.below(n) < n / 2;
  CHECK(std::abs(low / 20000 - 0.5) < 5 * 0.5 / std::sqrt(20000.0));
}

TEST_CASE("A shuffle is a permutation, the same for the same stream, and every order of three is as likely") {
  std::vector<int> a(1000), b;
  std::iota(a.begin(), a.end(), 0);
  b = a;
  random_stream first(9, draw::shuffle, 0, 0), second(9, draw::shuffle, 0, 0);
  shuffle(a, first);
  shuffle(b, second);
  CHECK(a == b);
  CHECK_FALSE(std::is_sorted(a.begin(), a.end()));
  std::sort(b.begin(), b.end());
  for (int i = 0; i < 1000; ++i) CHECK(b[static_cast<std::size_t>(i)] == i);
  double counts[3][3] = {};
  random_stream random(10, draw::shuffle, 0, 0);
  for (int i = 0; i < 12000; ++i) {
    std::array<int, 3> order{0, 1, 2};
    shuffle(order, random);
    ++counts[order[0]][order[1]];
  }
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j)
      CHECK(std::abs(counts[i][j] - (i == j ? 0 : 2000)) < 5 * std::sqrt(12000.0 / 6 * 5 / 6));
}
