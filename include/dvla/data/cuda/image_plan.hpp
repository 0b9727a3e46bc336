// What happens to an image, as the GPU takes it: small values of fixed layout that travel in one copy a batch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <dvla/data/augment/mix.hpp>
#include <dvla/data/pipeline.hpp>

namespace dvla::inline DVLA_ABI {

/// A rectangle of whole pixels; of height 0 it is none.
struct plan_box {
  std::int32_t top = 0, left = 0, height = 0, width = 0;

  plan_box() = default;
  explicit plan_box(pixel_box const& b)
      : top(static_cast<std::int32_t>(b.top)),
        left(static_cast<std::int32_t>(b.left)),
        height(static_cast<std::int32_t>(b.height)),
        width(static_cast<std::int32_t>(b.width)) {}

  [[nodiscard]] DVLA_HD bool holds(int y, int x) const { return y >= top && y - top < height && x >= left && x - left < width; }
};

/// One image of a batch: the box `source` of image `number` of the set is resized to resized_height x resized_width, of which a
/// window is taken, black beyond the edges; the window is mirrored if `flip` and changed by the operations up to the first
/// `none`; the box `erased` of the normalised image becomes noise.
struct image_plan {
  static constexpr std::size_t most_operations = 3 + drawn_operations::most;  // colour jitter and RandAugment

  std::uint32_t number = 0;
  interpolation kernel = interpolation::bilinear;
  bool flip = false;
  plan_box source{};
  std::int32_t resized_height = 0, resized_width = 0, window_top = 0, window_left = 0;
  plan_box erased{};
  std::uint64_t noise_seed = 0;
  std::array<drawn_operation, most_operations> operations{};
};

/// A batch_mix as the GPU takes it.
struct mix_plan {
  double weight = 1;
  plan_box box{};

  mix_plan() = default;
  explicit mix_plan(batch_mix const& mix) : weight(mix.weight), box(mix.box) {}

  [[nodiscard]] DVLA_HD bool cuts() const { return box.height > 0 && box.width > 0; }
};

namespace detail {

/// Colour jitter and RandAugment as one list, without what changes nothing.
inline std::array<drawn_operation, image_plan::most_operations> listed_operations(colour_change const& colours,
                                                                                   drawn_operations const& drawn) {
  std::array<drawn_operation, image_plan::most_operations> out{};
  std::size_t count = 0;
  for (auto const property : colours.order) {
    float const factor = property == colour_property::brightness ? colours.brightness
                         : property == colour_property::contrast ? colours.contrast
                                                                 : colours.saturation;
    if (factor == 1) continue;
    out[count].what = property == colour_property::brightness ? pixel_operation::brightness
                      : property == colour_property::contrast ? pixel_operation::contrast
                                                              : pixel_operation::colour;
    out[count++].factor = factor;
  }
  for (auto const& operation : drawn.list)
    if (operation.what != pixel_operation::none) out[count++] = operation;
  return out;
}

}  // namespace detail

/// The plan that gives what apply(image, how, drawn, ...) gives, for image `number` of a set of height x width images. Throws as
/// prepare_pixels does.
[[nodiscard]] inline image_plan plan_of(std::uint32_t number, std::size_t height, std::size_t width, preprocessing const& how,
                                        drawn_augmentation const& drawn) {
  expect(height > 0 && width > 0, "preprocessing: the image is empty");
  expect(how.image > 0 && how.image <= how.resize, "preprocessing: a centre crop of ", how.image, " out of ", how.resize,
         "; resize must be at least image");
  image_plan out;
  out.number = number;
  out.flip = drawn.flip;
  auto resized = detail::image_size{how.image, how.image};
  if (drawn.crop) {
    out.source = plan_box(*drawn.crop);
    out.kernel = drawn.crop_kernel;
  } else {
    resized = detail::resized_size(how, height, width);
    auto const centre = centre_box(resized.height, resized.width, how.image, how.image);
    auto const window =
        drawn.window.value_or(window_offset{static_cast<std::ptrdiff_t>(centre.top), static_cast<std::ptrdiff_t>(centre.left)});
    out.source = plan_box({0, 0, height, width});
    out.kernel = how.kernel;
    out.window_top = static_cast<std::int32_t>(window.top);
    out.window_left = static_cast<std::int32_t>(window.left);
  }
  out.resized_height = static_cast<std::int32_t>(resized.height);
  out.resized_width = static_cast<std::int32_t>(resized.width);
  out.erased = plan_box(drawn.erased.box);
  out.noise_seed = drawn.erased.noise_seed;
  out.operations = detail::listed_operations(drawn.colours, drawn.operations);
  return out;
}

}  // namespace dvla::inline DVLA_ABI
