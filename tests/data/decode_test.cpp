// Decoding against Pillow's bytes (fixtures/make_decode.py), and what is said about files that cannot be decoded.
#include <doctest/doctest.h>

#include <dvla/data/decode.hpp>

#include <zlib.h>

#include "fixture.hpp"

using namespace dvla_test;

namespace {

std::vector<std::uint8_t> png_of(std::size_t height, std::size_t width) { return dvla::encode_png(noise(height, width)); }

std::string decode_error(std::vector<std::uint8_t> const& bytes) {
  return message_of([&] { (void)dvla::decode(bytes, "photo.bin"); });
}

}  // namespace

TEST_CASE("every kind of PNG and JPEG decodes to the bytes of Pillow's convert(RGB)") {
  for (auto const* name : {"rgb.png", "gamma.png", "rgba.png", "grey.png", "grey_alpha.png", "bits1.png", "palette.png",
                           "palette4.png", "palette_transparent.png", "rgb16.png", "grey16.png", "interlaced.png", "jpeg420.jpg",
                           "jpeg422.jpg", "jpeg444.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg", "ycck.jpg"}) {
    CAPTURE(name);
    auto const decoded = dvla::read_image(fixture(name));
    CHECK(decoded.height == 19);
    CHECK(decoded.width == 21);
    CHECK((decoded.pixels == dvla::read_bytes(fixture(name + std::string(".rgb")))));
  }
}

TEST_CASE("an image written as PNG reads back unchanged and leaves no temporary file") {
  scratch_folder folder;
  auto const source = noise(13, 7);
  auto const file = folder.path() / "a.png";
  dvla::write_png(file, source);
  dvla::write_png(file, source);
  CHECK((dvla::read_image(file) == source));
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), std::filesystem::directory_iterator()) == 1);
}

TEST_CASE("writing an inconsistent image or into a missing folder is refused") {
  scratch_folder folder;
  dvla::image wrong(4, 5);
  wrong.pixels.pop_back();
  CHECK(contains(message_of([&] { dvla::write_png(folder.path() / "a.png", wrong); }), "4x5 with 59 bytes"));
  CHECK(contains(message_of([&] { dvla::write_png(folder.path() / "a.png", dvla::image()); }), "0x0"));
  auto const missing = message_of([&] { dvla::write_png(folder.path() / "none" / "a.png", noise(2, 2)); });
  CHECK(contains(missing, "none/a.png"));
  CHECK(contains(missing, "must exist"));
}

TEST_CASE("truncated files are refused wherever they end") {
  for (auto const* name : {"rgb.png", "interlaced.png", "palette.png", "jpeg420.jpg", "progressive.jpg", "cmyk.jpg"}) {
    auto const whole = dvla::read_bytes(fixture(name));
    for (std::size_t kept = 12; kept + 8 < whole.size(); kept += 37) {
      CAPTURE(name);
      CAPTURE(kept);
      auto const message = decode_error({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(kept)});
      CHECK(contains(message, "photo.bin: the "));
      CHECK(contains(message, "download"));
    }
  }
}

TEST_CASE("files that are no image are named with what they are and what to do") {
  CHECK(contains(decode_error({}), "photo.bin: the file has zero bytes"));
  CHECK(contains(decode_error({'h', 'e', 'l', 'l', 'o'}), "photo.bin: not an image"));
  CHECK(contains(decode_error({'G', 'I', 'F', '8', '9', 'a'}), "a GIF file; only PNG and JPEG are read"));
  CHECK(contains(decode_error({0xff, 0xd8, 0xff, 0xe0, 0, 0}), "photo.bin: the JPEG header cannot be read"));
}

TEST_CASE("stray bytes before a JPEG marker are harmless, unless the end is missing") {
  auto bytes = dvla::read_bytes(fixture("jpeg444.jpg"));
  auto const plain = dvla::decode(bytes, "photo.bin");
  std::uint8_t const stray[] = {1, 2, 3};
  bytes.insert(bytes.begin() + 2, stray, stray + 3);
  bytes[2] = 0xff;  // the signature: the first marker is followed by another
  bytes[3] = 0xe0, bytes[4] = 0x00;
  bytes.insert(bytes.begin() + 5, {0x04, 9, 9, 7, 7});
  CHECK((dvla::decode(bytes, "photo.bin") == plain));
  bytes.resize(bytes.size() - 20);
  CHECK(contains(decode_error(bytes), "truncated or damaged"));
}

TEST_CASE("a damaged PNG is refused") {
  auto bytes = png_of(9, 9);
  bytes[bytes.size() / 2] ^= 0x55;
  CHECK(contains(decode_error(bytes), "photo.bin: the PNG file is damaged"));
}

TEST_CASE("absurd dimensions are refused before memory is taken") {
  // The width in the header becomes 60,000 and the height 60,000; the checksum of the header is made to fit.
  auto bytes = png_of(3, 3);
  for (auto const at : {std::size_t{16}, std::size_t{20}}) {
    bytes[at + 2] = 0xea;
    bytes[at + 3] = 0x60;
  }
  auto const checksum = crc32(crc32(0, nullptr, 0), bytes.data() + 12, 17);
  for (std::size_t i = 0; i < 4; ++i) bytes[29 + i] = static_cast<std::uint8_t>(checksum >> (24 - 8 * i));
  auto const message = decode_error(bytes);
  CHECK(contains(message, "60000x60000"));
  CHECK(contains(message, "scale the file down"));

  auto jpeg = dvla::read_bytes(fixture("jpeg444.jpg"));
  for (std::size_t i = 0; i + 9 < jpeg.size(); ++i)
    if (jpeg[i] == 0xff && jpeg[i + 1] == 0xc0) jpeg[i + 5] = jpeg[i + 7] = 0xea;
  CHECK(contains(decode_error(jpeg), "megapixels"));
}

TEST_CASE("a missing file and a folder in the place of a file are named") {
  scratch_folder folder;
  CHECK(contains(message_of([&] { (void)dvla::read_image(folder.path() / "none.png"); }), "none.png: cannot be opened"));
  CHECK(contains(message_of([&] { (void)dvla::read_image(folder.path()); }), "a folder where an image file was expected"));
}
