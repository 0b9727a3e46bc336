// The arena: best fit, coalescing, and the same addresses for the same requests.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include <dvla/core/arena.hpp>
#include <dvla/core/philox.hpp>

namespace {

using dvla::arena;

using block = std::pair<void*, std::size_t>;

/// A random but repeatable step: allocations and releases in any order, all released in the end; the addresses it got.
std::vector<void*> step(arena<>& memory, std::uint64_t seed, std::size_t largest) {
  dvla::random_stream random(seed, dvla::draw::test, 0, 0);
  std::vector<block> held;
  std::vector<void*> addresses;
  for (int i = 0; i < 2000; ++i) {
    if (held.empty() || random.uniform() < 0.55) {
      std::size_t const bytes = random.below(static_cast<std::uint32_t>(largest));
      held.emplace_back(memory.allocate(bytes), bytes);
      addresses.push_back(held.back().first);
    } else {
      auto const at = held.begin() + random.below(static_cast<std::uint32_t>(held.size()));
      memory.release(at->first, at->second);
      held.erase(at);
    }
  }
  for (auto const& [address, bytes] : held) memory.release(address, bytes);
  return addresses;
}

}  // namespace

TEST_CASE("Blocks are aligned to 64 bytes, disjoint, and counted in whole lines") {
  arena<> memory(1 << 20);
  std::vector<block> blocks;
  for (std::size_t bytes : {0u, 1u, 63u, 64u, 65u, 1000u}) blocks.emplace_back(memory.allocate(bytes), bytes);
  for (auto const& [address, bytes] : blocks) {
    CHECK(reinterpret_cast<std::uintptr_t>(address) % 64 == 0);
    std::memset(address, 1, bytes);
  }
  for (std::size_t i = 1; i < blocks.size(); ++i)
    CHECK(static_cast<std::byte*>(blocks[i - 1].first) + blocks[i - 1].second <= static_cast<std::byte*>(blocks[i].first));
  CHECK(memory.bytes_in_use() == 64 * (1 + 1 + 1 + 1 + 2 + 16));
  for (auto const& [address, bytes] : blocks) memory.release(address, bytes);
  CHECK(memory.bytes_in_use() == 0);
  CHECK(memory.peak_bytes() == 64 * 22);
}

TEST_CASE("The smallest hole that fits is taken") {
  arena<> memory(1 << 20);
  void* const large = memory.allocate(1024);
  void* const fence1 = memory.allocate(64);
  void* const small = memory.allocate(256);
  void* const fence2 = memory.allocate(64);
  memory.release(large, 1024);
  memory.release(small, 256);
  CHECK(memory.allocate(200) == small);
  CHECK(memory.allocate(300) == large);
  memory.release(fence1, 64);
  memory.release(fence2, 64);
}

TEST_CASE("Neighbours are joined whichever is released first") {
  std::size_t const orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  for (auto const& order : orders) {
    arena<> memory(3 * 4096);
    void* const parts[] = {memory.allocate(4096), memory.allocate(4096), memory.allocate(4096)};
    for (std::size_t i : order) memory.release(parts[i], 4096);
    CHECK(memory.allocate(3 * 4096) == parts[0]);
    CHECK(memory.slab_count() == 1);
  }
}

TEST_CASE("Slabs that happen to be neighbours are not joined, and a large request has a slab of its own") {
  arena<> memory(4096);
  std::vector<block> held;
  for (int i = 0; i < 64; ++i) held.emplace_back(memory.allocate(4096), 4096);
  for (auto const& [address, bytes] : held) memory.release(address, bytes);
  CHECK(memory.slab_count() == 64);
  void* const large = memory.allocate(8192);
  CHECK(memory.slab_count() == 65);
  std::memset(large, 1, 8192);
  memory.release(large, 8192);
  CHECK(memory.allocate(8192) == large);
}

TEST_CASE("The second step gets the addresses of the first and allocates no slab") {
  arena<> memory(8 << 20);
  auto const first = step(memory, 1, 5000);
  CHECK(memory.bytes_in_use() == 0);
  CHECK(memory.slab_count() == 1);
  std::size_t const peak = memory.peak_bytes();
  CHECK(step(memory, 1, 5000) == first);
  CHECK(memory.slab_count() == 1);
  CHECK(memory.peak_bytes() == peak);
}

TEST_CASE("With several slabs, steps settle on the same addresses") {
  arena<> memory(64 << 10);
  std::size_t slabs = 0;
  std::vector<void*> last;
  for (int i = 0; i < 6; ++i) {
    auto const now = step(memory, 2, 20000);
    if (memory.slab_count() == slabs) CHECK((last.empty() || now == last));
    last = memory.slab_count() == slabs ? now : std::vector<void*>{};
    slabs = memory.slab_count();
  }
  CHECK_FALSE(last.empty());
}

TEST_CASE("Contents survive every allocation and release around them") {
  arena<> memory(32 << 10);
  dvla::random_stream random(3, dvla::draw::test, 0, 0);
  std::vector<block> held;
  auto const mark = [](block const& b) { return static_cast<int>(reinterpret_cast<std::uintptr_t>(b.first) / 64 % 251); };
  bool intact = true;
  for (int i = 0; i < 5000; ++i) {
    if (held.empty() || random.uniform() < 0.52) {
      std::size_t const bytes = 1 + random.below(3000);
      held.emplace_back(memory.allocate(bytes), bytes);
      std::memset(held.back().first, mark(held.back()), bytes);
    } else {
      auto const at = held.begin() + random.below(static_cast<std::uint32_t>(held.size()));
      auto const* const bytes = static_cast<unsigned char const*>(at->first);
      for (std::size_t k = 0; k < at->second; ++k) intact = intact && bytes[k] == mark(*at);
      memory.release(at->first, at->second);
      held.erase(at);
    }
  }
  CHECK(intact);
  for (auto const& [address, bytes] : held) memory.release(address, bytes);
  CHECK(memory.bytes_in_use() == 0);
}
