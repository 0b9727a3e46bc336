// Division by a number that is known before the launch: a multiplication and a shift (Granlund and Montgomery, 1994).
#pragma once

#include <cstdint>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace detail {

/// Divides numbers below 2^31 by a constant from 1 to 2^31 - 1.
struct divisor {
  std::uint32_t value = 1, factor = 0, shift = 0;

  divisor() = default;
  explicit divisor(std::uint32_t by) : value(by) {
    while (shift < 31 && (std::uint64_t{1} << shift) < by) ++shift;
    // factor = ceil(2^(32 + shift) / by) - 2^32, exact for every 32-bit number
    factor = static_cast<std::uint32_t>(((std::uint64_t{1} << 32) * ((std::uint64_t{1} << shift) - by)) / by + 1);
  }

  [[nodiscard]] __device__ std::uint32_t quotient(std::uint32_t n) const {
    return (__umulhi(n, factor) + n) >> shift;  // the sum stays below 2^32 for n below 2^31
  }
};

}  // namespace detail
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
