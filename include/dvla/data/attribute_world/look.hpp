// The attributes of the world's objects: every combination of a shape, a colour, a texture and a size is one class's look.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include <dvla/core/config.hpp>
#include <dvla/data/attribute_world/canvas.hpp>

namespace dvla::inline DVLA_ABI {
namespace attribute_world {

enum class shape_kind : std::uint8_t {
  circle,
  square,
  triangle,
  star,
  cross,
  ring,
  crescent,
  heart,
  hexagon,
  arrow,
  drop,
  semicircle
};
enum class texture_kind : std::uint8_t { plain, striped, dotted, checkered, ringed, shaded };

inline constexpr std::array<std::string_view, 12> shape_names = {"circle",   "square", "triangle", "star",  "cross", "ring",
                                                                 "crescent", "heart",  "hexagon",  "arrow", "drop",  "semicircle"};
inline constexpr std::array<std::string_view, 6> texture_names = {"plain", "striped", "dotted", "checkered", "ringed", "shaded"};
inline constexpr std::array<std::string_view, 2> size_names = {"small", "large"};
inline constexpr std::array<std::string_view, 10> color_names = {"red",  "orange", "yellow", "green", "cyan",
                                                                 "blue", "purple", "pink",   "brown", "gray"};

/// The light of each colour before its variation.
inline constexpr std::array<rgb, 10> color_values = {{{0.85f, 0.12f, 0.12f},
                                                      {0.95f, 0.50f, 0.08f},
                                                      {0.93f, 0.86f, 0.15f},
                                                      {0.18f, 0.65f, 0.22f},
                                                      {0.15f, 0.78f, 0.82f},
                                                      {0.15f, 0.27f, 0.85f},
                                                      {0.50f, 0.16f, 0.70f},
                                                      {0.97f, 0.55f, 0.74f},
                                                      {0.46f, 0.28f, 0.13f},
                                                      {0.62f, 0.62f, 0.62f}}};

/// The mean radius of each size, in sides of the image.
inline constexpr std::array<float, 2> size_radii = {0.20f, 0.34f};

/// What a class looks like. Every value of each attribute occurs in some base class.
struct look {
  shape_kind shape;
  std::uint8_t color;  // index into color_names
  texture_kind texture;
  std::uint8_t size;  // index into size_names

  friend bool operator==(look const&, look const&) = default;
};

inline constexpr std::uint32_t look_count =
    static_cast<std::uint32_t>(shape_names.size() * color_names.size() * texture_names.size() * size_names.size());

/// The look of that number, 0 .. look_count - 1.
[[nodiscard]] constexpr look look_at(std::uint32_t number) {
  constexpr std::uint32_t sizes = size_names.size(), textures = texture_names.size(), colors = color_names.size();
  return {static_cast<shape_kind>(number / (sizes * textures * colors)),
          static_cast<std::uint8_t>(number / (sizes * textures) % colors), static_cast<texture_kind>(number / sizes % textures),
          static_cast<std::uint8_t>(number % sizes)};
}

/// The number of that look: the inverse of look_at, and the `where` of its random streams.
[[nodiscard]] constexpr std::uint32_t number_of(look what) {
  constexpr std::uint32_t sizes = size_names.size(), textures = texture_names.size(), colors = color_names.size();
  return ((static_cast<std::uint32_t>(what.shape) * colors + what.color) * textures + static_cast<std::uint32_t>(what.texture)) *
             sizes +
         what.size;
}

}  // namespace attribute_world
}  // namespace dvla::inline DVLA_ABI
