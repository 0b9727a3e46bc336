// Antialiased resizing that equals Pillow's to the byte: two separable passes in 22-bit fixed point, rows first, with a rounded
// 8-bit image between them, and torchvision's rules for sizes and crops around it. (Pillow 13 and later run the columns
// first where the height shrinks much more than the width; the published results rest on the releases before.)
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/data/image.hpp>

namespace dvla::inline DVLA_ABI {

/// The interpolation kernel: a triangle of radius 1 or the cubic with a = -1/2 (Catmull-Rom) of radius 2. Shrinking widens it.
enum class interpolation { bilinear, bicubic };

/// One axis of a resize from `in` to `out` pixels: which inputs an output is made of and with which weights.
struct resample_axis {
  static constexpr int precision = 22;  // bits of a fixed-point weight behind the point

  std::size_t in;
  interpolation kernel;
  double scale, inverse, radius;

  DVLA_HD resample_axis(std::size_t in_, std::size_t out, interpolation kernel_)
      : in(in_), kernel(kernel_), scale(static_cast<double>(in_) / static_cast<double>(out)) {
    double const stretch = scale > 1 ? scale : 1;
    inverse = 1.0 / stretch;
    radius = (kernel == interpolation::bilinear ? 1.0 : 2.0) * stretch;
  }

  /// The most inputs that an output is made of.
  [[nodiscard]] DVLA_HD std::size_t most_taps() const { return 2 * static_cast<std::size_t>(std::ceil(radius)) + 1; }
  [[nodiscard]] DVLA_HD double centre(std::size_t i) const { return (static_cast<double>(i) + 0.5) * scale; }
  [[nodiscard]] DVLA_HD std::size_t first(std::size_t i) const {
    double const begin = centre(i) - radius + 0.5;
    return static_cast<std::size_t>(begin > 0 ? begin : 0);
  }
  [[nodiscard]] DVLA_HD std::size_t end(std::size_t i) const {
    auto const end = static_cast<std::size_t>(centre(i) + radius + 0.5);
    return end < in ? end : in;
  }
  /// The weight of input j in output i; the sum over an output's inputs may differ from 1.
  [[nodiscard]] DVLA_HD double weight(std::size_t i, std::size_t j) const {
    return value((static_cast<double>(j) - centre(i) + 0.5) * inverse);
  }

  /// Rounded half away from zero; std::lround costs more than the pixels of a small image.
  [[nodiscard]] DVLA_HD static std::int32_t to_fixed(double weight) {
    return static_cast<std::int32_t>(weight * (1 << precision) + (weight < 0 ? -0.5 : 0.5));
  }

 private:
  [[nodiscard]] DVLA_HD double value(double x) const {
    x = std::abs(x);
    if (kernel == interpolation::bilinear) return x < 1 ? 1 - x : 0;
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0;
  }
};

/// The weights of one axis: output i is the sum over j < taps(i) of weight(i, j) * input[first(i) + j], in units of 2^-22.
class resample_weights {
 public:
  resample_weights(std::size_t in, std::size_t out, interpolation kernel) {
    resample_axis const axis(in, out, kernel);
    stride_ = axis.most_taps();
    rows_.resize(out);
    weights_.resize(out * stride_);
    std::vector<double> exact(stride_);
    for (std::size_t i = 0; i < out; ++i) {
      std::size_t const first = axis.first(i), taps = axis.end(i) - first;
      double sum = 0;
      for (std::size_t j = 0; j < taps; ++j) sum += exact[j] = axis.weight(i, first + j);
      for (std::size_t j = 0; j < taps; ++j) weights_[i * stride_ + j] = resample_axis::to_fixed(exact[j] / sum);
      rows_[i] = {first, taps};
    }
  }

  [[nodiscard]] std::size_t size() const { return rows_.size(); }
  [[nodiscard]] std::size_t first(std::size_t i) const { return rows_[i].first; }
  [[nodiscard]] std::size_t taps(std::size_t i) const { return rows_[i].taps; }
  [[nodiscard]] std::int32_t const* weights(std::size_t i) const { return weights_.data() + i * stride_; }

 private:
  struct window {
    std::size_t first, taps;
  };

  std::size_t stride_ = 0;
  std::vector<window> rows_;
  std::vector<std::int32_t> weights_;
};

namespace detail {

DVLA_HD inline std::uint8_t from_fixed(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> resample_axis::precision, 0, 255));
}

inline constexpr std::int32_t fixed_half = 1 << (resample_axis::precision - 1);

/// One row of RGB pixels to w.size() pixels.
inline void resample_row(std::uint8_t const* in, resample_weights const& w, std::uint8_t* out) {
  for (std::size_t x = 0; x < w.size(); ++x, out += 3) {
    std::uint8_t const* p = in + w.first(x) * 3;
    std::int32_t const* const k = w.weights(x);
    std::int32_t red = fixed_half, green = fixed_half, blue = fixed_half;
    for (std::size_t j = 0; j < w.taps(x); ++j, p += 3) {
      red += k[j] * p[0];
      green += k[j] * p[1];
      blue += k[j] * p[2];
    }
    out[0] = from_fixed(red);
    out[1] = from_fixed(green);
    out[2] = from_fixed(blue);
  }
}

