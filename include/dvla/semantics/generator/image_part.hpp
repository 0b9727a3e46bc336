// A support image as it goes to a server: the file's own bytes without what says who took it where, and its hash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/core/sha256.hpp>
#include <dvla/io/mapped_file.hpp>
#include <dvla/semantics/generator/base64.hpp>

namespace dvla::inline DVLA_ABI {

struct image_part {
  std::string file{};        ///< its name without folders
  std::string media_type{};  ///< image/jpeg, image/png or image/webp
  std::string bytes{};       ///< without Exif, comments and other metadata
  std::string sha256{};      ///< of the source file's bytes
  std::size_t source_bytes = 0;
  unsigned width = 0, height = 0;  ///< 0 where the header was not understood
};

namespace detail {

[[nodiscard]] inline unsigned big_endian(std::string_view bytes, std::size_t at, std::size_t count) {
  unsigned value = 0;
  for (std::size_t i = 0; i < count; ++i) value = (value << 8) | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

/// Copies a JPEG's segments but application data (colour profile and Adobe's marker stay) and comments. What is odd is copied as it
/// is.
inline void copy_jpeg(std::string_view in, image_part& out) {
  std::size_t at = 2;
  out.bytes.assign(in.substr(0, at));
  while (at + 4 <= in.size() && in[at] == '\xFF') {
    unsigned const marker = big_endian(in, at + 1, 1), length = big_endian(in, at + 2, 2);
    if (length < 2 || at + 2 + length > in.size() || marker == 0xDA) break;  // 0xDA: the pixels follow
    bool const frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (frame && length >= 8) out.height = big_endian(in, at + 5, 2), out.width = big_endian(in, at + 7, 2);
    bool const metadata = (marker >= 0xE1 && marker <= 0xEF && marker != 0xE2 && marker != 0xEE) || marker == 0xFE;
    if (!metadata) out.bytes.append(in.substr(at, 2 + length));
    at += 2 + length;
  }
  out.bytes.append(in.substr(at));
}

/// Copies a PNG's chunks but texts, time and Exif.
inline void copy_png(std::string_view in, image_part& out) {
  std::size_t at = 8;
  out.bytes.assign(in.substr(0, at));
  while (at + 12 <= in.size()) {
    std::size_t const length = big_endian(in, at, 4);
    if (length > in.size() - at - 12) break;
    std::string_view const kind = in.substr(at + 4, 4);
    if (kind == "IHDR" && length >= 8) out.width = big_endian(in, at + 8, 4), out.height = big_endian(in, at + 12, 4);
    bool const metadata = kind == "tEXt" || kind == "zTXt" || kind == "iTXt" || kind == "tIME" || kind == "eXIf";
    if (!metadata) out.bytes.append(in.substr(at, 12 + length));
    at += 12 + length;
  }
  out.bytes.append(in.substr(at));
}

}  // namespace detail

/// Throws where the file cannot be read, is larger than `most` bytes, or is neither JPEG, PNG nor WebP by its first bytes.
[[nodiscard]] inline image_part read_image_part(std::filesystem::path const& path, std::size_t most) {
  mapped_file const file(path);
  std::string_view const in(reinterpret_cast<char const*>(file.bytes().data()), file.bytes().size());
  expect(in.size() <= most, path.string(), " has ", in.size(), " bytes; servers take images of at most ", most,
         "; make it smaller");
  image_part out{path.filename().string(), {}, {}, sha256_hex(file.bytes()), in.size(), 0, 0};
  if (in.starts_with("\xFF\xD8\xFF")) {
    out.media_type = "image/jpeg";
    detail::copy_jpeg(in, out);
  } else if (in.starts_with("\x89PNG\r\n\x1A\n")) {
    out.media_type = "image/png";
    detail::copy_png(in, out);
  } else if (in.starts_with("RIFF") && in.substr(0, 12).ends_with("WEBP")) {
    out.media_type = "image/webp";
    out.bytes.assign(in);
  } else {
    fail(path.string(), " is neither a JPEG, a PNG nor a WebP image; servers take no others, convert it");
  }
  return out;
}

/// data:image/jpeg;base64,...
[[nodiscard]] inline std::string data_url(image_part const& image) {
  return concat("data:", image.media_type, ";base64,", base64(image.bytes));
}

}  // namespace dvla::inline DVLA_ABI
