// From a file to pixels and back: PNG and JPEG are told apart by their first bytes, never by their name.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/data/image.hpp>
#include <dvla/data/jpeg.hpp>
#include <dvla/data/png.hpp>
#include <dvla/io/atomic_file.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

struct close_file {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using file_handle = std::unique_ptr<std::FILE, close_file>;

inline bool begins_with(std::span<std::uint8_t const> bytes, std::string_view signature) {
  return bytes.size() >= signature.size() && std::memcmp(bytes.data(), signature.data(), signature.size()) == 0;
}

/// What a file that is neither PNG nor JPEG seems to be, for the message; empty if unknown.
inline std::string_view other_format(std::span<std::uint8_t const> bytes) {
  struct format {
    std::string_view signature, name;
  };
  static constexpr format formats[] = {{"GIF8", "a GIF"},
                                       {"BM", "a BMP"},
                                       {"II*", "a TIFF"},
                                       {"MM", "a TIFF"},
                                       {"RIFF", "a WebP"},
                                       {"<svg", "an SVG"},
                                       {"P5", "a PGM"},
                                       {"P6", "a PPM"},
                                       {"<!DOC", "an HTML"},
                                       {"<html", "an HTML"},
                                       {"version https://git-lfs", "a Git LFS pointer"}};
  for (auto const& f : formats)
    if (begins_with(bytes, f.signature)) return f.name;
  return {};
}

}  // namespace detail

/// Decodes a PNG or JPEG file held in memory to 8-bit RGB (see decode_png and decode_jpeg). `name` is what errors call it;
/// throws for an empty, truncated, damaged or unsupported file and for one of more than max_image_pixels.
[[nodiscard]] inline image decode(std::span<std::uint8_t const> bytes, std::string_view name) {
  using namespace std::string_view_literals;
  expect(!bytes.empty(), name, ": the file has zero bytes; copy or download it again");
  if (detail::begins_with(bytes, "\x89PNG\r\n\x1a\n"sv)) return decode_png(bytes, name);
  if (detail::begins_with(bytes, "\xff\xd8\xff"sv)) return decode_jpeg(bytes, name);
  auto const other = detail::other_format(bytes);
  if (!other.empty()) fail(name, ": the content is ", other, " file; only PNG and JPEG are read, convert it to one of them");
  fail(name, ": not an image (neither PNG nor JPEG); remove the file from the data set or copy it again");
}

/// All bytes of a file. Throws with the system's reason.
[[nodiscard]] inline std::vector<std::uint8_t> read_bytes(std::filesystem::path const& path) {
  std::error_code failed;
  expect(!std::filesystem::is_directory(path, failed), path.string(), ": a folder where an image file was expected");
  detail::file_handle const file(std::fopen(path.c_str(), "rb"));
  if (!file) fail(path.string(), ": cannot be opened (", std::strerror(errno), "); check the path and its permissions");
  auto const size = std::filesystem::file_size(path, failed);
  if (failed) fail(path.string(), ": cannot be measured (", failed.message(), ")");
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
  auto const count = std::fread(bytes.data(), 1, bytes.size(), file.get());
  expect(count == bytes.size(), path.string(), ": only ", count, " of ", bytes.size(), " bytes could be read; check the disk");
  return bytes;
}

/// Reads and decodes a PNG or JPEG file.
[[nodiscard]] inline image read_image(std::filesystem::path const& path) { return decode(read_bytes(path), path.string()); }

/// Writes an 8-bit RGB PNG file. The file appears complete or not at all: it is written beside the target and renamed.
inline void write_png(std::filesystem::path const& path, image const& source) {
  auto const bytes = encode_png(source);
  atomic_file file(path);
  file.append(std::as_bytes(std::span(bytes)));
  file.commit();
}

}  // namespace dvla::inline DVLA_ABI
