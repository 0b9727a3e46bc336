// bfloat16 as a storage type: the upper half of a float. Arithmetic happens in float.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// Eight bits of mantissa, the exponent range of float. Conversion rounds to nearest even; a NaN stays one.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;

  DVLA_HD constexpr bfloat16(float value) {  // NOLINT: storing a float rounds it
#if DVLA_ON_DEVICE
    if (!std::is_constant_evaluated()) {  // the same rounding in one instruction
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
      return;
    }
#endif
    auto const word = std::bit_cast<std::uint32_t>(value);
    bits = value != value ? static_cast<std::uint16_t>((word >> 16) | 0x40u)
                          : static_cast<std::uint16_t>((word + 0x7FFFu + ((word >> 16) & 1u)) >> 16);
  }

  DVLA_HD constexpr operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16); }  // NOLINT
};

/// The type in which values stored as T are computed.
template <class T>
struct arithmetic_of {
  using type = T;
};
template <>
struct arithmetic_of<bfloat16> {
  using type = float;
};
template <class T>
using arithmetic_t = typename arithmetic_of<T>::type;

}  // namespace dvla::inline DVLA_ABI
