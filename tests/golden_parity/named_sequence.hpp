// The pseudo-random numbers of a name, of which golden files are made (tests/golden/README.md).
#pragma once

#include <cstdint>
#include <string>

namespace parity {

/// The sequence of one name: FNV-1a of salt + name, then splitmix64.
class named_sequence {
 public:
  explicit named_sequence(std::string const& salted_name) {
    for (char const c : salted_name) hash_ = (hash_ ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  }
  /// In [0, 1).
  [[nodiscard]] double u(std::uint64_t i) const { return static_cast<double>(mix(hash_ + i * 0x9E3779B97F4A7C15ull) >> 40) * 0x1p-24; }
  /// In [-1, 1).
  [[nodiscard]] double s(std::uint64_t i) const { return 2 * u(i) - 1; }

 private:
  static std::uint64_t mix(std::uint64_t x) {
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
  }
  std::uint64_t hash_ = 0xCBF29CE484222325ull;
};

}  // namespace parity
