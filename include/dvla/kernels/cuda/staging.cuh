// Inputs and results of a step between host and card: pinned memory that the card reads and writes while the host goes on.
#pragma once

#include <array>
#include <cstring>
#include <span>

#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/staging.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// Device memory whose address stays the same from step to step, filled from one of two pinned buffers in turn.
template <class T, precision P>
class staged<T, basic_cuda<P>> {
 public:
  staged() = default;
  staged(staged const&) = delete;
  staged& operator=(staged const&) = delete;
  ~staged() {
    for (auto& b : buffers_) {
      if (b.used != nullptr) (void)cudaEventSynchronize(b.used), (void)cudaEventDestroy(b.used);
      if (b.memory != nullptr) (void)cudaFreeHost(b.memory);
    }
    if (device_ != nullptr) cuda_memory::deallocate(device_);
  }

  /// Copies the host's elements, whose number must not change, behind the work issued so far; returns where they will lie. Waits
  /// only for the copy of two calls ago.
  T const* put(basic_cuda<P> const& device, std::span<T const> host) {
    if (device_ == nullptr) allocate(host.size());
    expect(host.size() == count_, "a staged input of ", count_, " elements was given ", host.size(),
           "; every step must have the same shapes");
    auto& b = buffers_[next_];
    next_ = 1 - next_;
    cuda_check(cudaEventSynchronize(b.used), "waiting for an earlier input");
    std::memcpy(b.memory, host.data(), host.size_bytes());
    cuda_check(cudaMemcpyAsync(device_, b.memory, host.size_bytes(), cudaMemcpyHostToDevice, device.stream()), "copying an input");
    cuda_check(cudaEventRecord(b.used, device.stream()), "copying an input");
    return device_;
  }

 private:
  struct pinned {
    T* memory = nullptr;
    cudaEvent_t used = nullptr;
  };

  void allocate(std::size_t count) {
    count_ = count;
    device_ = static_cast<T*>(cuda_memory::allocate(std::max<std::size_t>(count, 1) * sizeof(T)));
    for (auto& b : buffers_) {
      cuda_check(cudaMallocHost(&b.memory, std::max<std::size_t>(count, 1) * sizeof(T)), "allocating pinned host memory");
      cuda_check(cudaEventCreateWithFlags(&b.used, cudaEventDisableTiming), "creating an event");
    }
  }

  std::size_t count_ = 0, next_ = 0;
  T* device_ = nullptr;
  std::array<pinned, 2> buffers_{};
};

/// Two places in pinned memory, used in turn.
template <class T, precision P>
class returned<T, basic_cuda<P>> {
 public:
  returned() {
    cuda_check(cudaMallocHost(&values_, 2 * sizeof(T)), "allocating pinned host memory");
    for (auto& event : arrived_) cuda_check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  }
  returned(returned const&) = delete;
  returned& operator=(returned const&) = delete;
  ~returned() {
    for (auto const event : arrived_) (void)cudaEventSynchronize(event), (void)cudaEventDestroy(event);
    (void)cudaFreeHost(values_);
  }

  void send(basic_cuda<P> const& device, T const* from) {
    expect(sent_ - got_ < 2, "returned: two values are on their way already; get one first");
    std::size_t const place = sent_ % 2;
    cuda_check(cudaMemcpyAsync(values_ + place, from, sizeof(T), cudaMemcpyDeviceToHost, device.stream()), "copying a result");
    cuda_check(cudaEventRecord(arrived_[place], device.stream()), "copying a result");
    ++sent_;
  }

  [[nodiscard]] T get() {
    expect(sent_ > got_, "returned: every value that was sent has been got");
    std::size_t const place = got_ % 2;
    cuda_check(cudaEventSynchronize(arrived_[place]), "waiting for a result");
    ++got_;
    return values_[place];
  }

 private:
  T* values_ = nullptr;
  std::array<cudaEvent_t, 2> arrived_{};
  std::size_t sent_ = 0, got_ = 0;
};

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
