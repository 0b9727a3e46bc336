// gemm against the triple loop in double: odd sizes, every transposition, strides, epilogue, poisoned and guarded outputs.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <dvla/core/thread_pool.hpp>
#include <dvla/kernels/cpu/gemm.hpp>

namespace {

using dvla::cpu;
using dvla::kernels::gemm;
using dvla::kernels::gemm_epilogue;
using dvla::kernels::gemm_problem;

constexpr std::size_t guard = 64;

template <class T>
constexpr T nan_value = std::numeric_limits<T>::quiet_NaN();

template <class T>
std::vector<T> random_values(std::size_t count, std::uint64_t seed) {
  std::vector<T> values(count);
  std::uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (auto& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value = static_cast<T>(static_cast<double>(state >> 40) / (1 << 23) - 1.0);
  }
  return values;
}

struct sizes {
  std::size_t m, n, k;
};

/// A problem with its operands: rows are `slack` longer than needed, and what lies between and around C must survive.
template <class T>
struct fixture {
  std::size_t m, n, k, batch, lda, ldb, ldc;
  bool trans_a, trans_b;
  T alpha = 1, beta = 0;
  std::vector<T> a, b, before, after;

  fixture(sizes s, bool ta, bool tb, std::size_t slack, std::size_t batch_size = 1)
      : m(s.m), n(s.n), k(s.k), batch(batch_size), lda((ta ? m : k) + slack), ldb((tb ? k : n) + slack), ldc(n + slack),
        trans_a(ta), trans_b(tb), a(random_values<T>(batch * stride_a(), 1)), b(random_values<T>(batch * stride_b(), 2)) {}

  [[nodiscard]] std::size_t stride_a() const { return (trans_a ? k : m) * lda; }
  [[nodiscard]] std::size_t stride_b() const { return (trans_b ? n : k) * ldb; }
  [[nodiscard]] std::size_t stride_c() const { return m * ldc; }

  void run(cpu const& device, gemm_epilogue<T> epilogue = {}) {
    before = random_values<T>(batch * stride_c() + 2 * guard, 3);
    if (beta == T(0))
      for (std::size_t i = 0; i < batch * m; ++i)
        for (std::size_t j = 0; j < n; ++j) before[guard + i * ldc + j] = nan_value<T>;
    after = before;
    gemm_problem<T> p{.m = m, .n = n, .k = k, .a = a.data(), .lda = lda, .trans_a = trans_a, .b = b.data(), .ldb = ldb,
                      .trans_b = trans_b, .c = after.data() + guard, .ldc = ldc, .alpha = alpha, .beta = beta};
    p.batch = batch;
    p.batch_stride_a = stride_a();
    p.batch_stride_b = stride_b();
    p.batch_stride_c = stride_c();
    p.epilogue = epilogue;
    gemm(device, p);
  }

  /// The largest |difference| / (|alpha| |A||B| + |beta C|) in units of the epsilon; infinite where a guard was touched.
  [[nodiscard]] double worst() const {
    double worst = 0;
    auto untouched = [&](std::size_t i) {
      if (!(before[i] == after[i])) worst = std::numeric_limits<double>::infinity();
    };
    for (std::size_t i = 0; i < guard; ++i) untouched(i), untouched(after.size() - 1 - i);
    for (std::size_t g = 0; g < batch; ++g)
      for (std::size_t i = 0; i < m; ++i) {
        std::size_t const row = guard + g * stride_c() + i * ldc;
        for (std::size_t j = n; j < ldc; ++j) untouched(row + j);
        for (std::size_t j = 0; j < n; ++j) {
          double sum = 0, scale = 1e-30;
          for (std::size_t l = 0; l < k; ++l) {
            double const x = a[g * stride_a() + (trans_a ? l * lda + i : i * lda + l)];
            double const y = b[g * stride_b() + (trans_b ? j * ldb + l : l * ldb + j)];
            sum += x * y;
            scale += std::abs(x * y);
          }
          double const old = beta != T(0) ? double(beta) * before[row + j] : 0.0;
          scale = std::abs(double(alpha)) * scale + std::abs(old);
          double const error = std::abs(after[row + j] - (alpha * sum + old)) / scale / std::numeric_limits<T>::epsilon();
          if (!(error <= worst)) worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
        }
      }
    return worst;
  }
};

/// Roundings add up as a random walk; the bound's slope is that of the longest sum.
double bound(std::size_t k) { return 4 + 0.5 * std::sqrt(static_cast<double>(k)); }

std::vector<sizes> const odd_sizes = {{1, 1, 1},   {3, 17, 49},  {17, 3, 1},    {49, 49, 17}, {1, 197, 49}, {196, 1, 17},
                                      {5, 64, 38}, {75, 5, 196}, {197, 49, 17}, {17, 49, 3},  {9, 25, 40},  {8, 48, 16},
                                      {49, 96, 1}, {131, 73, 5}, {7, 24, 400},  {260, 97, 401}};

template <class T>
void check_all_sizes() {
  for (sizes s : odd_sizes)
    for (bool ta : {false, true})
      for (bool tb : {false, true}) {
        CAPTURE(s.m);
        CAPTURE(s.n);
        CAPTURE(s.k);
        CAPTURE(ta);
        CAPTURE(tb);
        fixture<T> f(s, ta, tb, 0);
        f.run(cpu{});
        CHECK(f.worst() <= bound(s.k));
        fixture<T> g(s, ta, tb, 3);
        g.alpha = T(-0.75);
        g.beta = T(0.5);
        g.run(cpu{});
        CHECK(g.worst() <= bound(s.k));
      }
}

template <class T>
struct epilogue_record {
  std::size_t m, n;
  std::vector<int>* calls;
  static void apply(void const* context, std::size_t row, std::size_t column, std::size_t rows, std::size_t columns, T* block,
                    std::size_t ld) {
    auto const& self = *static_cast<epilogue_record const*>(context);
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = 0; j < columns; ++j) {
        block[i * ld + j] += static_cast<T>(1000 * (row + i) + column + j);
        ++(*self.calls)[(row + i) * self.n + column + j];
      }
  }
};

