// One picture of the attribute world: an object of the wanted look among clutter, under coloured light.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/data/attribute_world/canvas.hpp>
#include <dvla/data/attribute_world/look.hpp>
#include <dvla/data/attribute_world/shapes.hpp>
#include <dvla/data/image.hpp>

namespace dvla::inline DVLA_ABI {
namespace attribute_world {
namespace detail {

/// The random stream of one picture, in the single precision of the renderer.
class dice {
 public:
  explicit dice(random_stream random) : random_(random) {}

  float uniform(float low, float high) {
    return static_cast<float>(random_.uniform(static_cast<double>(low), static_cast<double>(high)));
  }
  float normal() { return static_cast<float>(random_.normal()); }
  std::uint32_t below(std::size_t n) { return random_.below(static_cast<std::uint32_t>(n)); }
  bool chance(double p) { return random_.uniform() < p; }
  rgb light(float low, float high) {
    float const r = uniform(low, high), g = uniform(low, high);
    return {r, g, uniform(low, high)};
  }

 private:
  random_stream random_;
};

/// A place, a size and a turn: takes points of the image into an object's own frame.
struct frame {
  point center;
  float radius, cosine, sine;

  frame(point center_, float radius_, float angle)
      : center(center_), radius(radius_), cosine(std::cos(angle)), sine(std::sin(angle)) {}

