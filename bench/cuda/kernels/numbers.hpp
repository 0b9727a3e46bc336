// Operands of kernels that are timed.
#pragma once

#include <cstddef>
#include <vector>

#include <dvla/core/philox.hpp>
#include <dvla/kernels/cuda/device.cuh>

namespace timing {

/// Device memory of numbers between -1 and 1.
template <class T>
class numbers {
 public:
  explicit numbers(std::size_t size) : data_(static_cast<T*>(dvla::kernels::cuda_memory::allocate(size * sizeof(T)))) {
    std::vector<T> host(size);
    dvla::random_stream random(size, dvla::draw::test, 0, 0);
    for (T& x : host) x = static_cast<T>(static_cast<float>(random.next()) * 0x1p-31f - 1.0f);
    dvla::kernels::cuda_memory::copy_bytes(data_, host.data(), size * sizeof(T));
  }
  numbers(numbers const&) = delete;
  numbers& operator=(numbers const&) = delete;
  ~numbers() { dvla::kernels::cuda_memory::deallocate(data_); }
  [[nodiscard]] T* data() const { return data_; }

 private:
  T* data_;
};

}  // namespace timing
