// A square image under construction in light, not bytes: layers are painted over it with anti-aliasing.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/data/image.hpp>

namespace dvla::inline DVLA_ABI {
namespace attribute_world {

/// A point or a vector of the unit square: x to the right, y down.
struct point {
  float x, y;
};

/// Red, green and blue light, 0 to 1 where it can be shown.
struct rgb {
  float r, g, b;
};

[[nodiscard]] inline rgb mix(rgb from, rgb to, float share) {
  return {from.r + share * (to.r - from.r), from.g + share * (to.g - from.g), from.b + share * (to.b - from.b)};
}

/// A disc that encloses what a layer paints.
struct disc {
  point center;
  float radius;
};

/// side x side pixels that cover the unit square.
class canvas {
 public:
  explicit canvas(std::size_t side) : side_(side), light_(side * side) {}

  /// Sets every pixel to f(its centre).
  template <class F>
  void fill(F&& f) {
    for (std::size_t y = 0; y < side_; ++y)
      for (std::size_t x = 0; x < side_; ++x) light_[y * side_ + x] = f(point{place(x, 0.5f), place(y, 0.5f)});
  }

  /// Replaces every pixel by f(pixel).
  template <class F>
  void transform(F&& f) {
    for (rgb& pixel : light_) pixel = f(pixel);
  }

  /// Lays a layer over the picture: inside(p) says whether it covers the point p, color(p) gives its light there. Each
  /// pixel takes 4 x 4 samples; nothing outside `reach` is asked.
  template <class Inside, class Color>
  void paint(disc reach, Inside&& inside, Color&& color) {
    auto const first = [&](float at) { return static_cast<std::size_t>(std::clamp(std::floor(at * extent()), 0.0f, extent())); };
    auto const last = [&](float at) { return static_cast<std::size_t>(std::clamp(std::ceil(at * extent()), 0.0f, extent())); };
    std::size_t const right = last(reach.center.x + reach.radius), bottom = last(reach.center.y + reach.radius);
    for (std::size_t y = first(reach.center.y - reach.radius); y < bottom; ++y)
      for (std::size_t x = first(reach.center.x - reach.radius); x < right; ++x) paint_pixel(x, y, inside, color);
  }

  /// The picture in bytes; light outside [0, 1] is clipped.
  [[nodiscard]] image develop() const {
    image picture(side_, side_);
    auto const byte = [](float light) { return static_cast<std::uint8_t>(std::clamp(light, 0.0f, 1.0f) * 255.0f + 0.5f); };
    for (std::size_t i = 0; i < light_.size(); ++i) {
      picture.pixels[3 * i] = byte(light_[i].r);
      picture.pixels[3 * i + 1] = byte(light_[i].g);
      picture.pixels[3 * i + 2] = byte(light_[i].b);
    }
    return picture;
  }

 private:
  static constexpr int samples = 4;  // a pixel and axis

  [[nodiscard]] float extent() const { return static_cast<float>(side_); }
  [[nodiscard]] float place(std::size_t pixel, float offset) const { return (static_cast<float>(pixel) + offset) / extent(); }

  template <class Inside, class Color>
  void paint_pixel(std::size_t x, std::size_t y, Inside& inside, Color& color) {
    rgb sum{0, 0, 0};
    int covered = 0;
    for (int i = 0; i < samples; ++i)
      for (int j = 0; j < samples; ++j) {
        constexpr float spacing = 1.0f / samples;
        point const at{place(x, (static_cast<float>(j) + 0.5f) * spacing), place(y, (static_cast<float>(i) + 0.5f) * spacing)};
        if (!inside(at)) continue;
        rgb const light = color(at);
        sum = {sum.r + light.r, sum.g + light.g, sum.b + light.b};
        ++covered;
      }
    if (covered == 0) return;
    auto const n = static_cast<float>(covered);
    rgb& pixel = light_[y * side_ + x];
    pixel = mix(pixel, {sum.r / n, sum.g / n, sum.b / n}, n / (samples * samples));
  }

  std::size_t side_;
  std::vector<rgb> light_;
};

}  // namespace attribute_world
}  // namespace dvla::inline DVLA_ABI
