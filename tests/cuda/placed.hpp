// Test data of every alignment, and the precision that results are held to.
#pragma once

#include <cstring>
#include <type_traits>
#include <vector>

#include "device_buffer.hpp"

/// A device buffer whose elements begin `shift` elements after an aligned address.
template <class T>
class placed {
 public:
  placed(std::size_t size, std::size_t shift) : buffer_(size + shift), shift_(shift) {}
  placed(std::vector<T> const& host, std::size_t shift) : placed(host.size(), shift) {
    dvla::kernels::cuda_check(cudaMemcpy(data(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice),
                              "filling a test buffer");
    dvla::kernels::cuda_check(cudaDeviceSynchronize(), "waiting for a test");  // the queue's stream does not wait for the default one
  }

  [[nodiscard]] T* data() const { return buffer_.data() + shift_; }
  [[nodiscard]] T const* read() const { return data(); }
  [[nodiscard]] std::vector<T> get() const {
    auto const all = buffer_.get();
    return {all.begin() + static_cast<std::ptrdiff_t>(shift_), all.end()};
  }
  /// Nothing was written before or after the elements.
  [[nodiscard]] bool intact() const {
    auto const all = buffer_.get();
    std::vector<unsigned char> before(shift_ * sizeof(T));
    if (shift_ > 0) std::memcpy(before.data(), static_cast<void const*>(all.data()), before.size());
    return buffer_.intact() && std::all_of(before.begin(), before.end(), [](unsigned char byte) { return byte == 0xFF; });
  }

 private:
  device_buffer<T> buffer_;
  std::size_t shift_;
};

/// The relative error that results stored as T may have.
template <class T>
inline constexpr double bound = std::is_same_v<T, double>  ? 1e-12
                                : std::is_same_v<T, float> ? 1e-5
                                                           : 4e-3;

template <class T>
std::vector<double> as_doubles(std::vector<T> const& x) {
  std::vector<double> out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) out[i] = as_double(x[i]);
  return out;
}

/// The exact sum, element by element.
inline std::vector<double> added(std::vector<double> a, std::vector<double> const& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}
