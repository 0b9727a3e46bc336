// Memory for activations, gradients and workspace: taken from the device in slabs, handed out and taken back by a rule
// that depends on the sequence of requests alone, so the second step gets the addresses of the first and allocates nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {

/// Who hands out memory and takes it back.
class memory_source {
 public:
  [[nodiscard]] virtual void* allocate(std::size_t bytes) = 0;
  virtual void release(void* memory, std::size_t bytes) noexcept = 0;

 protected:
  ~memory_source() = default;
};

/// Best-fit allocation with coalescing over device slabs. Not for concurrent use: a context owns one.
template <class Device = cpu>
class arena final : public memory_source {
 public:
  explicit arena(std::size_t slab_bytes = std::size_t{64} << 20) : slab_bytes_(slab_bytes) {}
  arena(arena const&) = delete;
  arena& operator=(arena const&) = delete;
  ~arena() {
    for (auto const& s : slabs_) Device::deallocate(s.base);
  }

  /// At least `bytes` bytes aligned to Device::alignment; contents are undefined.
  [[nodiscard]] void* allocate(std::size_t bytes) override {
    bytes = round_up(bytes);
    auto best = free_.end();
    for (auto i = free_.begin(); i != free_.end(); ++i)
      if (i->bytes >= bytes && (best == free_.end() || i->bytes < best->bytes)) best = i;
    if (best == free_.end()) {
      add_slab(bytes);
      return allocate(bytes);
    }
    std::byte* const memory = best->base;
    if (best->bytes == bytes) {
      free_.erase(best);
    } else {
      best->base += bytes;
      best->bytes -= bytes;
    }
    in_use_ += bytes;
    peak_ = std::max(peak_, in_use_);
    return memory;
  }

  /// Takes back what allocate(bytes) gave.
  void release(void* memory, std::size_t bytes) noexcept override {
    block freed{static_cast<std::byte*>(memory), round_up(bytes)};
    in_use_ -= freed.bytes;
    auto next = std::lower_bound(free_.begin(), free_.end(), freed.base, [](block const& b, std::byte* p) { return b.base < p; });
    if (next != free_.end() && freed.base + freed.bytes == next->base && !starts_slab(next->base)) {
      next->base = freed.base;
      next->bytes += freed.bytes;
    } else {
      next = free_.insert(next, freed);  // capacity was reserved when blocks were handed out
    }
    if (next != free_.begin()) {
      auto const previous = next - 1;
      if (previous->base + previous->bytes == next->base && !starts_slab(next->base)) {
        previous->bytes += next->bytes;
        free_.erase(next);
      }
    }
  }

  [[nodiscard]] std::size_t bytes_in_use() const noexcept { return in_use_; }
  [[nodiscard]] std::size_t peak_bytes() const noexcept { return peak_; }
  [[nodiscard]] std::size_t slab_count() const noexcept { return slabs_.size(); }

 private:
  struct block {
    std::byte* base;
    std::size_t bytes;
  };

  static std::size_t round_up(std::size_t bytes) {
    return std::max<std::size_t>((bytes + Device::alignment - 1) / Device::alignment, 1) * Device::alignment;
  }

  [[nodiscard]] bool starts_slab(std::byte* address) const {
    return std::any_of(slabs_.begin(), slabs_.end(), [&](block const& s) { return s.base == address; });
  }

  void add_slab(std::size_t bytes) {
    bytes = std::max(bytes, slab_bytes_);
    auto* const base = static_cast<std::byte*>(Device::allocate(bytes));
    slabs_.push_back({base, bytes});
    free_.reserve(free_.size() + 4096);
    free_.insert(std::lower_bound(free_.begin(), free_.end(), base, [](block const& b, std::byte* p) { return b.base < p; }),
                 {base, bytes});
  }

  std::size_t slab_bytes_, in_use_ = 0, peak_ = 0;
  std::vector<block> free_, slabs_;
};

}  // namespace dvla::inline DVLA_ABI
