// Element types of stored tensors: their names and sizes, and the two 16-bit floating-point formats decoded to float.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// Element type of a tensor in a file. The enumerators stand in the order in which safetensors sorts the types.
enum class dtype : std::uint8_t { boolean, u8, i8, i16, u16, f16, bf16, i32, u32, f32, f64, i64, u64 };

namespace detail {

struct dtype_facts {
  std::string_view name;
  std::size_t size;
};

inline constexpr std::array<dtype_facts, 13> dtype_table{{{"BOOL", 1},
                                                          {"U8", 1},
                                                          {"I8", 1},
                                                          {"I16", 2},
                                                          {"U16", 2},
                                                          {"F16", 2},
                                                          {"BF16", 2},
                                                          {"I32", 4},
                                                          {"U32", 4},
                                                          {"F32", 4},
                                                          {"F64", 8},
                                                          {"I64", 8},
                                                          {"U64", 8}}};

}  // namespace detail

/// The name that safetensors uses: "F32", "BF16", "I64", "BOOL" ...
[[nodiscard]] constexpr std::string_view dtype_name(dtype type) { return detail::dtype_table[static_cast<std::size_t>(type)].name; }

/// Bytes of one element.
[[nodiscard]] constexpr std::size_t dtype_size(dtype type) { return detail::dtype_table[static_cast<std::size_t>(type)].size; }

/// The type of that safetensors name; empty for a name this library does not read.
[[nodiscard]] constexpr std::optional<dtype> dtype_of_name(std::string_view name) {
  for (std::size_t i = 0; i < detail::dtype_table.size(); ++i)
    if (detail::dtype_table[i].name == name) return static_cast<dtype>(i);
  return std::nullopt;
}

/// The stored type of a C++ arithmetic type: float is f32, std::int64_t is i64, bool is boolean.
template <class T>
requires std::is_arithmetic_v<T> &&(sizeof(T) <= 8) [[nodiscard]] constexpr dtype dtype_of() {
  if constexpr (std::is_same_v<T, bool>)
    return dtype::boolean;
  else if constexpr (std::is_floating_point_v<T>)
    return sizeof(T) == 4 ? dtype::f32 : dtype::f64;
  else if constexpr (std::is_signed_v<T>)
    return std::array{dtype::i8, dtype::i16, dtype::i32, dtype::i64}[std::bit_width(sizeof(T)) - 1];
  else
    return std::array{dtype::u8, dtype::u16, dtype::u32, dtype::u64}[std::bit_width(sizeof(T)) - 1];
}

/// The float with the value of these bfloat16 bits: every bfloat16 is the upper half of a float.
[[nodiscard]] constexpr float bf16_bits_to_float(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

/// The float with the value of these IEEE 754 binary16 bits; subnormals, infinities and NaN payloads are kept.
[[nodiscard]] constexpr float f16_bits_to_float(std::uint16_t bits) {
  std::uint32_t const sign = std::uint32_t{bits & 0x8000u} << 16;
  std::uint32_t const exponent = (bits >> 10) & 0x1fu;
  std::uint32_t const fraction = bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  float const magnitude = static_cast<float>(fraction) * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
}

}  // namespace dvla::inline DVLA_ABI