  [[nodiscard]] point local(point p) const {
    float const x = p.x - center.x, y = p.y - center.y;
    return {(cosine * x + sine * y) / radius, (cosine * y - sine * x) / radius};
  }
  [[nodiscard]] disc reach() const { return {center, radius * outline_reach}; }
};

/// A colour of the world, varied in each channel and in brightness.
inline rgb varied_color(std::size_t color, float variation, dice& random) {
  rgb const base = color_values[color];
  float const brightness = random.uniform(1 - 1.5f * variation, 1 + variation);
  auto const vary = [&](float light) {
    return std::clamp(light * brightness + variation * random.uniform(-0.5f, 0.5f), 0.0f, 1.0f);
  };
  float const r = vary(base.r), g = vary(base.g);
  return {r, g, vary(base.b)};
}

/// A gradient plus smooth blotches: a coarse grid of random light, interpolated.
inline void paint_background(canvas& picture, dice& random) {
  rgb const one = random.light(0.1f, 0.9f), other = random.light(0.1f, 0.9f);
  float const angle = random.uniform(0, 2 * pi), amplitude = random.uniform(0.05f, 0.35f);
  std::size_t const cells = 2 + random.below(6);
  std::vector<rgb> grid((cells + 1) * (cells + 1));
  for (rgb& node : grid) node = random.light(-amplitude, amplitude);
  picture.fill([&](point p) {
    float const along = 0.5f + 0.7f * (std::cos(angle) * (p.x - 0.5f) + std::sin(angle) * (p.y - 0.5f));
    float const x = p.x * static_cast<float>(cells), y = p.y * static_cast<float>(cells);
    auto const column = static_cast<std::size_t>(x), row = static_cast<std::size_t>(y);
    rgb const* node = &grid[row * (cells + 1) + column];
    float const u = x - static_cast<float>(column), v = y - static_cast<float>(row);
    rgb const blotch = mix(mix(node[0], node[1], u), mix(node[cells + 1], node[cells + 2], u), v);
    rgb const base = mix(one, other, along);
    return rgb{base.r + blotch.r, base.g + blotch.g, base.b + blotch.b};
  });
}

inline void paint_line(canvas& picture, dice& random) {
  float const angle = random.uniform(0, pi), half_width = random.uniform(0.008f, 0.03f);
  point const through{random.uniform(0, 1), random.uniform(0, 1)}, normal{-std::sin(angle), std::cos(angle)};
  rgb const light = varied_color(random.below(color_names.size()), 0.3f, random);
  picture.paint(
      {{0.5f, 0.5f}, 1},
      [&](point p) { return std::abs((p.x - through.x) * normal.x + (p.y - through.y) * normal.y) < half_width; },
      [&](point) { return light; });
}

/// An object: its outline filled with its colour and, where the texture has it, a lighter or darker second tone.
inline void paint_object(canvas& picture, look what, frame const& at, float variation, dice& random) {
  rgb const base = varied_color(what.color, variation, random);
  float const gray = random.chance(0.5) ? 0.95f : 0.05f, depth = random.uniform(0.5f, 0.8f);
  rgb const second = mix(base, {gray, gray, gray}, depth);
  float const angle = random.uniform(0, 2 * pi), cosine = std::cos(angle), sine = std::sin(angle);
  float const period = random.uniform(0.11f, 0.16f);
  // Rings stay about the centre; the other patterns may lie anywhere on the object.
  float const shift = what.texture == texture_kind::ringed || what.texture == texture_kind::shaded ? 0.0f : random.uniform(0, 1);
  picture.paint(
      at.reach(), [&](point p) { return inside_shape(what.shape, at.local(p)); },
      [&](point p) {
        float const x = p.x - at.center.x + shift, y = p.y - at.center.y + shift;
        return mix(base, second, texture_tone(what.texture, {cosine * x + sine * y, cosine * y - sine * x}, period, at.radius));
      });
}

/// Small objects of any look, too small for the small size: they share the object's attributes by chance.
inline void paint_distractor(canvas& picture, dice& random) {
  look const what = look_at(random.below(look_count));
  point const center{random.uniform(0, 1), random.uniform(0, 1)};
  frame const at(center, random.uniform(0.05f, 0.12f), random.uniform(0, 2 * pi));
  paint_object(picture, what, at, 0.3f, random);
}

/// A band across the object's rim, in a colour of the world.
inline void paint_occluder(canvas& picture, frame const& object, dice& random) {
  float const angle = random.uniform(0, 2 * pi), offset = object.radius * random.uniform(0.35f, 0.9f);
  float const half_width = object.radius * random.uniform(0.12f, 0.3f);
  point const normal{std::cos(angle), std::sin(angle)};
  rgb const light = varied_color(random.below(color_names.size()), 0.4f, random);
  picture.paint(
      {object.center, object.radius * 1.5f},
      [&](point p) {
        float const x = p.x - object.center.x, y = p.y - object.center.y;
        return std::abs(x * normal.x + y * normal.y - offset) < half_width;
      },
      [&](point) { return light; });
}

/// The lamp's colour and brightness, and the noise of the camera.
inline void expose(canvas& picture, dice& random) {
  rgb const gain = random.light(0.7f, 1.3f);
  float const offset = random.uniform(-0.1f, 0.1f), noise = random.uniform(0.02f, 0.08f);
  picture.transform([&](rgb light) {
    float const r = light.r * gain.r + offset + noise * random.normal(), g = light.g * gain.g + offset + noise * random.normal();
    return rgb{r, g, light.b * gain.b + offset + noise * random.normal()};
  });
}

}  // namespace detail

/// Picture number `index` of the class with that look: a function of (seed, what, index) alone, side x side pixels.
/// Throws for a side below 8 pixels, where no attribute could be seen.
[[nodiscard]] inline image render(look what, std::uint64_t seed, std::uint64_t index, std::size_t side) {
  expect(side >= 8 && side <= 4096, "attribute world: images of ", side, " pixels a side; give 8 to 4096");
  detail::dice random(random_stream(seed, draw::world, number_of(what), index));
  canvas picture(side);
  detail::paint_background(picture, random);
  for (auto lines = random.below(4); lines > 0; --lines) detail::paint_line(picture, random);
  for (auto distractors = random.below(5); distractors > 0; --distractors) detail::paint_distractor(picture, random);

  float const radius = size_radii[what.size] * random.uniform(0.85f, 1.15f), margin = 0.85f * radius;
  point const center{random.uniform(margin, 1 - margin), random.uniform(margin, 1 - margin)};
  detail::frame const object(center, radius, random.uniform(0, 2 * detail::pi));
  detail::paint_object(picture, what, object, 0.2f, random);
  if (random.chance(0.5)) detail::paint_occluder(picture, object, random);
  detail::expose(picture, random);
  return picture.develop();
}

}  // namespace attribute_world
}  // namespace dvla::inline DVLA_ABI
