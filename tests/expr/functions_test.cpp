// Every function and operator of expressions against the standard library in long double, for vectors and their tails.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <dvla/expr/functions.hpp>
#include <dvla/expr/assign.hpp>
#include <dvla/kernels/cpu/elementwise.hpp>

#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::shape;
using dvla::tensor;

constexpr std::size_t sizes[] = {1, 3, 17, 49, 196, 197};

/// The largest error of f against g in units of T's epsilon relative to |expected|, at least `floor`.
template <class T, class F, class G>
double unary_error(F const& f, G const& g, double low, double high, double floor = 0) {
  double worst = 0;
  for (std::size_t n : sizes) {
    auto const x = uniform_tensor<T>(shape<dyn>(n), n, low, high);
    tensor<T, shape<dyn>> y(n);
    y = f(x);
    for (std::size_t i = 0; i < n; ++i) {
      long double const expected = g(static_cast<long double>(x(i)));
      double const unit = std::numeric_limits<T>::epsilon() * std::max({double(std::abs(expected)), floor, 1e-300});
      double const error = static_cast<double>(std::abs(y(i) - expected)) / unit;
      if (!(error <= worst)) worst = error;
    }
  }
  return worst;
}

template <class T, class F, class G>
double binary_error(F const& f, G const& g, double low, double high) {
  double worst = 0;
  for (std::size_t n : sizes) {
    auto const a = uniform_tensor<T>(shape<dyn>(n), n, low, high), b = uniform_tensor<T>(shape<dyn>(n), n + 1000, low, high);
    tensor<T, shape<dyn>> y(n);
    y = f(a, b);
    for (std::size_t i = 0; i < n; ++i) {
      long double const expected = g(static_cast<long double>(a(i)), static_cast<long double>(b(i)));
      double const unit = std::numeric_limits<T>::epsilon() * std::max(double(std::abs(expected)), 1e-300);
      double const error = expected == static_cast<long double>(y(i)) ? 0 : static_cast<double>(std::abs(y(i) - expected)) / unit;
      if (!(error <= worst)) worst = error;
    }
  }
  return worst;
}

using real = long double;

}  // namespace

TEST_CASE_TEMPLATE("Exponentials, logarithms and roots are within a few units in the last place", T, float, double) {
  CHECK(unary_error<T>([](auto const& x) { return exp(x); }, [](real x) { return std::exp(x); }, -60, 60) <= 4);
  CHECK(unary_error<T>([](auto const& x) { return log(x); }, [](real x) { return std::log(x); }, 1e-6, 1e6, 0.1) <= 4);
  CHECK(unary_error<T>([](auto const& x) { return sqrt(x); }, [](real x) { return std::sqrt(x); }, 0, 1e4) <= 1);
  CHECK(unary_error<T>([](auto const& x) { return rsqrt(x); }, [](real x) { return 1 / std::sqrt(x); }, 1e-4, 1e4) <= 2);
  CHECK(unary_error<T>([](auto const& x) { return square(x); }, [](real x) { return x * x; }, -10, 10) <= 1);
}

TEST_CASE_TEMPLATE("Activations are within a few units in the last place", T, float, double) {
  real const root2 = std::sqrt(real(2));
  CHECK(unary_error<T>([](auto const& x) { return tanh(x); }, [](real x) { return std::tanh(x); }, -6, 6) <= 6);
  CHECK(unary_error<T>([](auto const& x) { return sigmoid(x); }, [](real x) { return 1 / (1 + std::exp(-x)); }, -30, 30) <= 6);
  CHECK(unary_error<T>([](auto const& x) { return erf(x); }, [](real x) { return std::erf(x); }, -4, 4) <= 32);
  CHECK(unary_error<T>([](auto const& x) { return gelu(x); }, [=](real x) { return x * std::erfc(-x / root2) / 2; }, -6, 6, 1) <= 64);
  CHECK(unary_error<T>([](auto const& x) { return relu(x); }, [](real x) { return std::max(x, real(0)); }, -2, 2) == 0);
  CHECK(unary_error<T>([](auto const& x) { return abs(x); }, [](real x) { return std::abs(x); }, -2, 2) == 0);
  CHECK(unary_error<T>([](auto const& x) { return -x; }, [](real x) { return -x; }, -2, 2) == 0);
}

