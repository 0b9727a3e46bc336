// Mixup and CutMix: weights, boxes, pixels and targets.
#include <doctest/doctest.h>

#include <dvla/data/augment/mix.hpp>

#include <cmath>

#include "fixture.hpp"

using namespace dvla_test;

namespace {

dvla::random_stream stream(std::uint64_t step) { return {8, dvla::draw::mix, 0, step}; }

/// Image i of the batch is filled with the number i.
std::vector<float> numbered_batch(std::size_t images, std::size_t size) {
  std::vector<float> batch(images * size);
  for (std::size_t i = 0; i < batch.size(); ++i) batch[i] = static_cast<float>(i / size);
  return batch;
}

}  // namespace

TEST_CASE("the default draw switches between both kinds, and a cut's weight is the share of the area that stays") {
  int cuts = 0;
  double mixup_weight = 0, mixup_square = 0;
  for (std::uint64_t step = 0; step < 2000; ++step) {
    auto random = stream(step);
    auto const mix = dvla::draw_mix({}, 32, 24, random);
    REQUIRE(mix.weight >= 0);
    REQUIRE(mix.weight <= 1);
    if (mix.cuts()) {
      ++cuts;
      REQUIRE(mix.box.top + mix.box.height <= 32);
      REQUIRE(mix.box.left + mix.box.width <= 24);
      CHECK(std::abs(mix.weight - (1 - static_cast<double>(mix.box.height * mix.box.width) / 768)) <= 1e-12);
    } else if (mix.weight < 1) {
      mixup_weight += mix.weight;
      mixup_square += mix.weight * mix.weight;
    }
  }
  CHECK(std::abs(cuts - 1000) <= 120);
  // Beta(0.3, 0.3): mean 1/2, variance 1 / (4 (2 * 0.3 + 1)).
  double const draws = 2000 - cuts, mean = mixup_weight / draws;
  CHECK(std::abs(mean - 0.5) <= 0.06);
  CHECK(std::abs(mixup_square / draws - mean * mean - 0.15625) <= 0.03);
}

TEST_CASE("a kind with alpha zero is off, and probability zero leaves the batch alone") {
  for (std::uint64_t step = 0; step < 50; ++step) {
    auto random = stream(step);
    CHECK(!dvla::draw_mix({1, 0.3, 0}, 32, 32, random).cuts());
    auto const only_cut = dvla::draw_mix({1, 0, 1}, 32, 32, random);
    CHECK((only_cut.cuts() || only_cut.weight == 1));
    CHECK(dvla::draw_mix({0}, 32, 32, random).weight == 1);
    CHECK(dvla::draw_mix({1, 0, 0}, 32, 32, random).weight == 1);
  }
  auto random = stream(0);
  CHECK(contains(message_of([&] { (void)dvla::draw_mix({2}, 8, 8, random); }), "probability 2"));
  CHECK(contains(message_of([&] { (void)dvla::draw_mix({1, -1}, 8, 8, random); }), "alphas -1"));
}

TEST_CASE("mixup blends each image with its mirror in the batch") {
  for (std::size_t const images : {1u, 4u, 5u}) {
    auto batch = numbered_batch(images, 12);
    dvla::apply(dvla::batch_mix{0.75, {}}, 2, 2, batch);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      auto const own = static_cast<float>(i / 12), partner = static_cast<float>(images - 1 - i / 12);
      CHECK(std::abs(batch[i] - (0.75f * own + 0.25f * partner)) <= 1e-6f);
    }
  }
}

TEST_CASE("cutmix exchanges the box with the mirror image") {
  auto batch = numbered_batch(5, 4 * 5 * 3);
  dvla::apply(dvla::batch_mix{0.7, {1, 2, 2, 3}}, 4, 5, batch);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    std::size_t const image = i / 60, y = i / 15 % 4, x = i / 3 % 5;
    bool const inside = y >= 1 && y < 3 && x >= 2;
    CHECK(batch[i] == static_cast<float>(inside ? 4 - image : image));
  }
  CHECK(contains(message_of([&] {
                   dvla::apply(dvla::batch_mix{0.7, {}}, 4, 4, batch);
                 }),
                 "300 floats are no whole number of 4x4x3"));
}

TEST_CASE("soft targets are smoothed, mixed with the partner's and sum to one") {
  std::uint32_t const labels[] = {0, 2, 1, 2, 3};
  std::vector<float> target(5 * 4);
  dvla::soft_targets(labels, 4, 0.1, {0.7, {}}, target);
  for (std::size_t i = 0; i < 5; ++i) {
    double sum = 0;
    for (std::size_t c = 0; c < 4; ++c) {
      double expected = 0.025;
      if (c == labels[i]) expected += 0.7 * 0.9;
      if (c == labels[4 - i]) expected += 0.3 * 0.9;
      CHECK(std::abs(static_cast<double>(target[i * 4 + c]) - expected) <= 1e-6);
      sum += static_cast<double>(target[i * 4 + c]);
    }
    CHECK(std::abs(sum - 1) <= 1e-6);
  }
  CHECK(contains(message_of([&] { dvla::soft_targets(labels, 3, 0, {}, std::span(target).first(15)); }), "label 3 of 3 classes"));
  CHECK(contains(message_of([&] { dvla::soft_targets(labels, 4, 1, {}, target); }), "smoothing of 1"));
  CHECK(contains(message_of([&] { dvla::soft_targets(labels, 4, 0, {}, std::span(target).first(3)); }), "3 floats for 5 labels"));
}
