// Products on the GPU, by cuBLASLt and by the library's own kernels, against sums in double: odd sizes, every transposition, strides,
// batches, parts of k; and every epilogue against what it is composed of.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include <dvla/kernels/cuda/gemm.cuh>

#include "device_buffer.hpp"

namespace {

using namespace dvla;
using namespace dvla::kernels;

constexpr double infinity = std::numeric_limits<double>::infinity();

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

/// The methods, each with what it takes a device and a problem to.
struct by_blas {
  template <class K>
  static constexpr double bound = K::blas_bound;
  void operator()(auto const& device, auto const& problem) const { gemm(device, problem); }
};
struct by_own_kernels {
  template <class K>
  static constexpr double bound = K::bound;
  void operator()(auto const& device, auto const& problem) const { gemm_own(device, problem); }
};
/// By the library's own kernels with one tile, at once or in parts.
template <class Tile>
struct by_tile : by_own_kernels {
  template <precision P, class T, class R>
  void operator()(basic_cuda<P> const& device, gemm_problem<T, R> const& problem) const {
    using tile = gemm_cuda::tile_list<Tile>;
    gemm_cuda::multiply<gemm_cuda::tile_choice<tile, tile, gemm_cuda::small_tiles<P, T>>>(device, problem, gemm_cuda::result_of(problem));
  }
};
constexpr by_blas blas;
constexpr by_own_kernels own;

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
    if (after.size() != before_.size()) return infinity;
    std::vector<R> found;
    std::vector<double> expected;
    std::size_t touched = 0;
    for_elements([&](std::size_t at, std::size_t element) {
      if (element == outside) touched += same(after[at], before_[at]) ? 0 : 1;
      else found.push_back(after[at]), expected.push_back(value(at, element));
    });
    return touched > 0 ? infinity : relative_error(found, expected) / Method::template bound<K>;
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

template <class F>
void for_transpositions(F f) {
  for (bool const a : {false, true})
    for (bool const b : {false, true}) {
      CAPTURE(a);
      CAPTURE(b);
      f(a, b);
    }
}

/// Both methods, plain and with all that a problem may have.
template <class K>
void check_size(sizes s) {
  CAPTURE(s.m);
  CAPTURE(s.n);
  CAPTURE(s.k);
  for_transpositions([&](bool trans_a, bool trans_b) {
    trial<K> plain(s, {.trans_a = trans_a, .trans_b = trans_b});
    CHECK(plain.error(blas) <= 1);
    CHECK(plain.error(own) <= 1);
    trial<K> full(s, {.trans_a = trans_a, .trans_b = trans_b, .slack = 3, .shift = 1, .alpha = -0.75, .beta = 0.5});
    CHECK(full.error(blas) <= 1);
    CHECK(full.error(own) <= 1);
  });
}

}  // namespace

TEST_CASE_TEMPLATE("Products of odd sizes, in every transposition, with strides, alpha and beta", K, in_double, strict, rounded, halves,
                   widened) {
  for (sizes const s : {sizes{1, 1, 1}, {3, 17, 49}, {17, 3, 1}, {49, 49, 17}, {1, 197, 49}, {196, 1, 17}, {17, 196, 3}, {197, 49, 196},
                        {131, 97, 65}, {49, 17, 197}})
    check_size<K>(s);
}

TEST_CASE_TEMPLATE("Products whose rows take whole accesses", K, in_double, strict, rounded, halves, widened) {
  for (sizes const s : {sizes{128, 96, 64}, {64, 192, 96}, {136, 104, 72}, {264, 136, 32}, {8, 8, 8}, {72, 200, 392}}) check_size<K>(s);
  for_transpositions([&](bool trans_a, bool trans_b) {
    // Whole rows that end within an access, and aligned rows from an address that is not.
    trial<K> part({133, 99, 45}, {.trans_a = trans_a, .trans_b = trans_b});
    CHECK(part.error(own) <= 1);
    trial<K> moved({136, 104, 72}, {.trans_a = trans_a, .trans_b = trans_b, .shift = 1});
    CHECK(moved.error(own) <= 1);
    CHECK(moved.error(blas) <= 1);
    trial<K> apart({132, 92, 44}, {.trans_a = trans_a, .trans_b = trans_b, .slack = 4});
    CHECK(apart.error(own) <= 1);
  });
}