TEST_CASE_TEMPLATE("Arithmetic is correctly rounded", T, float, double) {
  CHECK(binary_error<T>([](auto const& a, auto const& b) { return a + b; }, [](real a, real b) { return a + b; }, -9, 9) <= 0.5);
  CHECK(binary_error<T>([](auto const& a, auto const& b) { return a - b; }, [](real a, real b) { return a - b; }, -9, 9) <= 0.5);
  CHECK(binary_error<T>([](auto const& a, auto const& b) { return a * b; }, [](real a, real b) { return a * b; }, -9, 9) <= 0.5);
  CHECK(binary_error<T>([](auto const& a, auto const& b) { return a / b; }, [](real a, real b) { return a / b; }, -9, 9) <= 0.5);
  CHECK(binary_error<T>([](auto const& a, auto const& b) { return maximum(a, b); }, [](real a, real b) { return std::max(a, b); }, -9, 9) == 0);
  CHECK(binary_error<T>([](auto const& a, auto const& b) { return minimum(a, b); }, [](real a, real b) { return std::min(a, b); }, -9, 9) == 0);
}

TEST_CASE_TEMPLATE("Comparisons give one or zero", T, float, double) {
  auto const check = [](auto const& f, auto const& g) {
    return binary_error<T>([&](auto const& a, auto const& b) { return f(minimum(maximum(a, -0.5), 0.5), minimum(maximum(b, -0.5), 0.5)); },
                           [&](real a, real b) { return real(g(std::clamp(a, real(-0.5), real(0.5)), std::clamp(b, real(-0.5), real(0.5)))); }, -1, 1);
  };
  CHECK(check([](auto a, auto b) { return a < b; }, [](real a, real b) { return a < b; }) == 0);
  CHECK(check([](auto a, auto b) { return a <= b; }, [](real a, real b) { return a <= b; }) == 0);
  CHECK(check([](auto a, auto b) { return a > b; }, [](real a, real b) { return a > b; }) == 0);
  CHECK(check([](auto a, auto b) { return a >= b; }, [](real a, real b) { return a >= b; }) == 0);
  CHECK(check([](auto a, auto b) { return equal(a, b); }, [](real a, real b) { return a == b; }) == 0);
}

TEST_CASE_TEMPLATE("Powers are accurate relative to the size of their logarithm", T, float, double) {
  double worst = 0;
  for (std::size_t n : sizes) {
    auto const a = uniform_tensor<T>(shape<dyn>(n), n, 0.01, 20), b = uniform_tensor<T>(shape<dyn>(n), n + 1, -5, 5);
    tensor<T, shape<dyn>> y(n);
    y = pow(a, b);
    for (std::size_t i = 0; i < n; ++i) {
      real const expected = std::pow(real(a(i)), real(b(i)));
      double const unit = double(expected) * std::numeric_limits<T>::epsilon() * (1 + std::abs(double(b(i)) * std::log(double(a(i)))));
      double const error = double(std::abs(y(i) - expected)) / unit;
      if (!(error <= worst)) worst = error;
    }
  }
  CHECK(worst <= 4);
}

TEST_CASE_TEMPLATE("Powers at the edges are those of the standard library", T, float, double) {
  T const infinity = std::numeric_limits<T>::infinity();
  std::vector<std::pair<T, T>> const cases{{0, 0}, {0, 1}, {0, 2}, {0, -1}, {1, 0}, {-2, 0}, {-2, 1}, {-2, 2}, {-2, 3}, {-2, -1}, {5, 0},
                                           {1, infinity}, {2, infinity}, {infinity, 0}, {infinity, 2}};
  tensor<T, shape<dyn>> a(cases.size()), b(cases.size()), y(cases.size());
  for (std::size_t i = 0; i < cases.size(); ++i) a(i) = cases[i].first, b(i) = cases[i].second;
  y = pow(a, b);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    CAPTURE(a(i));
    CAPTURE(b(i));
    T const expected = std::pow(a(i), b(i));
    CHECK((y(i) == expected || std::abs(y(i) - expected) <= 8 * std::numeric_limits<T>::epsilon() * std::abs(expected)));
  }
  y = pow(a * 0 - 2, b * 0 + 0.5);
  CHECK(y(0) != y(0));
}

