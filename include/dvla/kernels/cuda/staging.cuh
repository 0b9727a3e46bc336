// Inputs of a step on their way from the host: pinned memory that the card reads while the host goes on.
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

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
