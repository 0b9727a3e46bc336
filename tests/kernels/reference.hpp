// What the kernels' tests share: buffers between guard bands, poisoned with NaN, and distances to a reference in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include <dvla/core/philox.hpp>

/// `size` elements between two bands that nothing may write.
template <class T>
class guarded {
 public:
  guarded() : guarded(0, T(0)) {}
  guarded(std::size_t size, T fill) : size_(size), memory_(size + 2 * band, T(12345)) { std::fill_n(data(), size, fill); }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] T* data() { return memory_.data() + band; }
  [[nodiscard]] T const* data() const { return memory_.data() + band; }
  [[nodiscard]] bool intact() const {
    auto const untouched = [](T x) { return x == T(12345); };
    return std::all_of(memory_.begin(), memory_.begin() + band, untouched) &&
           std::all_of(memory_.end() - band, memory_.end(), untouched);
  }
  /// The same bits.
  friend bool operator==(guarded const& a, guarded const& b) {
    return a.size_ == b.size_ && std::memcmp(a.data(), b.data(), a.size_ * sizeof(T)) == 0;
  }

 private:
  static constexpr std::ptrdiff_t band = 64;
  std::size_t size_;
  std::vector<T> memory_;
};

template <class T>
guarded<T> poisoned(std::size_t size) {
  return {size, std::numeric_limits<T>::quiet_NaN()};
}

/// Normal numbers with the given standard deviation around `mean`.
template <class T>
guarded<T> random(std::size_t size, std::uint64_t seed, double spread = 1, double mean = 0) {
  guarded<T> out(size, T(0));
  dvla::random_stream stream(seed, dvla::draw::test, 0, 0);
  for (std::size_t i = 0; i < size; ++i) out.data()[i] = T(mean + spread * double(stream.normal()));
  return out;
}

/// Sums in long double with the sums of their terms' magnitudes, which is what rounding errors are proportional to.
struct exact_sums {
  explicit exact_sums(std::size_t size) : value(size), magnitude(size) {}

  void add(std::size_t i, double term) { add(i, term, std::abs(term)); }
  void add(std::size_t i, double term, double size) {
    value[i] += term;
    magnitude[i] += size;
  }

  std::vector<long double> value, magnitude;
};

/// The largest |x - expected| in units of T's epsilon times the magnitude there plus the mean one; infinite where x is NaN.
template <class T>
double errors_of_rounding(guarded<T> const& x, exact_sums const& expected, double times = 1) {
  double const infinity = std::numeric_limits<double>::infinity();
  if (x.size() != expected.value.size()) return infinity;
  double mean = 0, worst = 0;
  for (long double m : expected.magnitude) mean += double(m) / double(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    double const distance = std::abs(double(x.data()[i] - times * expected.value[i]));
    double const unit = times * (double(expected.magnitude[i]) + mean) * double(std::numeric_limits<T>::epsilon());
    worst = std::isnan(distance) ? infinity : distance == 0 ? worst : std::max(worst, distance / unit);
  }
  return worst;
}
