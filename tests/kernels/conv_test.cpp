// Convolution and its gradients against direct loops in double: strides, paddings, groups, maps the stride does not divide;
// outputs poisoned and guarded.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include <dvla/core/thread_pool.hpp>
#include <dvla/kernels/cpu/conv.hpp>
#include <dvla/kernels/cpu/reduce.hpp>

namespace {

using dvla::cpu;
using dvla::kernels::conv_geometry;

constexpr std::size_t guard = 64;

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

/// A sum in double with the sum of its terms' sizes, which its error is relative to.
struct sum_and_scale {
  std::vector<double> sum, scale;
  explicit sum_and_scale(std::size_t n) : sum(n, 0.0), scale(n, 1e-30) {}
  void add(std::size_t i, double term) { sum[i] += term, scale[i] += std::abs(term); }
};

std::size_t x_size(conv_geometry const& g) { return g.batch * g.height * g.width * g.in_channels; }
std::size_t y_size(conv_geometry const& g) { return g.batch * g.out_height() * g.out_width() * g.out_channels; }
std::size_t w_size(conv_geometry const& g) { return g.out_channels * g.taps(); }

/// Calls term(index in x, index in weight, index in y) for every product that the convolution sums.
template <class Term>
void for_each_term(conv_geometry const& g, Term&& term) {
  std::size_t const ig = g.group_in(), og = g.group_out();
  std::size_t y = 0;
  for (std::size_t n = 0; n < g.batch; ++n)
    for (std::size_t i = 0; i < g.out_height(); ++i)
      for (std::size_t j = 0; j < g.out_width(); ++j)
        for (std::size_t o = 0; o < g.out_channels; ++o, ++y)
          for (std::size_t r = 0; r < g.kernel_h; ++r)
            for (std::size_t s = 0; s < g.kernel_w; ++s) {
              std::size_t const row = i * g.stride + r, column = j * g.stride + s;  // in the padded image
              if (row < g.padding || row >= g.height + g.padding) continue;
              if (column < g.padding || column >= g.width + g.padding) continue;
              for (std::size_t c = 0; c < ig; ++c) {
                std::size_t const pixel = (n * g.height + row - g.padding) * g.width + column - g.padding;
                term(pixel * g.in_channels + o / og * ig + c, ((o * g.kernel_h + r) * g.kernel_w + s) * ig + c, y);
              }
            }
}

/// A NaN-filled output between guards; `start` other than NaN fills it with that.
template <class T>
struct guarded {
  std::vector<T> values;
  T start;
  explicit guarded(std::size_t n, T fill = std::numeric_limits<T>::quiet_NaN()) : values(n + 2 * guard, T(7)), start(fill) {
    std::fill_n(values.begin() + guard, n, fill);
  }
  T* data() { return values.data() + guard; }

  /// The largest error in epsilons of the sum's scale; infinite where a guard was touched or a NaN is left.
  [[nodiscard]] double worst(sum_and_scale const& expected) const {
    double worst = 0;
    std::size_t const n = expected.sum.size();
    for (std::size_t i = 0; i < guard; ++i)
      if (!(values[i] == T(7)) || !(values[n + guard + i] == T(7))) worst = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < n; ++i) {
      double const error = std::abs(values[guard + i] - expected.sum[i]) / expected.scale[i] / std::numeric_limits<T>::epsilon();
      if (!(error <= worst)) worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
    }
    return worst;
  }
};

std::vector<conv_geometry> const geometries = {
    // batch, height, width, in, out, kernel_h, kernel_w, stride, padding, groups
    {1, 1, 1, 1, 1, 1, 1, 1, 0, 1},      {2, 37, 35, 3, 16, 7, 7, 2, 3, 1},   {2, 9, 8, 48, 48, 3, 3, 1, 1, 2},
    {1, 28, 28, 72, 72, 3, 3, 1, 1, 3},  {2, 14, 13, 16, 50, 4, 4, 4, 0, 1},  {3, 7, 5, 24, 40, 2, 2, 2, 0, 1},
    {1, 21, 21, 3, 64, 3, 3, 1, 1, 1},   {2, 5, 5, 64, 64, 3, 3, 1, 1, 1},    {2, 11, 17, 17, 17, 3, 3, 1, 1, 17},
    {1, 10, 9, 6, 9, 3, 2, 3, 2, 3},     {2, 9, 9, 5, 7, 1, 1, 1, 0, 1},      {1, 9, 11, 5, 7, 1, 1, 3, 0, 1},
    {1, 12, 12, 4, 6, 5, 3, 2, 0, 2},    {1, 6, 6, 3, 4, 3, 3, 1, 4, 1},      {1, 8, 8, 12, 10, 2, 2, 2, 0, 2},
    {1, 13, 8, 2, 3, 2, 2, 4, 1, 1},     {17, 4, 4, 10, 20, 3, 3, 1, 1, 1},   {2, 3, 3, 97, 101, 3, 3, 1, 1, 1},
};

double bound(std::size_t terms) { return 4 + 0.5 * std::sqrt(static_cast<double>(terms)); }

template <class T>
struct operands {
  std::vector<T> x, w, dy, bias;
  explicit operands(conv_geometry const& g)
      : x(random_values<T>(x_size(g), 1)), w(random_values<T>(w_size(g), 2)), dy(random_values<T>(y_size(g), 3)),
        bias(random_values<T>(g.out_channels, 4)) {}
};

