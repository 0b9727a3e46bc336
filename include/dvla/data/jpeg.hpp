// JPEG files over TurboJPEG, with the settings that give Pillow's bytes: accurate integer DCT and smooth chroma upsampling.
#pragma once

#include <turbojpeg.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/data/image.hpp>
#include <dvla/data/image_limits.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

struct close_turbojpeg {
  void operator()(void* handle) const { tjDestroy(handle); }
};
using turbojpeg_handle = std::unique_ptr<void, close_turbojpeg>;

/// a * b / 255, rounded, for bytes.
constexpr unsigned multiply_bytes(unsigned a, unsigned b) {
  unsigned const product = a * b + 128;
  return (product + (product >> 8)) >> 8;
}

/// CMYK samples as Adobe's programs store them in JPEG files (inverted) to RGB, as Pillow converts them.
inline void inverted_cmyk_to_rgb(std::span<std::uint8_t const> cmyk, std::uint8_t* rgb) {
  for (std::size_t i = 0; i < cmyk.size(); i += 4) {
    unsigned const light = cmyk[i + 3];
    for (std::size_t c = 0; c < 3; ++c) *rgb++ = static_cast<std::uint8_t>(light - multiply_bytes(255u - cmyk[i + c], light));
  }
}

/// Whether a file that libjpeg warned about is whole all the same. Stray bytes between markers and odd revision numbers are
/// common in old collections; anything else means pixels that would be invented. libjpeg tells its first warning only, so
/// the end marker must be there as well.
inline bool harmless(std::string_view warning, std::span<std::uint8_t const> bytes) {
  using namespace std::string_view_literals;
  bool const known = warning.find("extraneous bytes") != warning.npos || warning.find("JFIF revision") != warning.npos ||
                     warning.find("Adobe color transform") != warning.npos;
  std::string_view const text(reinterpret_cast<char const*>(bytes.data()), bytes.size());
  auto const end = text.rfind("\xff\xd9"sv), last_scan = text.rfind("\xff\xda"sv);
  return known && end != text.npos && last_scan != text.npos && end > last_scan;
}

}  // namespace detail

/// Decodes a JPEG file held in memory to the bytes of Pillow's convert("RGB"), baseline or progressive, grey, YCbCr, RGB,
/// CMYK or YCCK. EXIF orientation is not applied. Throws naming `name`.
[[nodiscard]] inline image decode_jpeg(std::span<std::uint8_t const> bytes, std::string_view name) {
  detail::turbojpeg_handle const handle(tjInitDecompress());
  expect(handle != nullptr, "jpeg: TurboJPEG cannot allocate its reader; free memory and try again");
  auto const size = static_cast<unsigned long>(bytes.size());
  int width = 0, height = 0, subsampling = 0, colours = 0;
  // A rare chroma subsampling is reported as failure after the sizes are known (decoding manages it), and a file that ends
  // before its sizes as success without them.
  bool const read = tjDecompressHeader3(handle.get(), bytes.data(), size, &width, &height, &subsampling, &colours) == 0;
  if (width < 1 || height < 1)
    fail(name, ": the JPEG header cannot be read (", read ? "the file ends before the image" : tjGetErrorStr2(handle.get()),
         "); copy or download the file again");
  detail::expect_plausible_size(static_cast<std::size_t>(height), static_cast<std::size_t>(width), name);

  image out(static_cast<std::size_t>(height), static_cast<std::size_t>(width));
  bool const four = colours == TJCS_CMYK || colours == TJCS_YCCK;
  std::vector<std::uint8_t> cmyk(four ? out.height * out.width * 4 : 0);
  int const status = tjDecompress2(handle.get(), bytes.data(), size, four ? cmyk.data() : out.pixels.data(), width, 0, height,
                                   four ? TJPF_CMYK : TJPF_RGB, TJFLAG_ACCURATEDCT);
  if (status != 0) {
    std::string_view const message = tjGetErrorStr2(handle.get());
    expect(detail::harmless(message, bytes), name, ": the JPEG file is truncated or damaged (", message,
           "); copy or download it again");
  }
  if (four) detail::inverted_cmyk_to_rgb(cmyk, out.pixels.data());
  return out;
}

}  // namespace dvla::inline DVLA_ABI