template <class T>
void check_epilogue(sizes s, bool trans_a, std::size_t batch) {
  CAPTURE(s.m);
  CAPTURE(s.k);
  fixture<T> f(s, trans_a, false, 2, batch);
  f.run(cpu{});
  std::vector<T> const plain = f.after;
  std::vector<int> calls(batch * s.m * s.n, 0);
  epilogue_record<T> record{s.m, s.n, &calls};
  dvla::thread_pool pool(2);
  f.run(cpu{&pool}, {&record, &epilogue_record<T>::apply});
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < batch * s.m; ++i)
    for (std::size_t j = 0; j < s.n; ++j) {
      std::size_t const at = guard + i * f.ldc + j;
      bool const once = calls[i * s.n + j] == 1 && f.after[at] == plain[at] + static_cast<T>(1000 * i + j);
      wrong += once ? 0 : 1;
    }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("gemm agrees with the triple loop for odd sizes, transpositions, strides, alpha and beta") {
  check_all_sizes<float>();
  check_all_sizes<double>();
}

TEST_CASE("gemm agrees with the triple loop where k is summed in parts") {
  for (bool tb : {false, true}) {
    fixture<float> f({33, 50, 9001}, true, tb, 1);
    f.alpha = 2;
    f.beta = -1;
    f.run(cpu{});
    CHECK(f.worst() <= bound(9001));
  }
}

TEST_CASE("a batched gemm treats every member by itself") {
  for (bool ta : {false, true})
    for (bool tb : {false, true}) {
      fixture<float> f({49, 50, 33}, ta, tb, 5, 3);
      f.run(cpu{});
      CHECK(f.worst() <= bound(33));
      fixture<double> g({17, 49, 20}, ta, tb, 0, 4);
      g.beta = 1;
      g.run(cpu{});
      CHECK(g.worst() <= bound(20));
    }
}

TEST_CASE("gemm with an empty sum scales C, and with alpha 0 does not look at the operands") {
  fixture<float> f({5, 50, 0}, false, false, 2);
  f.run(cpu{});
  CHECK(f.worst() <= 1);
  CHECK(f.after[guard] == 0.0f);
  f.beta = 0.5f;
  f.run(cpu{});
  CHECK(f.worst() <= 1);
  CHECK(f.after[guard] == 0.5f * f.before[guard]);

  fixture<float> g({5, 50, 7}, false, true, 2);
  g.a[3] = nan_value<float>;
  g.alpha = 0;
  g.beta = 1;
  g.run(cpu{});
  CHECK(g.after == g.before);
}

TEST_CASE("gemm with no rows or no columns touches nothing") {
  float c = 7;
  gemm_problem<float> p{.m = 0, .n = 4, .k = 3, .a = nullptr, .lda = 3, .trans_a = false, .b = nullptr, .ldb = 4,
                        .trans_b = false, .c = &c, .ldc = 4};
  gemm(cpu{}, p);
  p.m = 4;
  p.n = 0;
  gemm(cpu{}, p);
  p.n = 4;
  p.batch = 0;
  gemm(cpu{}, p);
  CHECK(c == 7);
}

TEST_CASE("the epilogue sees every element of C once, after its whole sum") {
  check_epilogue<float>({197, 100, 30}, false, 1);
  check_epilogue<float>({49, 70, 900}, true, 3);
  check_epilogue<double>({17, 33, 5000}, true, 1);
  check_epilogue<float>({300, 700, 3}, false, 1);
}

TEST_CASE("gemm gives the same bits on one thread and on two") {
  dvla::thread_pool pool(2);
  for (sizes s : {sizes{784, 96, 50}, sizes{96, 196, 12544}, sizes{300, 300, 300}, sizes{5, 1000, 64}})
    for (bool ta : {false, true}) {
      fixture<float> f(s, ta, false, 0);
      f.beta = 1;
      f.run(cpu{});
      std::vector<float> const alone = f.after;
      f.run(cpu{&pool});
      CHECK(f.after == alone);
    }
}
