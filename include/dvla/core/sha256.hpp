// SHA-256 (FIPS 180-4): names what a cache holds and which file an image was, without a library for it.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// Hashes bytes as they come: update() any number of times, then finish() once.
class sha256 {
 public:
  using digest = std::array<std::uint8_t, 32>;

  void update(std::span<std::byte const> bytes) {
    length_ += bytes.size();
    while (!bytes.empty()) {
      std::size_t const count = std::min(bytes.size(), block_.size() - filled_);
      for (std::size_t i = 0; i < count; ++i) block_[filled_ + i] = static_cast<std::uint8_t>(bytes[i]);
      filled_ += count;
      bytes = bytes.subspan(count);
      if (filled_ == block_.size()) compress();
    }
  }
  void update(std::string_view text) { update(std::as_bytes(std::span(text))); }

  /// The hash of everything so far. The object is spent after it.
  [[nodiscard]] digest finish() {
    std::uint64_t const bits = length_ * 8;
    block_[filled_++] = 0x80;
    if (filled_ > 56) {  // the length no longer fits behind the mark
      std::fill(block_.begin() + static_cast<std::ptrdiff_t>(filled_), block_.end(), std::uint8_t{0});
      compress();
    }
    std::fill(block_.begin() + static_cast<std::ptrdiff_t>(filled_), block_.end() - 8, std::uint8_t{0});
    for (std::size_t i = 0; i < 8; ++i) block_[56 + i] = static_cast<std::uint8_t>(bits >> (56 - 8 * i));
    compress();
    digest out{};
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
    return out;
  }

  /// finish() as 64 lower-case hexadecimal digits.
  [[nodiscard]] std::string finish_hex() {
    std::string out;
    for (std::uint8_t const byte : finish()) {
      out += "0123456789abcdef"[byte >> 4];
      out += "0123456789abcdef"[byte & 15];
    }
    return out;
  }

 private:
  /// One block into the state (FIPS 180-4, 6.2.2); the letters are the standard's.
  void compress() {
    filled_ = 0;
    std::array<std::uint32_t, 64> w{};
    for (std::size_t t = 0; t < 16; ++t)
      for (std::size_t i = 0; i < 4; ++i) w[t] = (w[t] << 8) | block_[4 * t + i];
    for (std::size_t t = 16; t < 64; ++t) {
      std::uint32_t const s0 = std::rotr(w[t - 15], 7) ^ std::rotr(w[t - 15], 18) ^ (w[t - 15] >> 3);
      std::uint32_t const s1 = std::rotr(w[t - 2], 17) ^ std::rotr(w[t - 2], 19) ^ (w[t - 2] >> 10);
      w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (std::size_t t = 0; t < 64; ++t) {
      std::uint32_t const big1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      std::uint32_t const t1 = h + big1 + ((e & f) ^ (~e & g)) + constants[t] + w[t];
      std::uint32_t const big0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      std::uint32_t const t2 = big0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    std::array<std::uint32_t, 8> const add{a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state_[i] += add[i];
  }

  /// The first 32 bits of the fractions of the cube roots of the first 64 primes.
  static constexpr std::array<std::uint32_t, 64> constants{
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
      0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
      0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
      0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
      0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
      0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> block_{};
  std::size_t filled_ = 0;
  std::uint64_t length_ = 0;
};

/// SHA-256 as 64 lower-case hexadecimal digits.
[[nodiscard]] inline std::string sha256_hex(std::span<std::byte const> bytes) {
  sha256 hash;
  hash.update(bytes);
  return hash.finish_hex();
}
[[nodiscard]] inline std::string sha256_hex(std::string_view text) { return sha256_hex(std::as_bytes(std::span(text))); }

}  // namespace dvla::inline DVLA_ABI
