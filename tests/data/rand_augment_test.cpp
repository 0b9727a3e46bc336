// RandAugment: the bytes of timm's operations on Pillow images (fixtures/make_rand_augment.py), its strengths, and its draws.
#include <doctest/doctest.h>

#include <dvla/data/pipeline.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "fixture.hpp"

using namespace dvla_test;
using enum dvla::pixel_operation;

namespace {

dvla::drawn_operation with_level(dvla::pixel_operation what, int level) { return {what, level}; }
dvla::drawn_operation with_factor(dvla::pixel_operation what, float factor) { return {what, 0, factor}; }
dvla::drawn_operation mapped(dvla::affine_map const& map) { return {shear_x, 0, 1, map}; }

/// The operations of the fixture in its order, for a source of the size.
std::vector<dvla::drawn_operation> fixture_operations(dvla::image const& source) {
  std::vector<dvla::drawn_operation> out{{auto_contrast}, {equalise}, {invert}};
  for (int const bits : {0, 1, 4}) out.push_back(with_level(posterise, bits));
  for (int const threshold : {26, 130}) out.push_back(with_level(solarise, threshold));
  for (int const added : {99, 128}) out.push_back(with_level(solarise_add, added));
  for (auto const what : {colour, contrast, brightness, sharpness})
    for (float const factor : {0.1f, 1.81f}) out.push_back(with_factor(what, factor));
  for (double const argument : {-1229.0, 1106.0}) out.push_back(mapped({.xy = argument / 4096}));
  for (double const argument : {-1229.0, 1106.0}) out.push_back(mapped({.yx = argument / 4096}));
  for (double const argument : {-30000.0, 41111.0}) out.push_back(mapped({.x0 = argument / 4096}));
  for (double const argument : {-30000.0, 41111.0}) out.push_back(mapped({.y0 = argument / 4096}));
  for (double const degrees : {-27.3, 30.0}) out.push_back(mapped(dvla::rotation(degrees, source.height, source.width)));
  return out;
}

bool same(dvla::affine_map const& a, dvla::affine_map const& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

}  // namespace

TEST_CASE("every operation equals timm's on Pillow images to the byte") {
  auto const expected = dvla::read_bytes(fixture("rand_augment.rgb"));
  std::size_t at = 0;
  for (auto const* name : {"jitter.png", "narrow.png"}) {
    auto const source = dvla::read_image(fixture(name));
    for (auto const& operation : fixture_operations(source)) {
      CAPTURE(name);
      CAPTURE(at);
      CAPTURE(static_cast<int>(operation.what));
      auto changed = source;
      dvla::apply(operation, changed);
      REQUIRE(at + changed.pixels.size() <= expected.size());
      CHECK(std::memcmp(changed.pixels.data(), expected.data() + at, changed.pixels.size()) == 0);
      at += changed.pixels.size();
    }
    // Rotations off the grid move pixels by less than 0.005.
    for (double const degrees : {-27.3, 30.0}) {
      auto turned = source;
      dvla::apply(mapped(dvla::rotation(degrees, source.height, source.width)), turned);
      REQUIRE(at + turned.pixels.size() <= expected.size());
      int furthest = 0;
      for (auto const p : turned.pixels) furthest = std::max(furthest, std::abs(p - expected[at++]));
      CHECK(furthest <= 2);
    }
  }
  CHECK(at == expected.size());
}

TEST_CASE("operations that change nothing change nothing, and those on tiny images stay inside") {
  for (auto const& source : {noise(1, 1), noise(2, 7), noise(9, 1), noise(12, 13)}) {
    for (auto const& operation :
         {with_level(posterise, 8), with_level(solarise, 256), with_level(solarise_add, 0), with_factor(colour, 1),
          with_factor(contrast, 1), with_factor(brightness, 1), with_factor(sharpness, 1), mapped({}), dvla::drawn_operation{}}) {
      auto changed = source;
      dvla::apply(operation, changed);
      CHECK((changed == source));
    }
    for (std::uint32_t what = 1; what <= dvla::pixel_operations; ++what) {
      auto changed = source;
      dvla::apply(dvla::operation_at(static_cast<dvla::pixel_operation>(what), 10, true, source.height, source.width), changed);
      CHECK(changed.pixels.size() == source.pixels.size());
    }
  }
  auto far = noise(5, 6);
  dvla::apply(mapped({.x0 = 1e18, .y0 = -1e18}), far);
  for (std::size_t i = 0; i < far.pixels.size(); ++i) CHECK(far.pixels[i] == dvla::imagenet_grey[i % 3]);
}

TEST_CASE("strengths are timm's at the magnitude") {
  auto const at = [](dvla::pixel_operation what, double magnitude, bool negative = false) {
    return dvla::operation_at(what, magnitude, negative, 224, 160);
  };
  CHECK(at(posterise, 9).level == 1);
  CHECK(at(posterise, 10).level == 0);
  CHECK(at(posterise, 7.4).level == 2);
  CHECK(at(solarise, 9).level == 26);
  CHECK(at(solarise, 10).level == 0);
  CHECK(at(solarise_add, 9).level == 99);
  CHECK(at(solarise_add, 10).level == 110);
  for (auto const what : {colour, contrast, brightness, sharpness}) {
    CHECK(at(what, 9).factor == 1.81f);
    CHECK(at(what, 9, true).factor == 0.19f);
    CHECK(at(what, 10, true).factor == 0.1f);
  }
  CHECK(std::abs(at(shear_x, 9).map.xy - 0.27) <= 0.5 / 4096);
  CHECK(std::abs(at(shear_y, 9, true).map.yx + 0.27) <= 0.5 / 4096);
  CHECK(std::abs(at(translate_x, 9).map.x0 - 0.405 * 160) <= 0.5 / 4096);
  CHECK(std::abs(at(translate_y, 9, true).map.y0 + 0.405 * 224) <= 0.5 / 4096);
  CHECK(same(at(rotate, 9).map, dvla::rotation(27, 224, 160)));
  CHECK(same(at(rotate, 9, true).map, dvla::rotation(-27, 224, 160)));
  auto const turn = dvla::rotation(30, 224, 160);
  CHECK(std::abs(turn.xx - std::sqrt(0.75)) <= 0.5 / 4096);
  CHECK(turn.xy == -0.5);
  CHECK(turn.xx * 80 + turn.xy * 112 + turn.x0 == 80);
  CHECK(turn.yx * 80 + turn.yy * 112 + turn.y0 == 112);
}

TEST_CASE("operations are drawn evenly, half of them applied, with magnitudes around nine and both directions") {
  std::array<int, 1 + dvla::pixel_operations> seen{};
  double factor = 0, square = 0;
  int factors = 0, negative = 0;
  constexpr int images = 6000;
  for (std::uint32_t i = 0; i < images; ++i) {
    dvla::random_stream random(4, dvla::draw::augment, i, 0);
    auto const drawn = dvla::draw_operations({}, 32, 32, random);
    CHECK(drawn.list[2].what == none);
    for (std::size_t k = 0; k < 2; ++k) {
      ++seen[static_cast<std::size_t>(drawn.list[k].what)];
      if (drawn.list[k].what != colour && drawn.list[k].what != brightness) continue;
      double const strength = std::abs(static_cast<double>(drawn.list[k].factor) - 1) / 0.09;
      CHECK(strength <= 10.001);
      factor += strength;
      square += strength * strength;
      ++factors;
      negative += drawn.list[k].factor < 1;
    }
  }
  CHECK(std::abs(seen[0] - images) <= 250);
  for (std::size_t what = 1; what < seen.size(); ++what) CHECK(std::abs(seen[what] - images / 15) <= 100);
  double const mean = factor / factors;
  CHECK(std::abs(mean - 9) <= 0.08);
  CHECK(std::abs(std::sqrt(square / factors - mean * mean) - 0.5) <= 0.05);
  CHECK(std::abs(negative - factors / 2) <= 80);
}

TEST_CASE("the published augmentation crops, flips and applies RandAugment last, and what else is drawn does not depend on it") {
  auto const how = dvla::evaluation_preprocessing("imagenet", 24);
  auto what = dvla::training_augmentation("published");
  CHECK(what.resized_crop.has_value());
  CHECK(what.resized_crop->smallest_area == 0.08);
  CHECK(what.jitter.brightness == 0);
  what.erasing = dvla::random_erasing{};
  auto plain = what;
  plain.operations.reset();
  auto const source = noise(40, 30);
  for (std::uint32_t i = 0; i < 20; ++i) {
    dvla::random_stream first(6, dvla::draw::augment, i, 2), second = first;
    auto const drawn = dvla::draw_augmentation(what, how, 40, 30, first);
    auto without = dvla::draw_augmentation(plain, how, 40, 30, second);
    CHECK((drawn.crop == without.crop));
    CHECK(drawn.flip == without.flip);
    CHECK((drawn.erased.box == without.erased.box));
    CHECK(drawn.erased.noise_seed == without.erased.noise_seed);
    auto expected = dvla::prepare_pixels(source, how, without);
    for (auto const& operation : drawn.operations.list) dvla::apply(operation, expected);
    CHECK((dvla::prepare_pixels(source, how, drawn) == expected));
  }
}

TEST_CASE("settings out of range are refused") {
  dvla::random_stream random(1, dvla::draw::augment, 0, 0);
  CHECK(contains(message_of([&] { (void)dvla::draw_operations({5}, 8, 8, random); }), "5 operations an image; give at most 4"));
  CHECK(contains(message_of([&] { (void)dvla::draw_operations({2, 1.5}, 8, 8, random); }), "a probability of 1.5"));
  CHECK(contains(message_of([&] { (void)dvla::draw_operations({2, 0.5, 11}, 8, 8, random); }), "a magnitude of 11"));
}
