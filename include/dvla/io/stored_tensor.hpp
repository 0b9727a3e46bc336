// A tensor as it lies in a file, and its conversion to numbers of a C++ type.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/io/dtype.hpp>

namespace dvla::inline DVLA_ABI {

/// Name, type and shape of a tensor and its elements in C order, little-endian and without alignment. The bytes belong
/// to the archive that handed the tensor out.
struct stored_tensor {
  std::string name;
  dtype type = dtype::f32;
  std::vector<std::size_t> shape;
  std::span<std::byte const> bytes;

  /// Number of elements: 1 for a 0-dimensional tensor, 0 where an extent is 0.
  [[nodiscard]] std::size_t size() const { return bytes.size() / dtype_size(type); }
};

/// "(2, 3)" for messages.
[[nodiscard]] inline std::string shape_text(std::span<std::size_t const> shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + ")";
}

namespace detail {

/// Elements of that shape; empty where the number of bytes would not fit into size_t.
inline std::optional<std::size_t> checked_element_count(std::span<std::size_t const> shape, std::size_t element_size) {
  std::size_t product = element_size;
  bool empty = false;
  for (std::size_t const extent : shape) {
    empty |= extent == 0;
    if (extent != 0 && __builtin_mul_overflow(product, extent, &product)) return std::nullopt;
  }
  return empty ? 0 : product / element_size;
}

/// Calls f with the decoder of that type: a function from a pointer to bytes to a C++ number.
template <class F>
auto with_decoder(dtype type, F f) {
  auto const plain = [&]<class S>(S) {
    return f([](std::byte const* from) {
      S value;
      std::memcpy(&value, from, sizeof value);
      return value;
    });
  };
  auto const half = [&](float (*decode)(std::uint16_t)) {
    return f([decode](std::byte const* from) {
      std::uint16_t bits;
      std::memcpy(&bits, from, sizeof bits);
      return decode(bits);
    });
  };
  switch (type) {
    case dtype::boolean:
      return f([](std::byte const* from) { return static_cast<std::uint8_t>(*from != std::byte{0}); });
    case dtype::u8:
      return plain(std::uint8_t{});
    case dtype::i8:
      return plain(std::int8_t{});
    case dtype::i16:
      return plain(std::int16_t{});
    case dtype::u16:
      return plain(std::uint16_t{});
    case dtype::f16:
      return half(&f16_bits_to_float);
    case dtype::bf16:
      return half(&bf16_bits_to_float);
    case dtype::i32:
      return plain(std::int32_t{});
    case dtype::u32:
      return plain(std::uint32_t{});
    case dtype::f32:
      return plain(float{});
    case dtype::f64:
      return plain(double{});
    case dtype::i64:
      return plain(std::int64_t{});
    case dtype::u64:
      return plain(std::uint64_t{});
  }
  fail("a stored tensor has the unknown dtype number ", static_cast<unsigned>(type));
}

/// Whether integer type T holds exactly this number.
template <class T, class S>
constexpr bool fits(S value) {
  if constexpr (std::is_floating_point_v<S>) {
    // Both limits are exact: max() + 1 is a power of two, and min() is 0 or one.
    S const below = static_cast<S>(std::numeric_limits<T>::max() / 2 + 1) * 2;
    return value >= static_cast<S>(std::numeric_limits<T>::min()) && value < below && value == std::trunc(value);
  } else {
    T const converted = static_cast<T>(value);
    return static_cast<S>(converted) == value && (converted < T{}) == (value < S{});
  }
}

}  // namespace detail

/// The elements as T, in C order. Floating-point targets round to nearest (of equal type: every bit is kept); integer
/// targets take only numbers they hold exactly and throw, naming the tensor and the element, for any other.
template <class T>
requires std::is_arithmetic_v<T> &&(!std::is_same_v<T, bool>) [[nodiscard]] std::vector<T> read_as(stored_tensor const& tensor) {
  std::vector<T> out(tensor.size());
  if (tensor.type == dtype_of<T>()) {
    if (!out.empty()) std::memcpy(out.data(), tensor.bytes.data(), out.size() * sizeof(T));
    return out;
  }
  detail::with_decoder(tensor.type, [&](auto decode) {
    std::size_t const step = dtype_size(tensor.type);
    for (std::size_t i = 0; i < out.size(); ++i) {
      auto const value = decode(tensor.bytes.data() + i * step);
      if constexpr (std::is_integral_v<T>) {
        if (!detail::fits<T>(value)) [[unlikely]]
          fail("element ", i, " of tensor '", tensor.name, "' is ", value, ", which ", dtype_name(dtype_of<T>()), " cannot hold");
      }
      out[i] = static_cast<T>(value);
    }
  });
  return out;
}

}  // namespace dvla::inline DVLA_ABI
