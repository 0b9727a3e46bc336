// What happens to an image between the file and the network, as values: a preprocessing (size and statistics), an
// augmentation (what may be drawn) and drawn_augmentation (what was drawn for one image).
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/data/augment.hpp>
#include <dvla/data/image.hpp>
#include <dvla/data/resize.hpp>

namespace dvla::inline DVLA_ABI {

/// How an image is brought to the size before the centre crop: both sides stretched to it, or the short side.
enum class resize_rule { both_sides, short_side };

/// Resize, centre crop to image x image, normalise. An image that already has the size is not resampled.
struct preprocessing {
  std::size_t image = 224;   ///< side of the network's input
  std::size_t resize = 256;  ///< side before the centre crop, at least `image`
  resize_rule rule = resize_rule::both_sides;
  interpolation kernel = interpolation::bilinear;
  channel_statistics statistics = imagenet_statistics;

  /// Floats of one prepared image.
  [[nodiscard]] std::size_t size() const { return image * image * 3; }
};

/// The published evaluation, by name: "imagenet" stretches to side * 256 / 224 and crops the centre; "cifar" stretches to side
/// itself, with CIFAR statistics; "imagenet-short" brings the short side to int(1.1 side) and crops the centre.
[[nodiscard]] inline preprocessing evaluation_preprocessing(std::string_view name, std::size_t side) {
  expect(side > 0 && side <= 4096, "preprocessing: an image side of ", side, "; expected 1 to 4096");
  if (name == "imagenet") return {side, side * 256 / 224, resize_rule::both_sides, interpolation::bilinear, imagenet_statistics};
  if (name == "cifar") return {side, side, resize_rule::both_sides, interpolation::bilinear, cifar_statistics};
  if (name == "imagenet-short")
    return {side, side * 11 / 10, resize_rule::short_side, interpolation::bilinear, imagenet_statistics};
  fail("preprocessing: \"", name, "\" is not known; give imagenet, cifar or imagenet-short");
}

/// What may be drawn for an image; what is absent or 0 is not done. Order: crop, flip, colours, RandAugment, normalise,
/// erase. At most one of the crops may be present: resized_crop replaces resize and centre crop, border the centre crop.
struct augmentation {
  std::optional<random_resized_crop> resized_crop{};
  interpolation resized_crop_kernel = interpolation::bicubic;
  std::optional<std::size_t> border{};  ///< black pixels around the resized image, of which a random window is taken
  double flip = 0;                      ///< probability of a horizontal flip
  colour_jitter jitter{};
  std::optional<rand_augment> operations{};
  std::optional<random_erasing> erasing{};
};

/// The training augmentations, by name: "none"; "episodic-cifar" (flip, jitter .4); "pretrain" (resized crop of at least
/// smallest_area, flip, jitter .4); "published" (the pre-training of the published results: resized crop, flip, RandAugment; its
/// random erasing is the caller's to add).
[[nodiscard]] inline augmentation training_augmentation(std::string_view name, double smallest_area = 0.08) {
  augmentation out;
  if (name == "none") return out;
  expect(name == "episodic-cifar" || name == "pretrain" || name == "published", "augmentation: \"", name,
         "\" is not known; give none, episodic-cifar, pretrain or published");
  out.flip = 0.5;
  if (name == "published") out.operations = rand_augment{};
  else out.jitter = {0.4, 0.4, 0.4};
  if (name != "episodic-cifar") out.resized_crop = random_resized_crop{smallest_area};
  return out;
}

/// What was drawn for one image.
struct drawn_augmentation {
  std::optional<pixel_box> crop{};  ///< of the source, to be resized to the network's input
  interpolation crop_kernel = interpolation::bicubic;
  std::optional<window_offset> window{};  ///< of the resized image
  bool flip = false;
  colour_change colours{};
  drawn_operations operations{};
  erased_box erased{};
};

namespace detail {

struct image_size {
  std::size_t height, width;
};

inline image_size resized_size(preprocessing const& how, std::size_t height, std::size_t width) {
  if (how.rule == resize_rule::both_sides) return {how.resize, how.resize};
  return height <= width ? image_size{how.resize, how.resize * width / height}
                         : image_size{how.resize * height / width, how.resize};
}

}  // namespace detail

/// Draws for a source image of the size. The stream is the caller's choice: load_batch takes (seed, augment, position, step).
[[nodiscard]] inline drawn_augmentation draw_augmentation(augmentation const& what, preprocessing const& how, std::size_t height,
                                                          std::size_t width, random_stream& random) {
  expect(!what.resized_crop || !what.border, "augmentation: both a resized crop and a border are set; choose one");
  expect(what.flip >= 0 && what.flip <= 1, "augmentation: a flip probability of ", what.flip, "; expected 0 to 1");
  expect(height > 0 && width > 0, "augmentation: the image is empty");
  drawn_augmentation out;
  if (what.resized_crop) {
    out.crop = draw_box(*what.resized_crop, height, width, random);
    out.crop_kernel = what.resized_crop_kernel;
  }
  if (what.border) {
    auto const size = detail::resized_size(how, height, width);
    out.window = draw_random_crop(size.height, size.width, how.image, how.image, *what.border, random);
  }
  out.flip = what.flip > 0 && random.uniform() < what.flip;
  out.colours = draw_colour(what.jitter, random);
  if (what.erasing) out.erased = draw_erasing(*what.erasing, how.image, how.image, random);
  // Drawn last, so that the others are the same with it and without.
  if (what.operations) out.operations = draw_operations(*what.operations, how.image, how.image, random);
  return out;
}

/// The image cropped, resized, flipped, coloured and changed by RandAugment: how.image x how.image pixels.
[[nodiscard]] inline image prepare_pixels(image const& source, preprocessing const& how, drawn_augmentation const& drawn) {
  expect(source.height > 0 && source.width > 0, "preprocessing: the image is empty");
  expect(how.image > 0 && how.image <= how.resize, "preprocessing: a centre crop of ", how.image, " out of ", how.resize,
         "; resize must be at least image");
  image out;
  if (drawn.crop) {
    out = resized_crop(source, *drawn.crop, how.image, how.image, drawn.crop_kernel);
  } else {
    auto const size = detail::resized_size(how, source.height, source.width);
    out = resize(source, size.height, size.width, how.kernel);
    if (drawn.window) {
      out = window_of(out, *drawn.window, how.image, how.image);
    } else if (out.height != how.image || out.width != how.image) {
      out = centre_crop(out, how.image, how.image);
    }
  }
  if (drawn.flip) flip_horizontally(out);
  apply(drawn.colours, out);
  apply(drawn.operations, out);
  return out;
}

/// The network's input for the image: prepare_pixels, normalised to float, then erased. Throws unless out has how.size()
/// elements.
inline void apply(image const& source, preprocessing const& how, drawn_augmentation const& drawn, std::span<float> out) {
  expect(out.size() == how.size(), "preprocessing: ", out.size(), " floats for an input of ", how.image, "x", how.image,
         "x3; give ", how.size());
  normalise(prepare_pixels(source, how, drawn), how.statistics, out);
  apply(drawn.erased, how.image, out);
}

}  // namespace dvla::inline DVLA_ABI
