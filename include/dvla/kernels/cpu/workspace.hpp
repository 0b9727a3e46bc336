// Scratch memory of the kernels: aligned blocks that a thread keeps and lends out again, so that a training step
// allocates only the first time it runs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels::detail {

struct scratch_block {
  void* memory = nullptr;
  std::size_t bytes = 0;
};

/// The blocks a thread has but does not use at the moment; freed when the thread ends.
class scratch_cache {
 public:
  scratch_cache() = default;
  scratch_cache(scratch_cache const&) = delete;
  scratch_cache& operator=(scratch_cache const&) = delete;
  ~scratch_cache() {
    for (auto& block : idle_) cpu::deallocate(block.memory);
  }

  static scratch_cache& of_this_thread() {
    thread_local scratch_cache cache;
    return cache;
  }

  /// The smallest idle block that is large enough; where none is, the largest one makes room for a new one.
  scratch_block take(std::size_t bytes) {
    auto const better = [bytes](scratch_block const& x, scratch_block const& y) {
      bool const fits_x = x.bytes >= bytes, fits_y = y.bytes >= bytes;
      return fits_x != fits_y ? fits_x : fits_x ? x.bytes < y.bytes : x.bytes > y.bytes;
    };
    scratch_block taken;
    if (auto const best = std::min_element(idle_.begin(), idle_.end(), better); best != idle_.end()) {
      taken = std::exchange(*best, idle_.back());
      idle_.pop_back();
    }
    if (taken.bytes < bytes) {
      if (taken.memory != nullptr) cpu::deallocate(taken.memory);
      taken = {};
      idle_.reserve(idle_.size() + lent_ + 1);  // so that giving back cannot throw
      taken = {cpu::allocate(bytes), bytes};
    }
    ++lent_;
    return taken;
  }

  void give_back(scratch_block block) noexcept {
    --lent_;
    idle_.push_back(block);
  }

 private:
  std::vector<scratch_block> idle_;
  std::size_t lent_ = 0;
};

/// `count` uninitialised elements of T for the life of this object, on the thread that made it.
template <class T>
class scratch {
 public:
  explicit scratch(std::size_t count) {
    if (count != 0) block_ = scratch_cache::of_this_thread().take(count * sizeof(T));
  }
  scratch(scratch const&) = delete;
  scratch& operator=(scratch const&) = delete;
  ~scratch() {
    if (block_.memory != nullptr) scratch_cache::of_this_thread().give_back(block_);
  }

  [[nodiscard]] T* data() const noexcept { return static_cast<T*>(block_.memory); }

 private:
  scratch_block block_;
};

}  // namespace kernels::detail
}  // namespace dvla::inline DVLA_ABI
