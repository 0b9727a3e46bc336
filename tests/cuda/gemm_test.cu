// Products on the GPU, by cuBLASLt and by the library's own kernels, against sums in double: odd sizes, every transposition, strides,
// batches, parts of k.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include <dvla/kernels/cuda/gemm.cuh>

#include "device_buffer.hpp"
#include "gemm_trial.hpp"

namespace {

using namespace products;

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
/// By one of cuBLASLt's algorithms that are taken to give the same bits; nothing where there are fewer.
struct by_algorithm {
  int number, *count;
  template <precision P, class T, class R>
  void operator()(basic_cuda<P> const& device, gemm_problem<T, R> const& p) const {
    gemm_cuda::blas_plan plan = gemm_cuda::describe_product<P>(p);
    auto const algorithms = gemm_cuda::algorithms_of<P, T>(*device.queue, plan, std::array{16u, 16u, 16u});
    if (number < algorithms.size()) gemm_cuda::run_product(*device.queue, plan, p, algorithms[number], p.c);
    *count = algorithms.size();
  }
};
constexpr by_blas blas;
constexpr by_own_kernels own;

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

TEST_CASE("The algorithms that are timed give the same bits") {
  int most = 0;
  for (sizes const s : {sizes{784, 384, 1152}, {3136, 192, 576}, {3136, 96, 192}, {200, 1536, 384}})
    for_transpositions([&](bool trans_a, bool trans_b) {
      trial<rounded> const t(s, {.trans_a = trans_a, .trans_b = trans_b, .beta = s.n == 192 ? 1.0 : 0.0});
      int count = 0;
      auto const first = t.run(by_algorithm{0, &count});
      for (int i = 1; i < count; ++i) CHECK(same_bits(t.run(by_algorithm{i, &count}), first));
      most = std::max(most, count);
    });
  CHECK(most > 1);
}

namespace {

/// Every tile by itself, on shapes with one and with several of them.
template <class K, class... Tiles>
void check_tiles(gemm_cuda::tile_list<Tiles...>) {
  for (sizes const s : {sizes{300, 264, 160}, {129, 97, 33}, {128, 96, 224}})
    for_transpositions([&](bool trans_a, bool trans_b) {
      trial<K> plain(s, {.trans_a = trans_a, .trans_b = trans_b, .beta = 1});
      trial<K> apart(s, {.trans_a = trans_a, .trans_b = trans_b, .slack = 5});
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

TEST_CASE_TEMPLATE("What is added may lie apart from the result", K, in_double, strict, rounded, halves, widened) {
  using R = typename K::result;
  for (sizes const s : {sizes{49, 17, 33}, {72, 104, 40}}) {
    trial<K> t(s, {.integers = true});
    auto const added = small_integers<R>(s.m * s.n, 4);
    std::vector<R> expected(s.m * s.n);
    for (std::size_t i = 0; i < expected.size(); ++i)
      expected[i] = static_cast<R>(static_cast<arithmetic_t<R>>(t.product()[i] + 2 * as_double(added[i])));
    auto const check = [&](auto const& by) {
      device_buffer<R> c(s.m * s.n), addend(added);
      auto p = t.problem(c.data());
      p.addend = addend.data(), p.beta = 2;
      by(basic_cuda<K::arithmetic>{}, p);
      CHECK(same_bits(c.get(), expected));
      CHECK(c.intact());
    };
    check(blas);
    check(own);
  }
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