TEST_CASE_TEMPLATE("Batches of products", K, in_double, strict, rounded, halves, widened) {
  for_transpositions([&](bool trans_a, bool trans_b) {
    for (bool const shared : {false, true}) {
      trial<K> odd({49, 17, 33}, {.trans_a = trans_a, .trans_b = trans_b, .slack = 1, .batch = 3, .shared_b = shared, .beta = 1});
      CHECK(odd.error(blas) <= 1);
      CHECK(odd.error(own) <= 1);
      trial<K> even({72, 104, 40}, {.trans_a = trans_a, .trans_b = trans_b, .batch = 4, .shared_b = shared, .alpha = 2});
      CHECK(even.error(blas) <= 1);
      CHECK(even.error(own) <= 1);
    }
  });
}

TEST_CASE_TEMPLATE("Products that are summed in parts", K, in_double, strict, rounded, halves, widened) {
  for (sizes const s : {sizes{96, 64, 6272}, {17, 33, 5001}, {5, 104, 12000}})
    for_transpositions([&](bool trans_a, bool trans_b) {
      trial<K> t(s, {.trans_a = trans_a, .trans_b = trans_b, .alpha = 0.5, .beta = 1});
      CHECK(t.error(own) <= 1);
      CHECK(t.error(blas) <= 1);
      CHECK(same_bits(t.run(own), t.run(own)));
      CHECK(same_bits(t.run(blas), t.run(blas)));
    });
  trial<K> batch({40, 24, 3000}, {.trans_a = true, .slack = 1, .batch = 2});
  CHECK(batch.error(own) <= 1);
}

TEST_CASE_TEMPLATE("Products of small integers are exact", K, in_double, strict, rounded, halves, widened) {
  for (sizes const s : {sizes{197, 49, 17}, {136, 200, 96}, {3, 17, 196}, {96, 48, 3136}})
    for_transpositions([&](bool trans_a, bool trans_b) {
      trial<K> t(s, {.trans_a = trans_a, .trans_b = trans_b, .integers = true, .beta = 1});
      CHECK(t.differences(blas) == 0);
      CHECK(t.differences(own) == 0);
    });
}

TEST_CASE_TEMPLATE("Repeated products have the same bits", K, in_double, strict, rounded, halves, widened) {
  for_transpositions([&](bool trans_a, bool trans_b) {
    trial<K> t({784, 192, 196}, {.trans_a = trans_a, .trans_b = trans_b});
    CHECK(t.error(blas) <= 1);
    CHECK(t.error(own) <= 1);
    CHECK(same_bits(t.run(blas), t.run(blas)));
    CHECK(same_bits(t.run(own), t.run(own)));
  });
}

namespace {

/// Every tile by itself, on shapes with one and with several of them.
template <class K, class... Tiles>
void check_tiles(gemm_cuda::tile_list<Tiles...>) {
  for (sizes const s : {sizes{300, 264, 160}, {129, 97, 33}, {128, 96, 224}})
    for_transpositions([&](bool trans_a, bool trans_b) {
      trial<K> plain(s, {.trans_a = trans_a, .trans_b = trans_b, .beta = 1}), apart(s, {.trans_a = trans_a, .trans_b = trans_b, .slack = 5});
      for (double const error : {plain.error(by_tile<Tiles>{})..., apart.error(by_tile<Tiles>{})...}) CHECK(error <= 1);
      CHECK((same_bits(plain.run(by_tile<Tiles>{}), plain.run(own)) && ...));  // k is summed in one order
    });
}

template <class K>
void check_empty(auto const& by) {
  trial<K> zeros({5, 50, 0}, {.slack = 2}), scaled({5, 50, 0}, {.slack = 2, .beta = 0.5});
  CHECK(zeros.differences(by) == 0);
  CHECK(scaled.differences(by) == 0);
  trial<K> untouched({5, 48, 7}, {.trans_b = true, .alpha = 0, .beta = 1});
  CHECK(untouched.differences(by) == 0);
  for (sizes const s : {sizes{0, 4, 3}, {4, 0, 3}}) CHECK(trial<K>(s, {.slack = 1, .beta = 1}).differences(by) == 0);
  gemm_problem<typename K::operand, typename K::result> p{4, 4, 4, nullptr, 4, false, nullptr, 4, false, nullptr, 4};
  p.batch = 0;
  by(basic_cuda<K::arithmetic>{}, p);
}

}  // namespace

