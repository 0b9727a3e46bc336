// Work on a card that is done again and again, and whether it writes the same bits every time; compared on the card, so that a
// thousand repeats take seconds.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/packet.cuh>

namespace repeat {

using namespace dvla;
using namespace dvla::kernels;

namespace detail {

/// Uniform numbers in [-1, 1), each a function of seed and place.
template <class T>
__global__ void draw_kernel(std::size_t count, std::uint32_t seed, T* to) {
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < count; i += gridDim.x * std::size_t{blockDim.x}) {
    std::uint32_t x = static_cast<std::uint32_t>(i) * 0x9E3779B9u ^ seed * 0x85EBCA6Bu;
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    x ^= x >> 16;
    to[i] = static_cast<T>(static_cast<arithmetic_t<T>>(static_cast<float>(x >> 8) * 0x1p-23f - 1.0f));
  }
}

/// Adds the number of words that differ; integers, so their order does not matter.
template <class Word>
__global__ void count_differences_kernel(std::size_t words, Word const* a, Word const* b, unsigned long long* differences) {
  unsigned long long own = 0;
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < words; i += gridDim.x * std::size_t{blockDim.x})
    own += a[i] != b[i];
  if (own > 0) atomicAdd(differences, own);
}

}  // namespace detail

/// Bytes on the card, whole words; moved, not copied.
class memory {
 public:
  explicit memory(std::size_t bytes) : bytes_((bytes + 3) / 4 * 4), data_(cuda_memory::allocate(bytes_ + 4)) {}
  memory(memory&& other) noexcept : bytes_(other.bytes_), data_(std::exchange(other.data_, nullptr)) {}
  memory& operator=(memory&&) = delete;
  ~memory() {
    if (data_ != nullptr) cuda_memory::deallocate(data_);
  }
  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_;
  void* data_;
};

/// An input: numbers that nothing changes.
template <class T>
class drawn {
 public:
  drawn(cudaStream_t stream, std::size_t count, std::uint32_t seed) : memory_(count * sizeof(T)) {
    detail::draw_kernel<<<1024, 256, 0, stream>>>(count, seed, static_cast<T*>(memory_.data()));
    cuda_launched("drawing numbers");
  }
  [[nodiscard]] T const* data() const { return static_cast<T const*>(memory_.data()); }

 private:
  memory memory_;
};

/// Places for results of one piece of work, each beside a copy of what the first run wrote there.
class results {
 public:
  /// Room for `count` elements.
  template <class T>
  [[nodiscard]] T* add(std::size_t count) {
    places_.push_back({memory(count * sizeof(T)), memory(count * sizeof(T))});
    return static_cast<T*>(places_.back().now.data());
  }
  void poison(cudaStream_t stream) const {
    for (auto const& p : places_) cuda_check(cudaMemsetAsync(p.now.data(), 0xFF, p.now.bytes(), stream), "poisoning results");
  }
  void keep(cudaStream_t stream) const {
    for (auto const& p : places_)
      cuda_check(cudaMemcpyAsync(p.first.data(), p.now.data(), p.now.bytes(), cudaMemcpyDeviceToDevice, stream), "keeping results");
  }
  void compare(cudaStream_t stream, unsigned long long* differences) const {
    for (auto const& p : places_) {
      detail::count_differences_kernel<<<1024, 256, 0, stream>>>(p.now.bytes() / 4, static_cast<std::uint32_t const*>(p.now.data()),
                                                                 static_cast<std::uint32_t const*>(p.first.data()), differences);
      cuda_launched("comparing results");
    }
  }

 private:
  struct place {
    memory now, first;
  };
  std::vector<place> places_;
};

/// Work by name; run() issues it and writes all of its results, which were poisoned before.
struct task {
  std::string name;
  std::shared_ptr<results> written;
  std::function<void()> run;
};

/// Does every task `repeats` times, one after the other in rounds, so that each finds in the workspace what another has left, and
/// prints a line for each; the number of tasks whose results differed.
int run_in_rounds(cudaStream_t stream, std::vector<task> const& tasks, int repeats);

/// The tasks of a precision at a batch; those of a model are run by themselves.
std::vector<task> kernels_bf16(std::size_t batch);
std::vector<task> kernels_tf32(std::size_t batch);
task training_step_bf16(std::size_t batch);

}  // namespace repeat
