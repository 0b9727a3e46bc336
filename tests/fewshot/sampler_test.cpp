// The episode samplers against the golden file and draws of NumPy, and the confidence interval.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <dvla/fewshot/accuracy.hpp>
#include <dvla/fewshot/episode_sampler.hpp>
#include <dvla/fewshot/mt19937.hpp>

#include "support/golden_values.hpp"

namespace {

using dvla::episode;
using dvla::episode_shape;
using sizes = std::vector<std::size_t>;
using numbers = std::vector<std::uint32_t>;

sizes const unequal = {7, 21, 12, 26, 17, 8, 22, 13, 27, 18, 9};

// FNV-1a over every number of the episodes in order: classes, supports, queries.
std::uint64_t digest(std::vector<episode> const& episodes) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (episode const& e : episodes)
    for (auto const* part : {&e.classes, &e.support, &e.query})
      for (std::uint32_t const value : *part) hash = (hash ^ value) * 0x100000001b3;
  return hash;
}

std::string message_of(auto const& call) {
  try {
    call();
  } catch (dvla::error const& e) {
    return e.what();
  }
  return "";
}

std::size_t class_of(sizes const& images_per_class, std::uint32_t image) {
  std::size_t c = 0, left = image;
  while (left >= images_per_class[c]) left -= images_per_class[c++];
  return c;
}

}  // namespace

TEST_CASE("the Mersenne Twister gives its published check value") {
  dvla::mt19937 random(5489);
  for (int i = 1; i < 10000; ++i) (void)random.next();
  CHECK(random.next() == 4123659995u);
}

TEST_CASE("the fixed episodes equal the golden file") {
  auto const golden = dvla_test::read_golden("episode_sampler").at("episodes");  // (10, 5, 1 + 16): class, then images
  REQUIRE(golden.size() == 10 * 5 * 17);
  sizes const images_per_class(20, 600);
  for (episode_shape const shape : {episode_shape{5, 1, 15}, episode_shape{5, 5, 11}}) {
    auto const episodes = dvla::fixed_episodes(images_per_class, shape, 10);
    REQUIRE(episodes.size() == 10);
    for (std::size_t e = 0; e < 10; ++e) {
      REQUIRE(episodes[e].classes.size() == 5);
      REQUIRE(episodes[e].support.size() == 5 * shape.shot);
      REQUIRE(episodes[e].query.size() == 5 * shape.query);
      for (std::size_t c = 0; c < 5; ++c) {
        double const* row = &golden[(e * 5 + c) * 17];
        CHECK(episodes[e].classes[c] == row[0]);
        for (std::size_t i = 0; i < 16; ++i) {
          auto const image =
              i < shape.shot ? episodes[e].support[c * shape.shot + i] : episodes[e].query[c * shape.query + i - shape.shot];
          CHECK(image == row[0] * 600 + row[1 + i]);
        }
      }
    }
  }
}

TEST_CASE("the fixed episodes equal NumPy's for other seeds, shapes and unequal classes") {
  struct row {
    sizes images_per_class;
    episode_shape shape;
    std::size_t count;
    std::uint32_t seed;
    std::uint64_t digest;  // of numpy.random.RandomState(seed).choice(n, k, replace=False), drawn in the same order
  };
  for (row const& r : std::initializer_list<row>{{unequal, {5, 1, 6}, 40, 1, 0x9bdfd016b1e9a6f8},
                                                 {unequal, {11, 2, 3}, 25, 4294967295u, 0x8d2ae84f34420cef},
                                                 {unequal, {1, 3, 4}, 60, 12345, 0x9b1f6194d9a0a942},
                                                 {sizes(20, 600), {5, 5, 15}, 2000, 0, 0x7e2ef033228c611b},
                                                 {sizes(160, 1300), {20, 1, 15}, 20, 7, 0x78a52e0e92ef946b},
                                                 {{2, 2, 3}, {2, 1, 1}, 50, 3, 0x861c988f3339991d},
                                                 {{65536, 65536, 65537}, {3, 1, 2}, 2, 11, 0x556408e6385062b2}}) {
    CAPTURE(r.seed);
    CHECK(digest(dvla::fixed_episodes(r.images_per_class, r.shape, r.count, r.seed)) == r.digest);
  }
  auto const second = dvla::fixed_episodes(unequal, {3, 2, 2}, 2, 1)[1];
  CHECK(second.classes == numbers{6, 5, 8});
  CHECK(second.support == numbers{106, 104, 86, 85, 131, 129});
  CHECK(second.query == numbers{105, 108, 89, 87, 135, 148});
}

