// Randomness as a function: Philox4x32-10 (Salmon et al., SC 2011). A stream is named by what is drawn, where and at
// which step, so a value never depends on device, thread count, order of calls or a resume.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// Ten rounds of Philox4x32 over a counter and a key: four independent uniform 32-bit words.
DVLA_HD constexpr std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    std::uint64_t const p0 = std::uint64_t{0xD2511F53u} * counter[0];
    std::uint64_t const p1 = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<std::uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(p1),
               static_cast<std::uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

/// What a random number is drawn for: the first coordinate of a stream.
enum class draw : std::uint32_t { initialise, shuffle, augment, mix, drop_path, dropout, action, episode, world, test, back_off, support };

/// The random numbers of one (seed, what, where, step), read in order or by position.
class random_stream {
 public:
  DVLA_HD constexpr random_stream(std::uint64_t seed, draw what, std::uint32_t where, std::uint64_t step)
      : key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)},
        tail_{where, static_cast<std::uint32_t>(what) ^ (static_cast<std::uint32_t>(step >> 32) << 8), static_cast<std::uint32_t>(step)},
        what_(what),
        step_(step) {}

  /// The stream of the same name so many steps later, from its beginning.
  [[nodiscard]] DVLA_HD constexpr random_stream later(std::uint64_t steps) const {
    random_stream out = *this;
    out.step_ += steps;
    out.tail_[1] = static_cast<std::uint32_t>(what_) ^ (static_cast<std::uint32_t>(out.step_ >> 32) << 8);
    out.tail_[2] = static_cast<std::uint32_t>(out.step_);
    out.position_ = 0;
    return out;
  }

  /// The i-th 32-bit word of the stream.
  [[nodiscard]] DVLA_HD constexpr std::uint32_t at(std::uint64_t i) const {
    return philox4x32({static_cast<std::uint32_t>(i >> 2), tail_[0], tail_[1], tail_[2]}, key_)[i & 3];
  }

  /// The next 32-bit word.
  DVLA_HD constexpr std::uint32_t next() {
    if ((position_ & 3) == 0) block_ = philox4x32({static_cast<std::uint32_t>(position_ >> 2), tail_[0], tail_[1], tail_[2]}, key_);
    return block_[position_++ & 3];
  }

  /// Uniform in [0, 1) with 53 random bits.
  DVLA_HD constexpr double uniform() {
    std::uint64_t const high = next() >> 5, low = next() >> 6;
    return static_cast<double>((high << 26) | low) * 0x1p-53;
  }

  /// Uniform in [low, high).
  DVLA_HD constexpr double uniform(double low, double high) { return low + (high - low) * uniform(); }

  /// Uniform integer in [0, n), n >= 1, without bias (Lemire 2019).
  DVLA_HD constexpr std::uint32_t below(std::uint32_t n) {
    std::uint64_t product = std::uint64_t{next()} * n;
    if (static_cast<std::uint32_t>(product) < n) {
      std::uint32_t const threshold = (0u - n) % n;
      while (static_cast<std::uint32_t>(product) < threshold) product = std::uint64_t{next()} * n;
    }
    return static_cast<std::uint32_t>(product >> 32);
  }

  /// Standard normal (Box-Muller; uses one of the pair, so that a draw always costs the same four words).
  DVLA_HD double normal() {
    double const u = 1.0 - uniform(), v = uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586476925 * v);
  }

 private:
  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 3> tail_;
  draw what_;
  std::uint64_t step_;
  std::array<std::uint32_t, 4> block_{};
  std::uint64_t position_ = 0;
};

/// Fisher-Yates over a random-access range.
template <class Range>
void shuffle(Range& range, random_stream& random) {
  for (auto i = static_cast<std::uint32_t>(range.size()); i > 1; --i) {
    auto const j = random.below(i);
    auto kept = range[i - 1];
    range[i - 1] = range[j];
    range[j] = kept;
  }
}

}  // namespace dvla::inline DVLA_ABI
