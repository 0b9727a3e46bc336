#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/autodiff/pooling.hpp>
#include <dvla/core/thread_pool.hpp>

using namespace dvla;

namespace {

template <class T, class S>
tensor<T, S> random_tensor(S const& s) {
  tensor<T, S> t(s);
  random_stream random(3, draw::test, 0, 0);
  for (std::size_t i = 0; i < t.size(); ++i) t.data()[i] = static_cast<T>(random.uniform(-1, 1));
  return t;
}

}  // namespace

TEST_CASE("max-pooling takes the largest of each window and leaves out rows and columns that fill none") {
  auto const x = random_tensor<float>(shape<dyn, 7, 5, 3>(2));
  inference<> context;
  auto const y = max_pool2d<2>(context(x));
  static_assert(std::is_same_v<std::remove_cvref_t<decltype(y.shape())>, shape<dyn, 3, 2, 3>>);
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t i = 0; i < 3; ++i)
      for (std::size_t j = 0; j < 2; ++j)
        for (std::size_t c = 0; c < 3; ++c) {
          float best = -2;
          for (std::size_t k = 0; k < 4; ++k) best = std::max(best, x(b, 2 * i + k / 2, 2 * j + k % 2, c));
          CHECK(y.value()(b, i, j, c) == best);
        }
}

TEST_CASE("the gradient of max-pooling agrees with difference quotients") {
  auto x = random_tensor<double>(shape<dyn, 7, 6, 3>(2));
  CHECK(gradient_check([](auto const& v) { return max_pool2d<3>(v); }, true, x).error <= 1e-7);
  CHECK(gradient_check([](auto const& v) { return max_pool2d<2>(v) * max_pool2d<2>(v * -1.0); }, true, x).error <= 1e-6);
}

TEST_CASE("of equal elements the first gets the gradient") {
  tensor<float, shape<1, 2, 2, 1>> x;
  x.fill(4);
  tape<> t;
  auto const v = t(x);
  v.watch();
  t.backward(max_pool2d<2>(v));
  auto const g = v.gradient();
  CHECK(g.data[0] == 1);
  CHECK(g.data[1] == 0);
  CHECK(g.data[2] == 0);
  CHECK(g.data[3] == 0);
}

TEST_CASE("a NaN in the window is the result") {
  tensor<float, shape<1, 2, 2, 1>> x;
  inference<> context;
  for (std::size_t place = 0; place < 4; ++place) {
    x.fill(1);
    x.data()[place] = std::numeric_limits<float>::quiet_NaN();
    auto const y = max_pool2d<2>(context(x));
    CHECK(std::isnan(y.value().data[0]));
  }
}

TEST_CASE("max-pooling is the same for any number of threads, and too small an image is named") {
  auto const x = random_tensor<float>(shape<dyn, 9, 9, 5>(4));
  thread_pool pool(3);
  inference<> one, three(cpu{&pool});
  auto const a = max_pool2d<2>(one(x)), b = max_pool2d<2>(three(x));
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a.value().data[i] == b.value().data[i]);
  tensor<float, shape<dyn, 1, 4, 2>> const flat(std::size_t{1});
  CHECK_THROWS_WITH_AS((void)max_pool2d<2>(one(flat)), doctest::Contains("(1, 1, 4, 2) is smaller than a window of 2x2"), error);
}