TEST_CASE_TEMPLATE("Functions saturate instead of overflowing", T, float, double) {
  T const infinity = std::numeric_limits<T>::infinity();
  T const inputs[] = {-infinity, -1e5, -1000, -200, 0, 200, 1000, 1e5, infinity};
  tensor<T, shape<9>> x, y;
  for (std::size_t i = 0; i < 9; ++i) x(i) = inputs[i];
  auto const compare = [&](auto const& g) {
    for (std::size_t i = 0; i < 9; ++i) {
      CAPTURE(x(i));
      T const expected = static_cast<T>(g(real(x(i))));
      CHECK((y(i) == expected || std::abs(y(i) - expected) <= 1e-6 * std::abs(expected) || std::abs(expected) < std::numeric_limits<T>::min()));
    }
  };
  y = sigmoid(x), compare([](real v) { return 1 / (1 + std::exp(-v)); });
  y = tanh(x), compare([](real v) { return std::tanh(v); });
  y = erf(x), compare([](real v) { return std::erf(v); });
  y = exp(minimum(x, 50)), compare([](real v) { return std::exp(std::min(v, real(50))); });
  y = exp(x);
  CHECK(y(0) == 0);
  CHECK(y(6) == infinity);
  CHECK(y(8) == infinity);
  y = log(x);
  CHECK(y(4) == -infinity);
  CHECK(y(8) == infinity);
  CHECK(y(2) != y(2));
}

TEST_CASE_TEMPLATE("A NaN goes through every function, from either side of an operator", T, float, double) {
  T const nan = std::numeric_limits<T>::quiet_NaN();
  auto const passes = [&](auto const& f) {
    bool all = true;
    for (std::size_t n : {3u, 17u, 64u}) {
      tensor<T, shape<dyn>> x(n), ones(n), y(n);
      x.fill(nan);
      ones.fill(1);
      y = f(x, ones);
      for (std::size_t i = 0; i < n; ++i) all = all && y(i) != y(i);
    }
    return all;
  };
  CHECK(passes([](auto const& x, auto const&) { return exp(x); }));
  CHECK(passes([](auto const& x, auto const&) { return log(x); }));
  CHECK(passes([](auto const& x, auto const&) { return sqrt(x); }));
  CHECK(passes([](auto const& x, auto const&) { return tanh(x); }));
  CHECK(passes([](auto const& x, auto const&) { return sigmoid(x); }));
  CHECK(passes([](auto const& x, auto const&) { return erf(x); }));
  CHECK(passes([](auto const& x, auto const&) { return gelu(x); }));
  CHECK(passes([](auto const& x, auto const&) { return relu(x); }));
  CHECK(passes([](auto const& x, auto const&) { return abs(x); }));
  CHECK(passes([](auto const& x, auto const&) { return clamp(x, -1, 1); }));
  CHECK(passes([](auto const& x, auto const& one) { return maximum(x, one); }));
  CHECK(passes([](auto const& x, auto const& one) { return maximum(one, x); }));
  CHECK(passes([](auto const& x, auto const& one) { return minimum(x, one); }));
  CHECK(passes([](auto const& x, auto const& one) { return minimum(one, x); }));
  CHECK(passes([](auto const& x, auto const& one) { return pow(x, one); }));
}

TEST_CASE_TEMPLATE("A choice takes no notice of what it does not choose, and a clamp holds both ends", T, float, double) {
  T const nan = std::numeric_limits<T>::quiet_NaN();
  for (std::size_t n : sizes) {
    auto const x = uniform_tensor<T>(shape<dyn>(n), n, -2, 2);
    tensor<T, shape<dyn>> y(n), z(n);
    y = select(x > 0, sqrt(x), nan * x);
    z = clamp(x, -0.5, 1);
    for (std::size_t i = 0; i < n; ++i) {
      CHECK((x(i) > 0 ? y(i) == std::sqrt(x(i)) : y(i) != y(i)));
      CHECK(z(i) == std::clamp(x(i), T(-0.5), T(1)));
    }
    y = select(x <= 0, 0.0, 1.0);
    for (std::size_t i = 0; i < n; ++i) CHECK(y(i) == (x(i) > 0));
  }
}