TEST_CASE("more fixed episodes begin with the same ones") {
  auto const few = dvla::fixed_episodes(unequal, {5, 1, 6}, 3), many = dvla::fixed_episodes(unequal, {5, 1, 6}, 9);
  CHECK(std::equal(few.begin(), few.end(), many.begin()));
  CHECK(dvla::fixed_episodes(unequal, {5, 1, 6}, 0).empty());
}

TEST_CASE("a training episode holds distinct images of distinct classes and depends on seed and step alone") {
  episode_shape const shape{4, 2, 5};
  auto const episode_at = [&](std::uint64_t seed, std::uint64_t step) {
    return dvla::training_episode(unequal, shape, seed, step);
  };
  std::set<std::uint32_t> seen;
  for (std::uint64_t step = 0; step < 400; ++step) {
    auto const drawn = episode_at(9, step);
    REQUIRE(drawn.classes.size() == 4);
    REQUIRE(drawn.support.size() == 8);
    REQUIRE(drawn.query.size() == 20);
    bool own_class = true;
    for (std::size_t i = 0; i < 8; ++i) own_class = own_class && class_of(unequal, drawn.support[i]) == drawn.classes[i / 2];
    for (std::size_t i = 0; i < 20; ++i) own_class = own_class && class_of(unequal, drawn.query[i]) == drawn.classes[i / 5];
    CHECK(own_class);
    std::set<std::uint32_t> images(drawn.support.begin(), drawn.support.end());
    images.insert(drawn.query.begin(), drawn.query.end());
    CHECK(images.size() == 28);
    CHECK(std::set<std::uint32_t>(drawn.classes.begin(), drawn.classes.end()).size() == 4);
    seen.insert(images.begin(), images.end());
  }
  CHECK(seen.size() == 180);
  CHECK(episode_at(9, 3) == episode_at(9, 3));
  CHECK(!(episode_at(9, 3) == episode_at(9, 4)));
  CHECK(!(episode_at(9, 3) == episode_at(10, 3)));
}

TEST_CASE("every class is as likely as another in training episodes") {
  std::vector<double> times(unequal.size());
  constexpr int episodes = 6000;
  for (std::uint64_t step = 0; step < episodes; ++step)
    for (auto const c : dvla::training_episode(unequal, {3, 1, 1}, 1, step).classes) times[c] += 1;
  double const p = 3.0 / 11;
  for (double const t : times) CHECK(std::abs(t / episodes - p) <= 4 * std::sqrt(p * (1 - p) / episodes));
}

TEST_CASE("episodes that the data cannot fill are refused in a sentence") {
  sizes const few(4, 600), short_class = {600, 600, 600, 600, 15, 600};
  CHECK(message_of([&] { (void)dvla::fixed_episodes(few, {}, 1); }) ==
        "episode: 5-way episodes need at least 5 classes, but there are 4; lower the way or check the split's folder");
  CHECK(message_of([&] { (void)dvla::training_episode(short_class, {}, 0, 0); }) ==
        "episode: class 4 (in sorted order) has 15 images, fewer than the 1 shots and 15 queries of an episode; "
        "add images, remove the class, or lower shot or query");
  CHECK(message_of([&] { (void)dvla::fixed_episodes(few, {2, 0, 15}, 1); }).find("must each be at least 1") != std::string::npos);
  CHECK(message_of([&] { (void)dvla::fixed_episodes(few, {0, 1, 15}, 1); }).find("must each be at least 1") != std::string::npos);
  constexpr std::size_t huge = std::numeric_limits<std::size_t>::max();
  CHECK(message_of([&] { (void)dvla::fixed_episodes(few, {2, huge, huge}, 1); }).find("class 0") != std::string::npos);
  CHECK(message_of([&] {
          (void)dvla::fixed_episodes(sizes(2, huge), {2, 1, 1}, 1);
        }).find("more than 4294967295 images") != std::string::npos);
}

TEST_CASE("the confidence interval is 1.96 population deviations of the mean") {
  std::vector<double> values;
  for (int i = 0; i < 37; ++i) values.push_back(std::cos(i) * std::cos(i));
  auto const interval = dvla::confidence_interval(values);
  CHECK(std::abs(interval.mean - 0.5013224832345085) <= 1e-15);
  CHECK(std::abs(interval.half_width - 0.1155239251683506) <= 1e-15);
  double const one = 0.75;
  CHECK(dvla::confidence_interval({&one, 1}).mean == 0.75);
  CHECK(dvla::confidence_interval({&one, 1}).half_width == 0);
  CHECK(message_of([] { (void)dvla::confidence_interval({}); }) == "confidence_interval: no values; evaluate at least one episode");
}
