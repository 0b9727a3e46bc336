// Products that end in an epilogue: every one against what it is composed of, and every element finished once.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <vector>

#include <dvla/kernels/cuda/gemm_evaluate.cuh>

#include "device_buffer.hpp"
#include "gemm_trial.hpp"

namespace {

using namespace products;

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
      c.run(store_gelu<T, true, true>{y.data() + shift, c.columns, z.data() + shift, bias.data()});
      c.run(store_gelu<T, false, true>{only.data(), c.columns, nullptr, bias.data()});
      CHECK(relative_error(part(biased), z_expected) <= K::bound);
      CHECK(same_bits(part(z), part(biased)));
      CHECK(relative_error(part(y), y_expected) <= K::bound);
      CHECK(same_bits(part(y), only.get()));
      c.run(store_gelu<T, true, false>{y.data() + shift, c.columns, z.data() + shift});
      CHECK(relative_error(part(z), c.each([&](auto, auto, double sum, auto) { return scale * sum; })) <= K::bound);
      CHECK(relative_error(part(y), c.each([&](auto, auto, double sum, auto) { return gelu_of(scale * sum); })) <= K::bound);
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
    auto const plain = c.each([&](auto, auto, double sum, std::size_t i) { return as_double(c.x[i]) + scale * sum; });
    CHECK(relative_error(x.get(), plain) <= K::bound);
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

/// Few rows and so many that a team takes some three times, columns of one block and of several, k of one stage and of many.
template <class K, class Check>
void for_stationary_products(Check check) {
  for (sizes const s : {sizes{1, 48, 8}, sizes{33, 96, 384}, sizes{197, 240, 200}, sizes{5000, 1536, 16}}) {
    if (small_tests() && s.m > 1000) continue;
    CAPTURE(s.m);
    check(completed<K>(s, {.trans_b = true}), std::true_type{});
    check(completed<K>(s, {.trans_b = false, .alpha = 2}), std::false_type{});
  }
}

TEST_CASE_TEMPLATE("Products whose right operand stays in shared memory", K, rounded, halves) {
  using T = typename K::operand;
  basic_cuda<K::arithmetic> const device;
  for_stationary_products<K>([&](auto const& c, auto trans_b) {
    auto const problem = c.product.problem(nullptr);
    auto const run = [&](auto const& epilogue) {
      REQUIRE(gemm_cuda::can_be_stationary<T>(problem, *device.queue, epilogue));
      gemm_cuda::multiply_stationary<decltype(trans_b)::value>(device, problem, epilogue);
    };
    device_buffer<int> calls(std::vector<int>(c.rows * c.columns, 0));
    run(count_calls{calls.data(), c.columns, true});
    CHECK(calls.get() == std::vector<int>(c.rows * c.columns, 1));
    CHECK(calls.intact());

    device_buffer<typename K::A> bias(c.bias);
    device_buffer<T> z(c.x.size()), y(c.x.size()), x(c.x), d(c.x.size());
    auto const sum_of = [&](std::size_t j, double sum) { return problem.alpha * sum + c.bias[j]; };
    run(store_gelu<T, true, true>{y.data(), c.columns, z.data(), bias.data()});
    CHECK(z.intact());
    CHECK(y.intact());
    CHECK(relative_error(z.get(), c.each([&](auto, std::size_t j, double sum, auto) { return sum_of(j, sum); })) <= K::bound);
    CHECK(relative_error(y.get(), c.each([&](auto, std::size_t j, double sum, auto) { return gelu_of(sum_of(j, sum)); })) <= K::bound);
    run(store_gelu_gradient<T>{d.data(), x.data(), c.columns});
    CHECK(d.intact());
    CHECK(relative_error(d.get(), c.each([&](auto, auto, double sum, std::size_t i) {
      return problem.alpha * sum * gelu_slope(as_double(c.x[i]));
    })) <= K::bound);
    run(store_residual<T>{x.data(), x.data(), c.columns});  // in place
    CHECK(x.intact());
    CHECK(relative_error(x.get(), c.each([&](auto, auto, double sum, std::size_t i) {
      return as_double(c.x[i]) + problem.alpha * sum;
    })) <= K::bound);
  });
}

TEST_CASE_TEMPLATE("Integers are multiplied exactly by a right operand that stays", K, rounded, halves) {
  using T = typename K::operand;
  for (bool const trans_b : {false, true}) {
    completed<K> const c({1000, 96, 24}, {.trans_b = trans_b, .integers = true});
    device_buffer<T> y(c.x.size());
    basic_cuda<K::arithmetic> const device;
    store_biased<T> const epilogue{y.data(), c.columns};
    if (trans_b) gemm_cuda::multiply_stationary<true>(device, c.product.problem(nullptr), epilogue);
    else gemm_cuda::multiply_stationary<false>(device, c.product.problem(nullptr), epilogue);
    CHECK(y.intact());
    auto const found = y.get();
    std::size_t differences = 0;
    for (std::size_t i = 0; i < found.size(); ++i)
      differences += as_double(found[i]) == as_double(static_cast<T>(static_cast<float>(c.product.product()[i]))) ? 0 : 1;
    CHECK(differences == 0);
  }
}

TEST_CASE("What cannot stay in shared memory is known") {
  basic_cuda<precision::bf16> const device;
  completed<halves> const c({100, 96, 64}, {});
  store_biased<bfloat16> const epilogue{nullptr, 96};
  auto const can = [&](auto change) {
    auto problem = c.product.problem(nullptr);
    change(problem);
    return gemm_cuda::can_be_stationary<bfloat16>(problem, *device.queue, epilogue);
  };
  CHECK(can([](auto&) {}));
  CHECK(!can([](auto& p) { p.trans_a = true; }));
  CHECK(!can([](auto& p) { p.batch = 2; }));
  CHECK(!can([](auto& p) { p.n = 90; }));
  CHECK(!can([](auto& p) { p.lda = 65; }));
  CHECK(!can([](auto& p) { p.b += 1; }));
  CHECK(!can([](auto& p) { p.k = 100000; }));
  CHECK(!gemm_cuda::should_be_stationary<bfloat16>(c.product.problem(nullptr), *device.queue, epilogue));
}

/// As models meet them: large enough to be done at once, and small.
TEST_CASE_TEMPLATE("A gelu behind a product, and its derivative, at every size", K, in_double, strict, rounded, halves) {
  using T = typename K::operand;
  using A = typename K::A;
  using rows = gemm_cuda::row_elements<T>;
  using row = gemm_cuda::row_elements<A>;
  basic_cuda<K::arithmetic> const device;
  for (sizes const s : {sizes{4200, 1536, 16}, sizes{49, 96, 24}, sizes{17, 33, 7}}) {
    if (small_tests() && s.m > 1000) continue;
    CAPTURE(s.m);
    completed<K> const c(s, {.trans_b = true}), back(s, {.trans_b = false});
    device_buffer<A> bias(c.bias);
    device_buffer<T> z(c.x.size()), y(c.x.size()), only(c.x.size()), x(c.x), d(c.x.size());
    std::array<std::ptrdiff_t, 2> const matrix{static_cast<std::ptrdiff_t>(c.columns), 1}, repeated{0, 1};
    auto const evaluate_to = [&](T* sums, T* to, bool biased) {
      auto const problem = c.product.problem(sums);
      bound::target<T, bound::inner::unit, 2> const target{to, matrix};
      using sum = bound::operation<op::add, rows, row>;
      if (biased)
        gemm_evaluate(device, problem, bound::operation<op::gelu, sum>{{sum{{rows{sums, matrix}, row{bias.data(), repeated}}}}}, target);
      else
        gemm_evaluate(device, problem, bound::operation<op::gelu, rows>{{rows{sums, matrix}}}, target);
    };
    auto const plain = c.each([&](auto, auto, double sum, auto) { return sum; });
    auto const gelu = c.each([&](auto, auto, double sum, auto) { return gelu_of(sum); });
    auto const biased_gelu = c.each([&](auto, std::size_t j, double sum, auto) { return gelu_of(sum + c.bias[j]); });
    // In bfloat16 a pass reads sums that were rounded.
    double const bound = std::is_same_v<T, bfloat16> ? 2 * K::bound : K::bound;
    evaluate_to(z.data(), y.data(), false);
    CHECK(z.intact());
    CHECK(y.intact());
    CHECK(relative_error(z.get(), plain) <= K::blas_bound);
    CHECK(relative_error(y.get(), gelu) <= std::max(bound, K::blas_bound));
    evaluate_to(only.data(), only.data(), false);
    CHECK(only.intact());
    CHECK(relative_error(only.get(), gelu) <= std::max(bound, K::blas_bound));
    evaluate_to(z.data(), y.data(), true);
    CHECK(relative_error(y.get(), biased_gelu) <= std::max(bound, K::blas_bound));
    evaluate_to(only.data(), only.data(), true);
    CHECK(relative_error(only.get(), biased_gelu) <= std::max(bound, K::blas_bound));

    auto problem = back.product.problem(nullptr);
    gemm_gelu_gradient(device, problem, static_cast<T const*>(x.data()), d.data());
    CHECK(d.intact());
    CHECK(relative_error(d.get(), back.each([&](auto, auto, double sum, std::size_t i) {
      return sum * gelu_slope(as_double(back.x[i]));
    })) <= std::max(bound, K::blas_bound));
  }
}
