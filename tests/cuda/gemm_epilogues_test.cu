// Products that end in an epilogue: every one against what it is composed of, and every element finished once.
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <vector>

#include <dvla/kernels/cuda/gemm_with.cuh>

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
