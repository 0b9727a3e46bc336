// What the tests of CUDA kernels share: device memory between guard bands, poisoned with NaN, and random or small-integer
// inputs, which are drawn on the host so that a reference can be computed from the same numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include <dvla/core/philox.hpp>
#include <dvla/kernels/cuda/device.cuh>

/// Whether the large cases of the tests are to be left out or made small: with DVLA_TEST_SMALL=1 in the environment, for tools that
/// slow a card down a hundredfold (scripts/sanitize_cuda.sh).
inline bool small_tests() {
  char const* const word = std::getenv("DVLA_TEST_SMALL");
  return word != nullptr && std::strcmp(word, "1") == 0;
}

/// `size` elements on the device between two bands of 4 KiB that nothing may write. Elements start as NaN (all bits set).
template <class T>
class device_buffer {
 public:
  explicit device_buffer(std::size_t size) : size_(size) {
    dvla::kernels::cuda_check(cudaMalloc(&memory_, bytes()), "allocating a test buffer");
    dvla::kernels::cuda_check(cudaMemset(memory_, 0xFF, bytes()), "poisoning a test buffer");
    wait();  // the queue's stream does not wait for the default one
  }
  explicit device_buffer(std::vector<T> const& host) : device_buffer(host.size()) { put(host); }
  device_buffer(device_buffer const&) = delete;
  device_buffer& operator=(device_buffer const&) = delete;
  ~device_buffer() { (void)cudaFree(memory_); }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] T* data() const { return reinterpret_cast<T*>(memory_ + band); }

  void put(std::vector<T> const& host) {
    dvla::kernels::cuda_check(cudaMemcpy(data(), host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), "filling a test buffer");
    wait();
  }
  /// Waits for the whole device.
  [[nodiscard]] std::vector<T> get() const {
    std::vector<T> host(size_);
    wait();
    dvla::kernels::cuda_check(cudaMemcpy(host.data(), data(), size_ * sizeof(T), cudaMemcpyDeviceToHost), "reading a test buffer");
    return host;
  }
  /// Nothing has written outside the elements.
  [[nodiscard]] bool intact() const {
    std::vector<unsigned char> host(bytes());
    wait();
    dvla::kernels::cuda_check(cudaMemcpy(host.data(), memory_, bytes(), cudaMemcpyDeviceToHost), "reading a test buffer");
    auto const untouched = [](unsigned char byte) { return byte == 0xFF; };
    return std::all_of(host.begin(), host.begin() + band, untouched) && std::all_of(host.end() - tail(), host.end(), untouched);
  }

 private:
  static constexpr std::ptrdiff_t band = 4096;
  static void wait() { dvla::kernels::cuda_check(cudaDeviceSynchronize(), "waiting for a test"); }
  [[nodiscard]] std::ptrdiff_t tail() const { return static_cast<std::ptrdiff_t>(bytes() - size_ * sizeof(T)) - band; }
  [[nodiscard]] std::size_t bytes() const { return (size_ * sizeof(T) + 15) / 16 * 16 + 2 * static_cast<std::size_t>(band); }

  std::size_t size_;
  unsigned char* memory_ = nullptr;
};

/// Normal numbers around `mean`, rounded to T.
template <class T>
std::vector<T> normal_numbers(std::size_t size, std::uint64_t seed, double spread = 1, double mean = 0) {
  std::vector<T> out(size);
  dvla::random_stream stream(seed, dvla::draw::test, 0, 0);
  for (T& x : out) x = static_cast<T>(static_cast<dvla::arithmetic_t<T>>(mean + spread * stream.normal()));
  return out;
}

/// Integers from -2 to 2: products and sums of them are exact in every type.
template <class T>
std::vector<T> small_integers(std::size_t size, std::uint64_t seed) {
  std::vector<T> out(size);
  dvla::random_stream stream(seed, dvla::draw::test, 1, 0);
  for (T& x : out) x = static_cast<T>(static_cast<dvla::arithmetic_t<T>>(static_cast<int>(stream.below(5)) - 2));
  return out;
}

template <class T>
double as_double(T x) {
  return static_cast<double>(static_cast<dvla::arithmetic_t<T>>(x));
}

/// |x - expected| / |expected| over all elements; infinite where x holds a NaN.
template <class T>
double relative_error(std::vector<T> const& x, std::vector<double> const& expected) {
  double const infinity = std::numeric_limits<double>::infinity();
  if (x.size() != expected.size()) return infinity;
  double error = 0, size = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    double const distance = as_double(x[i]) - expected[i];
    if (!(std::abs(distance) < infinity)) return infinity;
    error += distance * distance;
    size += expected[i] * expected[i];
  }
  return size == 0 ? (error == 0 ? 0 : infinity) : std::sqrt(error / size);
}

/// The same bits.
template <class T>
bool same_bits(std::vector<T> const& a, std::vector<T> const& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