/// Rows of `bytes` bytes, `stride` apart, to w.size() rows.
inline void resample_columns(std::uint8_t const* in, std::size_t stride, std::size_t bytes, resample_weights const& w,
                             std::uint8_t* out) {
  std::vector<std::int32_t> sum(bytes);
  for (std::size_t y = 0; y < w.size(); ++y, out += bytes) {
    std::fill(sum.begin(), sum.end(), fixed_half);
    for (std::size_t j = 0; j < w.taps(y); ++j) {
      std::int32_t const weight = w.weights(y)[j];
      std::uint8_t const* const row = in + (w.first(y) + j) * stride;
      for (std::size_t i = 0; i < bytes; ++i) sum[i] += weight * row[i];
    }
    for (std::size_t i = 0; i < bytes; ++i) out[i] = from_fixed(sum[i]);
  }
}

inline void expect_inside(image const& source, pixel_box box) {
  expect(box.height > 0 && box.width > 0, "crop: a box of ", box.height, "x", box.width,
         " is empty; give at least one pixel a side");
  expect(box.top <= source.height && box.height <= source.height - box.top && box.left <= source.width &&
             box.width <= source.width - box.left,
         "crop: a box of ", box.height, "x", box.width, " at (", box.top, ", ", box.left, ") does not lie in an image of ",
         source.height, "x", source.width, "; choose a smaller one or pad the image first");
}

}  // namespace detail

/// The part of an image inside the box. Throws unless the box lies inside the image and is not empty.
[[nodiscard]] inline image crop(image const& source, pixel_box box) {
  detail::expect_inside(source, box);
  image out(box.height, box.width);
  for (std::size_t y = 0; y < box.height; ++y) std::memcpy(out.row(y), source.row(box.top + y) + box.left * 3, box.width * 3);
  return out;
}

/// The box of the source resized to height x width, equal to Pillow's crop(box).resize((width, height)): pixels outside the
/// box have no influence, and an axis of equal size is copied. Throws for an empty size or a box outside the image.
[[nodiscard]] inline image resized_crop(image const& source, pixel_box box, std::size_t height, std::size_t width,
                                        interpolation kernel) {
  expect(height > 0 && width > 0, "resize: the size ", height, "x", width, " is empty; give at least one pixel a side");
  if (box.width == width && box.height == height) return crop(source, box);
  detail::expect_inside(source, box);
  std::uint8_t const* rows = source.row(box.top) + box.left * 3;
  std::size_t stride = source.width * 3;
  image narrow;
  if (box.width != width) {
    narrow = image(box.height, width);
    resample_weights const across(box.width, width, kernel);
    for (std::size_t y = 0; y < box.height; ++y) detail::resample_row(rows + y * stride, across, narrow.row(y));
    if (box.height == height) return narrow;
    rows = narrow.row(0);
    stride = width * 3;
  }
  image out(height, width);
  detail::resample_columns(rows, stride, width * 3, resample_weights(box.height, height, kernel), out.row(0));
  return out;
}

/// The image resized to height x width; the aspect is not kept (torchvision's Resize((h, w))).
[[nodiscard]] inline image resize(image const& source, std::size_t height, std::size_t width,
                                  interpolation kernel = interpolation::bilinear) {
  return resized_crop(source, whole(source), height, width, kernel);
}

/// The image resized so that its short side is `side` and its long side int(side * long / short) (torchvision's Resize(side)).
[[nodiscard]] inline image resize_short_side(image const& source, std::size_t side,
                                             interpolation kernel = interpolation::bilinear) {
  expect(source.height > 0 && source.width > 0, "resize: the image is empty");
  if (source.height <= source.width) return resize(source, side, side * source.width / source.height, kernel);
  return resize(source, side * source.height / source.width, side, kernel);
}

/// The box of torchvision's CenterCrop: offsets (size - crop) / 2, halves rounded to the even number. Throws if the image is
/// smaller than the crop.
[[nodiscard]] inline pixel_box centre_box(std::size_t image_height, std::size_t image_width, std::size_t height,
                                          std::size_t width) {
  expect(height <= image_height && width <= image_width, "centre crop: ", height, "x", width, " out of an image of ", image_height,
         "x", image_width, "; resize it larger first");
  auto const offset = [](std::size_t slack) { return slack / 2 + (slack % 4 == 3 ? 1 : 0); };
  return {offset(image_height - height), offset(image_width - width), height, width};
}

/// The middle of the image (torchvision's CenterCrop).
[[nodiscard]] inline image centre_crop(image const& source, std::size_t height, std::size_t width) {
  return crop(source, centre_box(source.height, source.width, height, width));
}

}  // namespace dvla::inline DVLA_ABI
