// Augmentations: the bytes of torchvision on Pillow images (fixtures/make_augment.py), bounds and statistics of what is drawn.
#include <doctest/doctest.h>

#include <dvla/data/augment.hpp>
#include <dvla/data/resize.hpp>

#include <cmath>
#include <cstring>

#include "fixture.hpp"

using namespace dvla_test;

namespace {

dvla::random_stream stream(std::uint32_t where = 0) { return {5, dvla::draw::augment, where, 1}; }

}  // namespace

TEST_CASE("colour changes and the flip equal torchvision on Pillow images to the byte") {
  auto const source = dvla::read_image(fixture("jitter.png"));
  auto const expected = dvla::read_bytes(fixture("jitter.rgb"));
  std::size_t at = 0;
  auto const check = [&](dvla::image const& changed) {
    CAPTURE(at);
    REQUIRE(at + changed.pixels.size() <= expected.size());
    CHECK(std::memcmp(changed.pixels.data(), expected.data() + at, changed.pixels.size()) == 0);
    at += changed.pixels.size();
  };
  for (auto const adjust : {dvla::adjust_brightness, dvla::adjust_contrast, dvla::adjust_saturation})
    for (float const factor : {0.0f, 0.6f, 0.8371f, 1.0f, 1.173f, 1.4f, 2.5f}) {
      auto changed = source;
      adjust(changed, factor);
      check(changed);
    }
  using enum dvla::colour_property;
  for (auto const& order :
       {std::array{brightness, contrast, saturation}, {saturation, contrast, brightness}, {contrast, saturation, brightness}}) {
    auto changed = source;
    dvla::apply(dvla::colour_change{1.3127f, 0.7411f, 1.2093f, order}, changed);
    check(changed);
  }
  auto flipped = source;
  dvla::flip_horizontally(flipped);
  check(flipped);
  CHECK(at == expected.size());
}

TEST_CASE("a resized crop and the normalisation equal torchvision") {
  auto const source = dvla::read_image(fixture("jitter.png"));
  auto const resized = dvla::resized_crop(source, {3, 5, 11, 13}, 9, 9, dvla::interpolation::bicubic);
  CHECK((resized.pixels == dvla::read_bytes(fixture("resized_crop.rgb"))));
  std::vector<float> out(source.pixels.size());
  dvla::normalise(source, dvla::cifar_statistics, out);
  auto const expected = dvla::read_bytes(fixture("normalised.f32"));
  REQUIRE(expected.size() == out.size() * 4);
  CHECK(std::memcmp(out.data(), expected.data(), expected.size()) == 0);
  CHECK(contains(message_of([&] { dvla::normalise(source, dvla::cifar_statistics, std::span(out).first(7)); }), "7 floats"));
}

TEST_CASE("flipping twice gives the image back") {
  for (std::size_t const width : {1u, 2u, 7u, 8u}) {
    auto const source = noise(3, width);
    auto flipped = source;
    dvla::flip_horizontally(flipped);
    CHECK(flipped.row(1)[0] == source.row(1)[(width - 1) * 3]);
    dvla::flip_horizontally(flipped);
    CHECK((flipped == source));
  }
}

TEST_CASE("a window beyond the edges is black there and equals the image elsewhere") {
  auto const source = noise(5, 6);
  for (std::ptrdiff_t top = -8; top <= 8; ++top)
    for (std::ptrdiff_t left = -9; left <= 9; ++left) {
      auto const window = dvla::window_of(source, {top, left}, 4, 7);
      std::size_t wrong = 0;
      for (std::ptrdiff_t y = 0; y < 4; ++y)
        for (std::ptrdiff_t x = 0; x < 7; ++x) {
          bool const inside = top + y >= 0 && top + y < 5 && left + x >= 0 && left + x < 6;
          auto const expected = inside ? source.row(static_cast<std::size_t>(top + y))[(left + x) * 3 + 1] : 0;
          wrong += window.row(static_cast<std::size_t>(y))[x * 3 + 1] != expected;
        }
      CHECK(wrong == 0);
    }
}

TEST_CASE("random crops reach every offset of the bordered image and no other") {
  auto random = stream();
  std::vector<int> seen(9);
  for (int i = 0; i < 500; ++i) {
    auto const offset = dvla::draw_random_crop(32, 30, 32, 38, 4, random);
    REQUIRE(offset.top >= -4);
    REQUIRE(offset.top <= 4);
    CHECK(offset.left == -4);
    ++seen[static_cast<std::size_t>(offset.top + 4)];
  }
  for (int const count : seen) CHECK(count > 20);
  CHECK(contains(message_of([&] { (void)dvla::draw_random_crop(8, 8, 17, 8, 4, random); }),
                 "17x8 out of an image of 8x8 with a border of 4"));
}

