// The outlines of the world's objects and the patterns on them, as functions of a point of the object's own frame.
#pragma once

#include <algorithm>
#include <cmath>

#include <dvla/core/config.hpp>
#include <dvla/data/attribute_world/look.hpp>

namespace dvla::inline DVLA_ABI {
namespace attribute_world {
namespace detail {

inline constexpr float pi = 3.14159265358979323846f;

// A regular polygon with one corner on the positive x axis at distance 1; `dent` < 1 pulls the middles of its sides in
// by that factor, which makes a star of it.
inline bool inside_polygon(point p, float corners, float dent) {
  float const sector = 2 * pi / corners, radius = std::hypot(p.x, p.y);
  float const angle = std::atan2(p.y, p.x), folded = std::abs(angle - sector * std::round(angle / sector));
  // The edge runs from the corner (1, 0) to the middle of the side at half a sector.
  float const middle = dent * std::cos(sector / 2);
  point const end{middle * std::cos(sector / 2), middle * std::sin(sector / 2)};
  point const at{radius * std::cos(folded), radius * std::sin(folded)};
  return (end.x - 1) * at.y - end.y * (at.x - 1) > 0;
}

inline bool inside_disc(point p, float x, float y, float radius) {
  return (p.x - x) * (p.x - x) + (p.y - y) * (p.y - y) < radius * radius;
}

inline bool inside_heart(point p) {
  float const x = p.x * 1.2f, y = 0.12f - p.y * 1.2f, square = x * x + y * y - 1;
  return square * square * square - x * x * y * y * y < 0;
}

inline float fraction(float x) { return x - std::floor(x); }

}  // namespace detail

/// Whether the outline encloses p; the outlines reach about 1 from the origin, and no more than outline_reach.
[[nodiscard]] inline bool inside_shape(shape_kind kind, point p) {
  float const ax = std::abs(p.x), ay = std::abs(p.y);
  switch (kind) {
    case shape_kind::circle:
      return detail::inside_disc(p, 0, 0, 0.9f);
    case shape_kind::square:
      return std::max(ax, ay) < 0.8f;
    case shape_kind::triangle:
      return detail::inside_polygon({p.x / 1.15f, p.y / 1.15f}, 3, 1);
    case shape_kind::star:
      return detail::inside_polygon({p.x / 1.15f, p.y / 1.15f}, 5, 0.5f);
    case shape_kind::cross:
      return (ax < 0.33f && ay < 1) || (ay < 0.33f && ax < 1);
    case shape_kind::ring:
      return detail::inside_disc(p, 0, 0, 1) && !detail::inside_disc(p, 0, 0, 0.52f);
    case shape_kind::crescent:
      return detail::inside_disc(p, 0.1f, 0, 1.05f) && !detail::inside_disc(p, 0.6f, 0, 0.88f);
    case shape_kind::heart:
      return detail::inside_heart(p);
    case shape_kind::hexagon:
      return detail::inside_polygon(p, 6, 1);
    case shape_kind::arrow:
      return (p.x > -1 && p.x < 0.1f && ay < 0.26f) || (p.x >= 0.1f && ay < (1.05f - p.x) * 0.9f);
    case shape_kind::drop:
      return detail::inside_disc(p, -0.35f, 0, 0.65f) || (p.x > -0.1f && ay < (1.05f - p.x) * 0.53f);
    case shape_kind::semicircle:
      return detail::inside_disc(p, 0, -0.45f, 1.1f) && p.y > -0.45f;
  }
  return false;
}

inline constexpr float outline_reach = 1.2f;

/// How much of the second tone the texture shows at p, 0 or 1 (between them for shaded). p is in sides of the image, so
/// that the pattern is equally fine on large and small objects; `period` is the pattern's.
[[nodiscard]] inline float texture_tone(texture_kind kind, point p, float period, float radius) {
  float const u = detail::fraction(p.x / period), v = detail::fraction(p.y / period);
  switch (kind) {
    case texture_kind::plain:
      return 0;
    case texture_kind::striped:
      return u < 0.5f ? 1.0f : 0.0f;
    case texture_kind::dotted:
      return std::hypot(u - 0.5f, v - 0.5f) < 0.3f ? 1.0f : 0.0f;
    case texture_kind::checkered:
      return (u < 0.5f) != (v < 0.5f) ? 1.0f : 0.0f;
    case texture_kind::ringed:
      return detail::fraction(std::hypot(p.x, p.y) / period) < 0.5f ? 1.0f : 0.0f;
    case texture_kind::shaded:
      return std::clamp(0.5f + 0.6f * p.x / radius, 0.0f, 1.0f);
  }
  return 0;
}

}  // namespace attribute_world
}  // namespace dvla::inline DVLA_ABI
