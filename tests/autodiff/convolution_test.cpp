// Convolutions: values against plain loops, gradients against difference quotients, with every option.
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include <dvla/autodiff/convolution.hpp>
#include <dvla/autodiff/gradient_check.hpp>

#include "support/poison.hpp"
#include "support/tensors.hpp"

namespace {

using dvla::convolution;
using dvla::convolution_options;
using dvla::dyn;
using dvla::gradient_check;
using dvla::shape;
using dvla::tensor;

constexpr double bound = 1e-7;
using images = shape<dyn, dyn, dyn, 4>;
template <std::size_t Groups>
using weights = shape<6, dyn, dyn, 4 / Groups>;

/// The largest error of the value against loops over every index.
template <convolution_options O>
double value_error(std::size_t height, std::size_t width, std::size_t kernel_height, std::size_t kernel_width) {
  auto const x = uniform_tensor<double>(images(2, height, width), 1);
  auto const w = uniform_tensor<double>(weights<O.groups>(kernel_height, kernel_width), 2);
  auto const b = uniform_tensor<double>(shape<6>{}, 3);
  dvla::inference<> context;
  poison(context);
  auto const y = convolution<O>(context(x), context(w), context(b)), plain = convolution<O>(context(x), context(w));
  double worst = y.shape()[1] == (height + 2 * O.padding - kernel_height) / O.stride + 1 ? 0 : HUGE_VAL;
  std::size_t const in_group = 4 / O.groups, out_group = 6 / O.groups;
  for (std::size_t n = 0; n < 2; ++n)
    for (std::size_t i = 0; i < y.shape()[1]; ++i)
      for (std::size_t j = 0; j < y.shape()[2]; ++j)
        for (std::size_t o = 0; o < 6; ++o) {
          double total = 0;
          for (std::size_t p = 0; p < kernel_height; ++p)
            for (std::size_t q = 0; q < kernel_width; ++q)
              for (std::size_t c = 0; c < in_group; ++c) {
                std::size_t const row = i * O.stride + p, column = j * O.stride + q;
                if (row < O.padding || column < O.padding || row >= height + O.padding || column >= width + O.padding) continue;
                total += x(n, row - O.padding, column - O.padding, o / out_group * in_group + c) * w(o, p, q, c);
              }
          worst = std::max({worst, std::abs(plain.value()(n, i, j, o) - total), std::abs(y.value()(n, i, j, o) - total - b(o))});
        }
  return worst;
}

template <convolution_options O>
double gradient_error(std::size_t side, std::size_t kernel) {
  auto x = uniform_tensor<double>(images(2, side, side + 1), 1);
  auto w = uniform_tensor<double>(weights<O.groups>(kernel, kernel), 2);
  auto b = uniform_tensor<double>(shape<6>{}, 3);
  return gradient_check([](auto const& v, auto const& u, auto const& c) { return convolution<O>(v, u, c); }, false, x, w, b).error;
}

}  // namespace

TEST_CASE("Convolutions with stride, padding, groups and bias have the values of loops") {
  CHECK(value_error<convolution_options{}>(5, 7, 3, 2) <= 1e-13);
  CHECK(value_error<convolution_options{.padding = 1}>(5, 7, 3, 3) <= 1e-13);
  CHECK(value_error<convolution_options{.stride = 2, .padding = 3}>(9, 8, 7, 7) <= 1e-13);
  CHECK(value_error<convolution_options{.stride = 3}>(10, 8, 2, 2) <= 1e-13);
  CHECK(value_error<convolution_options{.stride = 2}>(5, 7, 2, 2) <= 1e-13);
  CHECK(value_error<convolution_options{.padding = 1, .groups = 2}>(6, 5, 3, 3) <= 1e-13);
  CHECK(value_error<convolution_options{}>(1, 1, 1, 1) <= 1e-13);
  CHECK(value_error<convolution_options{.padding = 2}>(2, 2, 5, 5) <= 1e-13);
}

TEST_CASE("Convolutions have the gradients of difference quotients in image, weight and bias") {
  CHECK(gradient_error<convolution_options{}>(4, 3) <= bound);
  CHECK(gradient_error<convolution_options{.padding = 1, .groups = 2}>(4, 3) <= bound);
  CHECK(gradient_error<convolution_options{.stride = 2}>(5, 2) <= bound);
  CHECK(gradient_error<convolution_options{.stride = 2, .padding = 3}>(5, 7) <= bound);
}

TEST_CASE("Any of image, weight and bias may be constant") {
  auto const x = uniform_tensor<double>(images(2, 5, 5), 1);
  auto const w = uniform_tensor<double>(weights<1>(3, 3), 2);
  auto const b = uniform_tensor<double>(shape<6>{}, 3);
  std::vector<double> all[3];
  for (unsigned watched = 7; watched > 0; --watched) {
    dvla::tape<> t;
    poison(t);
    auto const vx = t(x);
    auto const vw = t(w);
    auto const vb = t(b);
    if (watched & 1) vx.watch();
    if (watched & 2) vw.watch();
    if (watched & 4) vb.watch();
    t.backward(convolution<convolution_options{.padding = 1}>(vx, vw, vb));
    auto const same = [&](unsigned i, auto const& v) {
      if (!(watched >> i & 1)) return !v.wants_gradient();
      std::vector<double> const g(v.gradient().data, v.gradient().data + v.size());
      if (watched == 7) all[i] = g;
      return g == all[i];
    };
    CHECK(same(0, vx));
    CHECK(same(1, vw));
    CHECK(same(2, vb));
  }
}

TEST_CASE("Images and weights that do not fit are named") {
  dvla::inference<> context;
  tensor<double, images> const x(images(1, 4, 4));
  tensor<double, shape<6, dyn, dyn, dyn>> const w(3, 3, 3), large(5, 5, 4);
  tensor<double, shape<dyn>> const bias(5);
  CHECK(contains(message_of([&] { (void)convolution<convolution_options{}>(context(x), context(w)); }), "(1, 4, 4, 4), weight (6, 3, 3, 3)"));
  CHECK(contains(message_of([&] { (void)convolution<convolution_options{}>(context(x), context(large)); }), "is smaller than the kernel"));
  tensor<double, weights<1>> const fits(3, 3);
  CHECK(contains(message_of([&] { (void)convolution<convolution_options{}>(context(x), context(fits), context(bias)); }), "must be equal"));
}

TEST_CASE("The GELU of a convolution is that of its result, with its gradients") {
  auto image = uniform_tensor<double>(shape<dyn, 5, 4, 4>(2), 1);
  auto weight = uniform_tensor<double>(shape<6, 3, 3, 2>{}, 2);
  static constexpr dvla::convolution_options grouped{.padding = 1, .groups = 2};
  auto const fused = [](auto const& x, auto const& w) { return dvla::convolution_gelu<grouped>(x, w); };
  CHECK(dvla::gradient_check(fused, false, image, weight).error <= 1e-7);
  dvla::inference<> context;
  auto const found = fused(context(image), context(weight));
  auto const expected = evaluate(gelu(dvla::convolution<grouped>(context(image), context(weight))));
  CHECK(same_bits(found.size(), found.value().data, expected.value().data));
}
