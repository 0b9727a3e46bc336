// Resizing against Pillow's bytes, and the sizes and offsets of torchvision.
#include <doctest/doctest.h>

#include <dvla/data/resize.hpp>
#include <dvla/io/safetensors.hpp>

#include <cstring>

#include "fixture.hpp"

using namespace dvla_test;

namespace {

/// The golden inputs: floor(256 u) of "image.<key>" (tests/golden/README.md).
dvla::image golden_image(std::string const& key, std::size_t height, std::size_t width) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (char const c : "image." + key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  dvla::image out(height, width);
  for (std::size_t i = 0; i < out.pixels.size(); ++i) {
    std::uint64_t z = hash + i * 0x9E3779B97F4A7C15u + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    out.pixels[i] = static_cast<std::uint8_t>(z >> 56);
  }
  return out;
}

}  // namespace

TEST_CASE("resizing equals Pillow to the byte") {
  using enum dvla::interpolation;
  struct sizes {
    char const* key;
    std::size_t height, width;
    dvla::interpolation kernel;
  };
  dvla::safetensors_file const file(golden("pillow_resize.safetensors"));
  for (auto const& s : {sizes{"up84", 84, 84, bilinear}, sizes{"down", 375, 500, bilinear}, sizes{"up32", 32, 32, bilinear},
                        sizes{"one", 1, 5, bilinear}, sizes{"cubic", 90, 61, bicubic}, sizes{"cubicdown", 301, 260, bicubic}}) {
    CAPTURE(s.key);
    auto const& expected = file.find(s.key);
    auto const resized = dvla::resize(golden_image(s.key, s.height, s.width), expected.shape[0], expected.shape[1], s.kernel);
    REQUIRE(resized.pixels.size() == expected.bytes.size());
    CHECK(std::memcmp(resized.pixels.data(), expected.bytes.data(), expected.bytes.size()) == 0);
  }
}

TEST_CASE("a resized crop equals cropping and then resizing") {
  auto const source = noise(40, 31);
  for (auto const kernel : {dvla::interpolation::bilinear, dvla::interpolation::bicubic})
    for (auto const box : {dvla::pixel_box{0, 0, 40, 31}, {3, 5, 20, 17}, {39, 30, 1, 1}, {10, 0, 17, 31}})
      CHECK((dvla::resized_crop(source, box, 17, 24, kernel) == dvla::resize(dvla::crop(source, box), 17, 24, kernel)));
}

TEST_CASE("an image of the right size is returned as it is") {
  auto const source = noise(32, 32);
  CHECK((dvla::resize(source, 32, 32) == source));
  CHECK((dvla::resize_short_side(source, 32) == source));
  CHECK((dvla::centre_crop(source, 32, 32) == source));
}

TEST_CASE("the short side sets the size and the long side is rounded down") {
  auto const size = [](std::size_t height, std::size_t width, std::size_t side) {
    auto const resized = dvla::resize_short_side(dvla::image(height, width), side);
    return std::pair(resized.height, resized.width);
  };
  CHECK(size(375, 500, 246) == std::pair<std::size_t, std::size_t>(246, 328));
  CHECK(size(500, 333, 256) == std::pair<std::size_t, std::size_t>(384, 256));
  CHECK(size(10, 33, 7) == std::pair<std::size_t, std::size_t>(7, 23));
}

TEST_CASE("centre crop offsets round halves to the even number, as torchvision does") {
  std::size_t const expected[] = {0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 5};  // int(round(slack / 2.0)) in Python
  for (std::size_t slack = 0; slack < 11; ++slack) {
    auto const box = dvla::centre_box(20 + slack, 30 + slack / 2, 20, 30);
    CHECK(box.top == expected[slack]);
    CHECK(box.left == expected[slack / 2]);
  }
  auto const source = noise(9, 12);
  auto const middle = dvla::centre_crop(source, 3, 5);
  CHECK(middle.row(0)[0] == source.row(3)[4 * 3]);
}

TEST_CASE("boxes outside the image and empty sizes are refused") {
  auto const source = noise(8, 8);
  CHECK(contains(message_of([&] { (void)dvla::crop(source, {5, 0, 4, 4}); }), "4x4 at (5, 0) does not lie in an image of 8x8"));
  CHECK(contains(message_of([&] { (void)dvla::crop(source, {0, ~std::size_t{0}, 1, 2}); }), "does not lie"));
  CHECK(contains(message_of([&] { (void)dvla::crop(source, {0, 0, 0, 4}); }), "is empty"));
  CHECK(contains(message_of([&] { (void)dvla::resize(source, 0, 4); }), "0x4 is empty"));
  CHECK(contains(message_of([&] { (void)dvla::centre_crop(source, 9, 4); }), "9x4 out of an image of 8x8"));
  CHECK(contains(message_of([&] { (void)dvla::resize_short_side(dvla::image(), 4); }), "the image is empty"));
}