TEST_CASE("boxes of the random resized crop lie inside, have the areas and aspects asked for, and fall back to the centre") {
  auto random = stream();
  double area = 0, log_aspect = 0;
  constexpr int draws = 4000;
  for (int i = 0; i < draws; ++i) {
    auto const box = dvla::draw_box({0.2, 0.6, 0.75, 4.0 / 3}, 200, 300, random);
    REQUIRE(box.top + box.height <= 200);
    REQUIRE(box.left + box.width <= 300);
    double const share = static_cast<double>(box.height * box.width) / 60000;
    double const aspect = static_cast<double>(box.width) / static_cast<double>(box.height);
    CHECK(std::abs(share - 0.4) <= 0.21);
    CHECK(std::abs(std::log(aspect)) <= std::log(4.0 / 3) + 0.03);
    area += share / draws;
    log_aspect += std::log(aspect) / draws;
  }
  CHECK(std::abs(area - 0.4) <= 0.02);
  CHECK(std::abs(log_aspect) <= 0.03);
  CHECK((dvla::draw_box({1, 1}, 100, 1000, random) == dvla::pixel_box{0, 433, 100, 133}));
  CHECK((dvla::draw_box({1, 1}, 1000, 90, random) == dvla::pixel_box{440, 0, 120, 90}));
  CHECK((dvla::draw_box({1, 1}, 1, 1, random) == dvla::pixel_box{0, 0, 1, 1}));
  CHECK(contains(message_of([&] { (void)dvla::draw_box({0, 1}, 8, 8, random); }), "expected 0 < low <= high <= 1"));
  CHECK(contains(message_of([&] { (void)dvla::draw_box({0.5, 1, 2, 1}, 8, 8, random); }), "aspects from 2 to 1"));
}

TEST_CASE("colour factors are uniform around one and every order of properties occurs") {
  auto random = stream();
  double mean = 0;
  std::vector<int> orders(27);
  for (int i = 0; i < 3000; ++i) {
    auto const change = dvla::draw_colour({0.4, 2, 0}, random);
    REQUIRE(change.brightness >= 0.6f);
    REQUIRE(change.brightness < 1.4f);
    REQUIRE(change.contrast >= 0);
    REQUIRE(change.contrast < 3);
    CHECK(change.saturation == 1);
    mean += static_cast<double>(change.brightness) / 3000;
    ++orders[static_cast<std::size_t>(change.order[0]) * 9 + static_cast<std::size_t>(change.order[1]) * 3 +
             static_cast<std::size_t>(change.order[2])];
  }
  CHECK(std::abs(mean - 1) <= 0.02);
  CHECK(std::count_if(orders.begin(), orders.end(), [](int n) { return n > 400 && n < 600; }) == 6);
  CHECK(contains(message_of([&] { (void)dvla::draw_colour({0, -1, 0}, random); }), "-1 for contrast"));
}

TEST_CASE("erased boxes lie strictly inside, occur as often as asked and hold standard normal noise") {
  auto random = stream();
  int erased = 0;
  for (int i = 0; i < 4000; ++i) {
    auto const drawn = dvla::draw_erasing({}, 32, 48, random);
    if (drawn.box.height == 0) continue;
    ++erased;
    CHECK(drawn.box.top + drawn.box.height <= 32);
    CHECK(drawn.box.left + drawn.box.width <= 48);
    CHECK(drawn.box.height < 32);
    CHECK(drawn.box.width < 48);
    CHECK(static_cast<double>(drawn.box.height * drawn.box.width) <= 1536 * 0.36);
  }
  CHECK(std::abs(erased - 1000) <= 90);

  dvla::erased_box const box{{2, 3, 20, 30}, 77};
  std::vector<float> pixels(32 * 48 * 3, 9);
  dvla::apply(box, 48, pixels);
  double sum = 0, squares = 0;
  int changed = 0;
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    std::size_t const y = i / 144, x = i / 3 % 48;
    if (y < 2 || y >= 22 || x < 3 || x >= 33) {
      CHECK(pixels[i] == 9);
      continue;
    }
    ++changed;
    sum += static_cast<double>(pixels[i]);
    squares += static_cast<double>(pixels[i] * pixels[i]);
  }
  CHECK(changed == 1800);
  CHECK(std::abs(sum / changed) <= 0.1);
  CHECK(std::abs(squares / changed - 1) <= 0.15);
  CHECK(dvla::draw_erasing({0}, 32, 32, random).box.height == 0);
  CHECK(contains(message_of([&] { (void)dvla::draw_erasing({2}, 8, 8, random); }), "a probability of 2"));
}
