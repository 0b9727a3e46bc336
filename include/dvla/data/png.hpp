// PNG files over libpng. Pillow ignores gamma and colour profiles, so the simplified API, which applies them, is not used for
// reading.
#pragma once

#include <png.h>

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/data/image.hpp>
#include <dvla/data/image_limits.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// A libpng reader over bytes in memory. libpng reports errors by longjmp: what it may jump over keeps its state in here.
class png_reader {
 public:
  explicit png_reader(std::span<std::uint8_t const> bytes) : rest_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    expect(info_ != nullptr, "png: libpng cannot allocate its reader; free memory and try again");
    png_set_read_fn(png_, this, on_read);
  }
  png_reader(png_reader const&) = delete;
  png_reader& operator=(png_reader const&) = delete;
  ~png_reader() { png_destroy_read_struct(&png_, &info_, nullptr); }

  /// Reads the chunks before the pixels and asks for 8-bit RGB; false leaves a message.
  bool read_header(std::size_t& height, std::size_t& width) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_read_info(png_, info_);
    height = png_get_image_height(png_, info_);
    width = png_get_image_width(png_, info_);
    png_set_strip_16(png_);
    png_set_palette_to_rgb(png_);
    if (png_get_color_type(png_, info_) == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png_);
    png_set_strip_alpha(png_);
    png_set_gray_to_rgb(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    return true;
  }

  /// Reads the pixels into rows; false leaves a message.
  bool read_rows(std::span<png_bytep> rows) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_read_image(png_, rows.data());
    png_read_end(png_, nullptr);
    return true;
  }

  [[nodiscard]] std::size_t row_bytes() const { return png_get_rowbytes(png_, info_); }
  [[nodiscard]] bool truncated() const { return truncated_; }
  [[nodiscard]] std::string_view message() const { return message_; }

 private:
  static void on_error(png_structp png, png_const_charp text) {
    auto& self = *static_cast<png_reader*>(png_get_error_ptr(png));
    std::strncpy(self.message_, text, sizeof self.message_ - 1);
    png_longjmp(png, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}
  static void on_read(png_structp png, png_bytep out, std::size_t count) {
    auto& self = *static_cast<png_reader*>(png_get_io_ptr(png));
    if (count > self.rest_.size()) {
      self.truncated_ = true;
      png_error(png, "unexpected end of data");
    }
    std::memcpy(out, self.rest_.data(), count);
    self.rest_ = self.rest_.subspan(count);
  }

  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::span<std::uint8_t const> rest_;
  char message_[128] = {};
  bool truncated_ = false;
};

[[noreturn]] inline void fail_png(png_reader const& reader, std::string_view name) {
  if (reader.truncated()) fail(name, ": the PNG file is truncated; copy or download it again");
  fail(name, ": the PNG file is damaged (", reader.message(), "); copy or download it again");
}

}  // namespace detail

/// Decodes a PNG file held in memory to the bytes of Pillow's convert("RGB"): grey is replicated, a palette looked up, alpha
/// dropped (not blended), gamma and profiles ignored. Of 16-bit samples the high byte is taken; Pillow does the same for
/// colour, but clips 16-bit grey to 255, which leaves a white image. Throws naming `name`.
[[nodiscard]] inline image decode_png(std::span<std::uint8_t const> bytes, std::string_view name) {
  detail::png_reader reader(bytes);
  std::size_t height = 0, width = 0;
  if (!reader.read_header(height, width)) detail::fail_png(reader, name);
  detail::expect_plausible_size(height, width, name);
  image out(height, width);
  expect(reader.row_bytes() == width * image::channels, name, ": libpng delivers ", reader.row_bytes(), " bytes a row, expected ",
         width * image::channels, "; convert the file to 8-bit RGB");
  std::vector<png_bytep> rows(height);
  for (std::size_t y = 0; y < height; ++y) rows[y] = out.row(y);
  if (!reader.read_rows(rows)) detail::fail_png(reader, name);
  return out;
}

/// The image as the bytes of an 8-bit RGB PNG file. Throws for an empty image or one whose pixels do not match its size.
[[nodiscard]] inline std::vector<std::uint8_t> encode_png(image const& source) {
  expect(source.height > 0 && source.width > 0 && source.pixels.size() == source.height * source.width * image::channels,
         "encode_png: an image of ", source.height, "x", source.width, " with ", source.pixels.size(),
         " bytes; give height * width * 3 bytes and at least one pixel");
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(source.width);
  header.height = static_cast<png_uint_32>(source.height);
  header.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(header);
  std::vector<std::uint8_t> out(size);
  if (png_image_write_to_memory(&header, out.data(), &size, 0, source.pixels.data(), 0, nullptr) == 0)
    fail("encode_png: libpng failed: ", header.message);
  out.resize(size);
  return out;
}

}  // namespace dvla::inline DVLA_ABI