TEST_CASE_TEMPLATE("Every tile of the library's own kernels", K, in_double, strict, rounded, halves, widened) {
  check_tiles<K>(gemm_cuda::all_tiles<K::arithmetic, typename K::operand>{});
}

TEST_CASE_TEMPLATE("Empty products", K, in_double, strict, rounded, halves, widened) {
  check_empty<K>(blas);
  check_empty<K>(own);
}

TEST_CASE("An epilogue on the host is refused") {
  trial<strict> t({4, 4, 4}, {});
  auto p = t.problem(nullptr);
  p.epilogue.apply = [](void const*, std::size_t, std::size_t, std::size_t, std::size_t, float*, std::size_t) {};
  basic_cuda<precision::f32> const device;
  CHECK_THROWS_AS(gemm(device, p), dvla::error);
  CHECK_THROWS_AS(gemm_own(device, p), dvla::error);
  CHECK_THROWS_AS(gemm_with(device, p, store_biased<float>{nullptr, 4}), dvla::error);
  p = t.problem(nullptr);
  p.beta = 1;
  CHECK_THROWS_AS(gemm_with(device, p, store_biased<float>{nullptr, 4}), dvla::error);
}

namespace {

/// Counts how often each element is finished, in packets or one by one.
struct count_calls {
  int* calls;
  std::size_t columns;
  bool packets;

  template <int N>
  [[nodiscard]] bool takes_packets() const {
    return packets;
  }
  template <int N, class A>
  __device__ void finish(std::size_t row, std::size_t column, packet<A, N> const&) const {
    for (int i = 0; i < N; ++i) ++calls[row * columns + column + static_cast<std::size_t>(i)];
  }
};

/// An epilogue's problem: its product, in double, and matrices of the product's size.
template <class K>
struct completed {
  using T = typename K::operand;
  using A = typename K::A;
  std::size_t rows, columns;
  trial<K> product;
  std::vector<A> bias;
  std::vector<T> x;

  completed(sizes s, layout l)
      : rows(l.batch * s.m), columns(s.n), product(s, l), bias(normal_numbers<A>(s.n, 4)), x(normal_numbers<T>(rows * s.n, 5)) {}

  template <class Epilogue>
  void run(Epilogue const& epilogue) const {
    gemm_with(basic_cuda<K::arithmetic>{}, product.problem(nullptr), epilogue);
  }
  /// The matrix of f(row, column, element of the product, number of the element).
  template <class F>
  [[nodiscard]] std::vector<double> each(F f) const {
    std::vector<double> out(rows * columns);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = f(i / columns, i % columns, product.product()[i], i);
    return out;
  }
};

double normal_distribution(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }
double gelu_of(double z) { return z * normal_distribution(z); }
double gelu_slope(double z) { return normal_distribution(z) + z * std::exp(-z * z / 2) / std::sqrt(2 * std::acos(-1.0)); }

/// Shapes with whole packets and without, with several tiles, with parts of k, and in a batch.
template <class K, class Check>
void for_products(Check check) {
  for (sizes const s : {sizes{197, 104, 96}, {49, 17, 33}, {136, 200, 64}, {1, 3, 1}, {40, 96, 4096}}) {
    CAPTURE(s.m);
    for (bool const trans_b : {false, true}) {
      CAPTURE(trans_b);
      check(completed<K>(s, {.trans_b = trans_b}));
    }
  }
  check(completed<K>({40, 24, 56}, {.trans_a = true, .batch = 3}));
  check(completed<K>({17, 49, 3}, {.trans_a = true, .trans_b = true, .alpha = 2}));
  check(completed<K>({9, 16, 0}, {}));
}

/// Rows of a sample where every third of all samples is dropped.
constexpr std::size_t sample = 7;

}  // namespace

