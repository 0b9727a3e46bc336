// The size above which a file is taken for damaged rather than for a photograph.
#pragma once

#include <cstddef>
#include <string_view>

#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

/// Images of more pixels than this are refused before memory is taken for them.
inline constexpr std::size_t max_image_pixels = std::size_t{64} * 1024 * 1024;

namespace detail {

inline void expect_plausible_size(std::size_t height, std::size_t width, std::string_view name) {
  expect(height > 0 && width > 0, name, ": an image of ", width, "x", height,
         " pixels; the file is damaged, copy or download it again");
  expect(height <= max_image_pixels / width, name, ": an image of ", width, "x", height, " pixels, more than the ",
         max_image_pixels >> 20, " megapixels that are accepted; scale the file down");
}

}  // namespace detail

}  // namespace dvla::inline DVLA_ABI
