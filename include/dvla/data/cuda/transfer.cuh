// Memory and events for copies that run beside the host and the kernels.
#pragma once

#include <array>
#include <cstddef>
#include <utility>

#include <dvla/kernels/cuda/device.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// Host memory that the card copies from and to by itself.
class pinned_memory {
 public:
  explicit pinned_memory(std::size_t bytes = 0) : bytes_(bytes) {
    if (bytes > 0) cuda_check(cudaMallocHost(&data_, bytes), "allocating pinned host memory");
  }
  pinned_memory(pinned_memory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  pinned_memory& operator=(pinned_memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~pinned_memory() {
    if (data_ != nullptr) (void)cudaFreeHost(data_);
  }

  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(data_); }
  [[nodiscard]] std::size_t size() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Uninitialised bytes of the card's memory.
class device_bytes {
 public:
  explicit device_bytes(std::size_t bytes = 0) : data_(bytes > 0 ? cuda_memory::allocate(bytes) : nullptr), bytes_(bytes) {}
  device_bytes(device_bytes&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  device_bytes& operator=(device_bytes&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~device_bytes() {
    if (data_ != nullptr) cuda_memory::deallocate(data_);
  }

  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(data_); }
  [[nodiscard]] std::size_t size() const { return bytes_; }

 private:
  void* data_;
  std::size_t bytes_;
};

/// A point in a stream's work. One that was never recorded is reached.
class cuda_event {
 public:
  cuda_event() { cuda_check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "creating an event"); }
  cuda_event(cuda_event const&) = delete;
  cuda_event& operator=(cuda_event const&) = delete;
  /// Waits, so that memory that a copy uses outlives it.
  ~cuda_event() {
    (void)cudaEventSynchronize(event_);
    (void)cudaEventDestroy(event_);
  }

  void record(cudaStream_t stream) const { cuda_check(cudaEventRecord(event_, stream), "recording an event"); }
  /// The host waits.
  void wait() const { cuda_check(cudaEventSynchronize(event_), "waiting for a copy"); }
  /// What is issued to the stream from now on waits; the host does not.
  void hold(cudaStream_t stream) const { cuda_check(cudaStreamWaitEvent(stream, event_, 0), "ordering two streams"); }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Small data for each step's kernels: written on the host into one of two pinned buffers in turn, copied in the order of a
/// stream. What commit gives is there for kernels issued before the next commit.
class upload_ring {
 public:
  /// Room for so many bytes, aligned to 16. Waits only for the copy of two calls ago.
  [[nodiscard]] std::byte* reserve(std::size_t bytes) {
    auto& b = buffers_[next_];
    b.copied.wait();
    if (b.memory.size() < bytes) b.memory = pinned_memory(bytes);
    return b.memory.data();
  }

  /// Copies the bytes that were written to the last reserve; returns where they are on the card.
  [[nodiscard]] std::byte const* commit(cudaStream_t stream, std::size_t bytes) {
    auto& b = buffers_[next_];
    next_ = 1 - next_;
    if (device_.size() < bytes) {
      cuda_check(cudaStreamSynchronize(stream), "waiting for the device");  // kernels may read what is freed here
      device_ = device_bytes(bytes);
    }
    cuda_check(cudaMemcpyAsync(device_.data(), b.memory.data(), bytes, cudaMemcpyHostToDevice, stream), "uploading a step's data");
    b.copied.record(stream);
    return device_.data();
  }

 private:
  struct buffer {
    pinned_memory memory{};
    cuda_event copied{};  // destroyed, and so waited for, before the memory
  };

  std::array<buffer, 2> buffers_{};
  device_bytes device_{};
  std::size_t next_ = 0;
};

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
