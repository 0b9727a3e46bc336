// RandAugment (Cubuk et al., NeurIPS 2020) as timm does it for "rand-m9-mstd0.5-inc1": a few operations drawn from fifteen, whose
// strength grows with one magnitude; bytes are Pillow's.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/data/augment/affine.hpp>
#include <dvla/data/augment/colour.hpp>
#include <dvla/data/augment/histogram.hpp>
#include <dvla/data/augment/sharpness.hpp>

namespace dvla::inline DVLA_ABI {

/// What may be done to an image, in timm's order; `none` leaves it alone.
enum class pixel_operation : std::uint8_t {
  none,
  auto_contrast,
  equalise,
  invert,
  rotate,
  posterise,
  solarise,
  solarise_add,
  colour,
  contrast,
  brightness,
  sharpness,
  shear_x,
  shear_y,
  translate_x,
  translate_y
};
inline constexpr std::uint32_t pixel_operations = 15;  // without none

/// An operation with its strength.
struct drawn_operation {
  pixel_operation what = pixel_operation::none;
  int level = 0;     ///< bits that posterise keeps, value from which on solarise inverts, what solarise_add adds to dark values
  float factor = 1;  ///< of colour, contrast, brightness and sharpness
  affine_map map{};  ///< of rotations, shears and translations
};

/// The operations of one image in their order; what is not applied is `none`.
struct drawn_operations {
  static constexpr std::size_t most = 4;
  std::array<drawn_operation, most> list{};
};

/// How many operations are drawn, how likely each is applied, and the normal distribution of its magnitude, which is cut off to
/// 0..10.
struct rand_augment {
  std::size_t operations = 2;
  double probability = 0.5;
  double magnitude = 9, deviation = 0.5;
};

/// What comes into an image from outside of it: the mean colour of ImageNet.
inline constexpr std::array<std::uint8_t, 3> imagenet_grey{124, 116, 104};

/// An operation on a height x width image at a magnitude of 0 to 10; `negative` turns its direction where it has two.
[[nodiscard]] inline drawn_operation operation_at(pixel_operation what, double magnitude, bool negative, std::size_t height,
                                                  std::size_t width) {
  using enum pixel_operation;
  drawn_operation out;
  out.what = what;
  double const share = magnitude / 10, sign = negative ? -1 : 1;
  switch (what) {
    case rotate: out.map = rotation(sign * (share * 30), height, width); break;
    case posterise: out.level = 4 - static_cast<int>(share * 4); break;
    case solarise: out.level = 256 - std::min(256, static_cast<int>(share * 256)); break;
    case solarise_add: out.level = std::min(128, static_cast<int>(share * 110)); break;
    case colour:
    case contrast:
    case brightness:
    case sharpness: out.factor = static_cast<float>(std::max(0.1, 1 + sign * (share * 0.9))); break;
    case shear_x: out.map.xy = on_affine_grid(sign * (share * 0.3)); break;
    case shear_y: out.map.yx = on_affine_grid(sign * (share * 0.3)); break;
    case translate_x: out.map.x0 = on_affine_grid(sign * (share * 0.45) * static_cast<double>(width)); break;
    case translate_y: out.map.y0 = on_affine_grid(sign * (share * 0.45) * static_cast<double>(height)); break;
    default: break;
  }
  return out;
}

/// Draws the operations for a height x width image: each uniform among the fifteen, with replacement, at a magnitude and in a
/// direction of its own. Throws for more than drawn_operations::most or numbers out of range.
[[nodiscard]] inline drawn_operations draw_operations(rand_augment const& settings, std::size_t height, std::size_t width,
                                                      random_stream& random) {
  expect(settings.operations <= drawn_operations::most, "RandAugment: ", settings.operations, " operations an image; give at most ",
         drawn_operations::most);
  expect(settings.probability >= 0 && settings.probability <= 1, "RandAugment: a probability of ", settings.probability,
         "; expected 0 to 1");
  expect(settings.magnitude >= 0 && settings.magnitude <= 10 && settings.deviation >= 0 && settings.deviation <= 10,
         "RandAugment: a magnitude of ", settings.magnitude, " +- ", settings.deviation, "; expected numbers from 0 to 10");
  drawn_operations out;
  for (std::size_t i = 0; i < settings.operations; ++i) {
    auto const what = static_cast<pixel_operation>(1 + random.below(pixel_operations));
    bool const applied = random.uniform() < settings.probability, negative = random.uniform() < 0.5;
    double const magnitude = std::clamp(settings.magnitude + settings.deviation * random.normal(), 0.0, 10.0);
    if (applied) out.list[i] = operation_at(what, magnitude, negative, height, width);
  }
  return out;
}

/// Whether the operation replaces every value by a function of that value alone: changed_value.
DVLA_HD constexpr bool changes_values(pixel_operation what) {
  return what == pixel_operation::invert || what == pixel_operation::posterise || what == pixel_operation::solarise ||
         what == pixel_operation::solarise_add;
}

/// What an operation that changes_values makes of a value.
DVLA_HD inline std::uint8_t changed_value(drawn_operation const& operation, int value) {
  switch (operation.what) {
    case pixel_operation::invert: return static_cast<std::uint8_t>(255 - value);
    case pixel_operation::posterise: return static_cast<std::uint8_t>(value & (0xFF00 >> operation.level));
    case pixel_operation::solarise: return static_cast<std::uint8_t>(value < operation.level ? value : 255 - value);
    case pixel_operation::solarise_add:
      if (value >= 128) return static_cast<std::uint8_t>(value);
      return static_cast<std::uint8_t>(value + operation.level < 255 ? value + operation.level : 255);
    default: return static_cast<std::uint8_t>(value);
  }
}

/// Applies one operation, in place.
inline void apply(drawn_operation const& operation, image& picture) {
  switch (operation.what) {
    case pixel_operation::none: break;
    case pixel_operation::auto_contrast: stretch_contrast(picture); break;
    case pixel_operation::equalise: equalise_histogram(picture); break;
    case pixel_operation::invert:
    case pixel_operation::posterise:
    case pixel_operation::solarise:
    case pixel_operation::solarise_add:
      for (auto& p : picture.pixels) p = changed_value(operation, p);
      break;
    case pixel_operation::colour: adjust_saturation(picture, operation.factor); break;
    case pixel_operation::contrast: adjust_contrast(picture, operation.factor); break;
    case pixel_operation::brightness: adjust_brightness(picture, operation.factor); break;
    case pixel_operation::sharpness: adjust_sharpness(picture, operation.factor); break;
    case pixel_operation::rotate:
    case pixel_operation::shear_x:
    case pixel_operation::shear_y:
    case pixel_operation::translate_x:
    case pixel_operation::translate_y: transform(picture, operation.map, imagenet_grey); break;
  }
}

/// Applies the operations in their order, in place.
inline void apply(drawn_operations const& operations, image& picture) {
  for (auto const& operation : operations.list) apply(operation, picture);
}

}  // namespace dvla::inline DVLA_ABI
