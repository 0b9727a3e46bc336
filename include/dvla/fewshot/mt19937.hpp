// The Mersenne Twister, as NumPy's legacy RandomState draws from it: the fixed test episodes of the few-shot literature
// are sequences of this generator, and a published accuracy can only be compared on the same ones.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// MT19937 (Matsumoto and Nishimura 1998) with the one-word seeding of its 2002 revision: numpy.random.RandomState(seed).
/// Everything else in this library draws from random_stream instead.
class mt19937 {
 public:
  explicit constexpr mt19937(std::uint32_t seed) {
    state_[0] = seed;
    for (std::uint32_t i = 1; i < size; ++i) state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
  }

  /// The next 32-bit word.
  constexpr std::uint32_t next() {
    if (position_ == size) refill();
    std::uint32_t word = state_[position_++];
    word ^= word >> 11;
    word ^= (word << 7) & 0x9D2C5680u;
    word ^= (word << 15) & 0xEFC60000u;
    return word ^ (word >> 18);
  }

  /// Uniform integer in [0, n), n >= 1: words cut to the bits of n - 1 until one is below n. n = 1 draws nothing.
  constexpr std::uint32_t below(std::uint32_t n) {
    std::uint32_t const largest = n - 1;
    std::uint32_t mask = largest;
    for (int shift = 1; shift < 32; shift *= 2) mask |= mask >> shift;
    if (mask == 0) return 0;
    std::uint32_t word = next() & mask;
    while (word > largest) word = next() & mask;
    return word;
  }

  /// k of the numbers 0 .. n - 1, k <= n, as RandomState.choice(n, k, replace=False): the first k of a full Fisher-Yates
  /// shuffle from the top.
  std::vector<std::uint32_t> choice(std::uint32_t n, std::size_t k) {
    std::vector<std::uint32_t> numbers(n);
    for (std::uint32_t i = 0; i < n; ++i) numbers[i] = i;
    for (std::uint32_t i = n; i > 1; --i) {
      std::uint32_t const j = below(i), kept = numbers[i - 1];
      numbers[i - 1] = numbers[j];
      numbers[j] = kept;
    }
    numbers.resize(k);
    return numbers;
  }

 private:
  static constexpr std::uint32_t size = 624, middle = 397;

  constexpr void refill() {
    for (std::uint32_t i = 0; i < size; ++i) {
      std::uint32_t const joined = (state_[i] & 0x80000000u) | (state_[(i + 1) % size] & 0x7FFFFFFFu);
      state_[i] = state_[(i + middle) % size] ^ (joined >> 1) ^ ((joined & 1u) != 0 ? 0x9908B0DFu : 0u);
    }
    position_ = 0;
  }

  std::array<std::uint32_t, size> state_{};
  std::uint32_t position_ = size;
};

}  // namespace dvla::inline DVLA_ABI