template <class T>
void check_forward(conv_geometry const& g, operands<T> const& in, bool with_bias) {
  sum_and_scale expected(y_size(g));
  for_each_term(g, [&](std::size_t x, std::size_t w, std::size_t y) { expected.add(y, double(in.x[x]) * in.w[w]); });
  if (with_bias)
    for (std::size_t y = 0; y < y_size(g); ++y) expected.add(y, in.bias[y % g.out_channels]);
  guarded<T> y(y_size(g));
  dvla::kernels::conv_forward(cpu{}, g, in.x.data(), in.w.data(), with_bias ? in.bias.data() : nullptr, y.data());
  CHECK(y.worst(expected) <= bound(g.taps()));
}

template <class T>
void check_backward(conv_geometry const& g, operands<T> const& in, bool accumulate) {
  sum_and_scale dx_expected(x_size(g)), dw_expected(w_size(g));
  T const start = accumulate ? T(0.5) : std::numeric_limits<T>::quiet_NaN();
  for_each_term(g, [&](std::size_t x, std::size_t w, std::size_t y) {
    dx_expected.add(x, double(in.w[w]) * in.dy[y]);
    dw_expected.add(w, double(in.x[x]) * in.dy[y]);
  });
  if (accumulate) {
    for (std::size_t i = 0; i < x_size(g); ++i) dx_expected.add(i, start);
    for (std::size_t i = 0; i < w_size(g); ++i) dw_expected.add(i, start);
  }
  guarded<T> dx(x_size(g), start), dw(w_size(g), start);
  dvla::kernels::conv_backward_input(cpu{}, g, in.dy.data(), in.w.data(), dx.data(), accumulate);
  CHECK(dx.worst(dx_expected) <= bound(g.group_out() * g.kernel_h * g.kernel_w));
  dvla::kernels::conv_backward_weight(cpu{}, g, in.x.data(), in.dy.data(), dw.data(), accumulate);
  CHECK(dw.worst(dw_expected) <= bound(g.batch * g.out_height() * g.out_width()));
}

template <class T>
void check_all_geometries() {
  for (std::size_t i = 0; i < geometries.size(); ++i) {
    CAPTURE(i);
    operands<T> const in(geometries[i]);
    for (bool flag : {false, true}) {
      check_forward(geometries[i], in, flag);
      check_backward(geometries[i], in, flag);
    }
  }
}

}  // namespace

TEST_CASE("convolution and its gradients agree with direct loops in float") { check_all_geometries<float>(); }

TEST_CASE("convolution and its gradients agree with direct loops in double") { check_all_geometries<double>(); }

TEST_CASE("a convolution of no images is empty, and its weight gradient 0") {
  conv_geometry const g{0, 8, 8, 3, 5, 3, 3, 1, 1, 1};
  std::vector<float> const w(w_size(g), 1.0f);
  std::vector<float> dw(w_size(g), 3.0f);
  float untouched = 7;
  dvla::kernels::conv_forward<float>(cpu{}, g, &untouched, w.data(), nullptr, &untouched);
  dvla::kernels::conv_backward_input<float>(cpu{}, g, &untouched, w.data(), &untouched, false);
  CHECK(untouched == 7);
  dvla::kernels::conv_backward_weight<float>(cpu{}, g, &untouched, &untouched, dw.data(), true);
  CHECK(dw == std::vector<float>(w_size(g), 3.0f));
  dvla::kernels::conv_backward_weight<float>(cpu{}, g, &untouched, &untouched, dw.data(), false);
  CHECK(dw == std::vector<float>(w_size(g), 0.0f));
}

TEST_CASE("convolution and its gradients give the same bits on one thread and on two") {
  dvla::thread_pool pool(2);
  for (conv_geometry g : {conv_geometry{5, 28, 28, 48, 48, 3, 3, 1, 1, 2}, conv_geometry{3, 30, 30, 3, 16, 7, 7, 2, 3, 1},
                          conv_geometry{4, 9, 9, 200, 300, 2, 2, 2, 0, 1}}) {
    operands<float> const in(g);
    auto const all = [&](cpu const& device) {
      std::vector<float> out(y_size(g) + x_size(g) + w_size(g), -1.0f);
      dvla::kernels::conv_forward(device, g, in.x.data(), in.w.data(), in.bias.data(), out.data());
      dvla::kernels::conv_backward_input(device, g, in.dy.data(), in.w.data(), out.data() + y_size(g), false);
      dvla::kernels::conv_backward_weight(device, g, in.x.data(), in.dy.data(), out.data() + y_size(g) + x_size(g), true);
      return out;
    };
    CHECK(all(cpu{}) == all(cpu{&pool}));
  }
}

TEST_CASE("column_sum adds up the rows, the same bits on one thread and on two") {
  dvla::thread_pool pool(2);
  for (std::size_t rows : std::vector<std::size_t>{0, 1, 3, 1000, 12545})
    for (std::size_t columns : std::vector<std::size_t>{1, 17, 96, 197}) {
      CAPTURE(rows);
      CAPTURE(columns);
      auto const x = random_values<float>(rows * columns, 5);
      sum_and_scale expected(columns);
      for (std::size_t i = 0; i < rows * columns; ++i) expected.add(i % columns, x[i]);
      guarded<float> alone(columns), together(columns), more(columns, 2.0f);
      dvla::kernels::column_sum(cpu{}, rows, columns, x.data(), alone.data(), false);
      CHECK(alone.worst(expected) <= bound(rows));
      dvla::kernels::column_sum(cpu{&pool}, rows, columns, x.data(), together.data(), false);
      CHECK(alone.values == together.values);
      for (std::size_t j = 0; j < columns; ++j) expected.add(j, 2.0);
      dvla::kernels::column_sum(cpu{}, rows, columns, x.data(), more.data(), true);
      CHECK(more.worst(expected) <= bound(rows));
    }
}
