// What the tests of products on the GPU share: a problem in device memory, with its product in double.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include <dvla/kernels/cuda/gemm.cuh>

#include "device_buffer.hpp"

namespace products {

using namespace dvla;
using namespace dvla::kernels;

/// Operands of T with a result of R under a precision, and the relative error that is allowed.
template <precision P, class T, class R = T>
struct kind {
  static constexpr precision arithmetic = P;
  using operand = T;
  using result = R;
  using A = arithmetic_t<T>;
  static constexpr bool is_rounded = P == precision::tf32 && std::is_same_v<T, float>;
  static constexpr double bound = std::is_same_v<T, double> ? 1e-12 : std::is_same_v<R, bfloat16> ? 4e-3 : is_rounded ? 5e-4 : 1e-5;
  // cuBLASLt may cut floats off to tf32 instead of rounding them: every operand then is half a unit too small on average.
  static constexpr double blas_bound = is_rounded ? 1e-3 : bound;
};
using in_double = kind<precision::f32, double>;
using strict = kind<precision::f32, float>;
using rounded = kind<precision::tf32, float>;
using halves = kind<precision::bf16, bfloat16>;
using widened = kind<precision::bf16, bfloat16, float>;

struct sizes {
  std::size_t m, n, k;
};

/// How a problem lies in memory, and what is computed of it.
struct layout {
  bool trans_a = false, trans_b = false;
  std::size_t slack = 0, shift = 0;  // elements between rows and before the operands
  std::size_t batch = 1;
  bool shared_b = false, integers = false;
  double alpha = 1, beta = 0;
};

/// A problem on the device, with its product in double.
template <class K>
class trial {
  using T = typename K::operand;
  using R = typename K::result;

 public:
  trial(sizes s, layout l)
      : s_(s), l_(l), lda_((l.trans_a ? s.m : s.k) + l.slack), ldb_((l.trans_b ? s.k : s.n) + l.slack), ldc_(s.n + l.slack),
        a_(numbers<T>(l.shift + l.batch * stride_a(), 1)), b_(numbers<T>(l.shift + (l.shared_b ? 1 : l.batch) * stride_b(), 2)),
        before_(numbers<R>(l.shift + l.batch * stride_c(), 3)), on_a_(a_), on_b_(b_) {
    if (l.beta == 0) std::memset(static_cast<void*>(before_.data()), 0xFF, before_.size() * sizeof(R));
    product_.resize(l.batch * s.m * s.n);
    for (std::size_t g = 0; g < l.batch; ++g) multiply(g);
  }

  /// The product, members of the batch one after the other, in double.
  [[nodiscard]] std::vector<double> const& product() const { return product_; }

  [[nodiscard]] gemm_problem<T, R> problem(R* c) const {
    gemm_problem<T, R> p{s_.m, s_.n, s_.k, on_a_.data() + l_.shift, lda_, l_.trans_a, on_b_.data() + l_.shift, ldb_, l_.trans_b, c, ldc_};
    p.alpha = static_cast<typename K::A>(l_.alpha), p.beta = static_cast<typename K::A>(l_.beta);
    p.batch = l_.batch, p.batch_stride_a = stride_a(), p.batch_stride_c = stride_c();
    p.batch_stride_b = l_.shared_b ? 0 : stride_b();
    return p;
  }

  /// C with what lies between its rows.
  [[nodiscard]] std::vector<R> run(auto const& by) const {
    device_buffer<R> c(before_);
    by(basic_cuda<K::arithmetic>{}, problem(c.data() + l_.shift));
    auto out = c.get();
    if (!c.intact()) out.clear();
    return out;
  }

  /// The relative error of C in units of what is allowed; infinite where anything else was written.
  template <class Method>
  [[nodiscard]] double error(Method const& by) const {
    auto const after = run(by);
    if (after.size() != before_.size()) return std::numeric_limits<double>::infinity();
    std::vector<R> found;
    std::vector<double> expected;
    std::size_t touched = 0;
    for_elements([&](std::size_t at, std::size_t element) {
      if (element == outside) touched += same(after[at], before_[at]) ? 0 : 1;
      else found.push_back(after[at]), expected.push_back(value(at, element));
    });
    return touched > 0 ? std::numeric_limits<double>::infinity() : relative_error(found, expected) / Method::template bound<K>;
  }

  /// Elements of C that are not the expected ones, rounded to R.
  [[nodiscard]] std::size_t differences(auto const& by) const {
    auto const after = run(by);
    if (after.size() != before_.size()) return before_.size();
    std::size_t count = 0;
    for_elements([&](std::size_t at, std::size_t element) {
      R const wanted = element == outside ? before_[at] : static_cast<R>(static_cast<arithmetic_t<R>>(value(at, element)));
      count += same(after[at], wanted) ? 0 : 1;
    });
    return count;
  }

 private:
  static constexpr std::size_t outside = ~std::size_t{0};

  template <class E>
  [[nodiscard]] std::vector<E> numbers(std::size_t count, std::uint64_t seed) const {
    return l_.integers ? small_integers<E>(count, seed) : normal_numbers<E>(count, seed);
  }
  static bool same(R x, R y) { return std::memcmp(&x, &y, sizeof(R)) == 0; }
  [[nodiscard]] std::size_t stride_a() const { return (l_.trans_a ? s_.k : s_.m) * lda_; }
  [[nodiscard]] std::size_t stride_b() const { return (l_.trans_b ? s_.n : s_.k) * ldb_; }
  [[nodiscard]] std::size_t stride_c() const { return s_.m * ldc_ + l_.slack; }

  [[nodiscard]] double value(std::size_t at, std::size_t element) const {
    return l_.alpha * product_[element] + (l_.beta == 0 ? 0 : l_.beta * as_double(before_[at]));
  }

  /// f(place in C's memory, number of the element or `outside`).
  template <class F>
  void for_elements(F f) const {
    for (std::size_t at = 0; at < before_.size(); ++at) {
      std::size_t const within = at - l_.shift, row = within % stride_c() / ldc_, column = within % stride_c() % ldc_;
      bool const there = at >= l_.shift && row < s_.m && column < s_.n;
      f(at, there ? (within / stride_c() * s_.m + row) * s_.n + column : outside);
    }
  }

  void multiply(std::size_t g) {
    T const* const a = a_.data() + l_.shift + g * stride_a();
    T const* const b = b_.data() + l_.shift + (l_.shared_b ? 0 : g * stride_b());
    std::vector<double> row(s_.k), column(s_.k), columns(s_.n * s_.k);
    for (std::size_t j = 0; j < s_.n; ++j)
      for (std::size_t l = 0; l < s_.k; ++l) columns[j * s_.k + l] = as_double(l_.trans_b ? b[j * ldb_ + l] : b[l * ldb_ + j]);
    for (std::size_t i = 0; i < s_.m; ++i) {
      for (std::size_t l = 0; l < s_.k; ++l) row[l] = as_double(l_.trans_a ? a[l * lda_ + i] : a[i * lda_ + l]);
      for (std::size_t j = 0; j < s_.n; ++j) {
        double sum = 0;
        for (std::size_t l = 0; l < s_.k; ++l) sum += row[l] * columns[j * s_.k + l];
        product_[(g * s_.m + i) * s_.n + j] = sum;
      }
    }
  }

  sizes s_;
  layout l_;
  std::size_t lda_, ldb_, ldc_;
  std::vector<T> a_, b_;
  std::vector<R> before_;
  std::vector<double> product_;
  device_buffer<T> on_a_, on_b_;
};

}  // namespace products