TEST_CASE_TEMPLATE("An epilogue gets every element once", K, in_double, strict, rounded, halves) {
  for_products<K>([](auto const& c) {
    for (bool const packets : {false, true}) {
      device_buffer<int> calls(std::vector<int>(c.rows * c.columns, 0));
      c.run(count_calls{calls.data(), c.columns, packets});
      CHECK(calls.get() == std::vector<int>(c.rows * c.columns, 1));
      CHECK(calls.intact());
    }
  });
}

TEST_CASE_TEMPLATE("Products with a bias, and with a gelu", K, in_double, strict, rounded, halves) {
  using T = typename K::operand;
  for_products<K>([](auto const& c) {
    device_buffer<typename K::A> bias(c.bias);
    auto const scale = [&] { return c.product.problem(nullptr).alpha; }();
    auto const z_expected = c.each([&](auto, std::size_t j, double sum, auto) { return scale * sum + c.bias[j]; });
    auto const y_expected = c.each([&](auto, auto, double, std::size_t i) { return gelu_of(z_expected[i]); });
    for (std::size_t const shift : {0, 1}) {
      std::size_t const size = c.rows * c.columns;
      device_buffer<T> biased(size + shift), z(size + shift), y(size + shift), only(size);
      auto const part = [&](auto const& buffer) {
        auto const all = buffer.get();
        return buffer.intact() ? std::vector<T>(all.begin() + static_cast<std::ptrdiff_t>(shift), all.end()) : std::vector<T>();
      };
      c.run(store_biased<T>{biased.data() + shift, c.columns, bias.data()});
      c.run(store_gelu<T>{z.data() + shift, y.data() + shift, c.columns, bias.data()});
      c.run(store_gelu<T>{nullptr, only.data(), c.columns, bias.data()});
      CHECK(relative_error(part(biased), z_expected) <= K::bound);
      CHECK(same_bits(part(z), part(biased)));
      CHECK(relative_error(part(y), y_expected) <= K::bound);
      CHECK(same_bits(part(y), only.get()));
      c.run(store_gelu<T>{z.data() + shift, nullptr, c.columns, nullptr});
      CHECK(relative_error(part(z), c.each([&](auto, auto, double sum, auto) { return scale * sum; })) <= K::bound);
    }
  });
}

TEST_CASE_TEMPLATE("Products added to a residual, with samples dropped", K, in_double, strict, rounded, halves) {
  using T = typename K::operand;
  using A = typename K::A;
  for_products<K>([](auto const& c) {
    std::vector<A> kept((c.rows + sample - 1) / sample);
    for (std::size_t i = 0; i < kept.size(); ++i) kept[i] = i % 3 == 1 ? A(0) : A(1.25);
    device_buffer<A> bias(c.bias), on_kept(kept);
    device_buffer<T> x(c.x), y(c.x.size());
    A const scale = c.product.problem(nullptr).alpha;
    c.run(store_residual<T>{y.data(), x.data(), c.columns, bias.data(), on_kept.data(), kernels::detail::divisor(sample)});
    CHECK(y.intact());
    CHECK(relative_error(y.get(), c.each([&](std::size_t row, std::size_t j, double sum, std::size_t i) {
      return as_double(c.x[i]) + kept[row / sample] * (scale * sum + c.bias[j]);
    })) <= K::bound);
    c.run(store_residual<T>{x.data(), x.data(), c.columns});  // in place
    CHECK(x.intact());
    CHECK(relative_error(x.get(), c.each([&](auto, auto, double sum, std::size_t i) { return as_double(c.x[i]) + scale * sum; })) <= K::bound);
  });
}

TEST_CASE_TEMPLATE("Products through the slope of a gelu", K, in_double, strict, rounded, halves) {
  using T = typename K::operand;
  for_products<K>([](auto const& c) {
    device_buffer<T> z(c.x), d(c.x.size());
    auto const scale = c.product.problem(nullptr).alpha;
    auto const expected = c.each([&](auto, auto, double sum, std::size_t i) { return scale * sum * gelu_slope(as_double(c.x[i])); });
    c.run(store_gelu_gradient<T>{d.data(), z.data(), c.columns});
    CHECK(d.intact());
    CHECK(relative_error(d.get(), expected) <= K::bound);
    c.run(store_gelu_gradient<T>{z.data(), z.data(), c.columns});  // in place
    CHECK(same_bits(z.get(), d.get()));
  });
}
