// Batch and layer normalisation against plain formulas in double.
#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <vector>

#include <dvla/core/thread_pool.hpp>
#include <dvla/kernels/cpu/layer_norm.hpp>
#include <dvla/kernels/cpu/norm.hpp>
#include <kernels/reference.hpp>

using namespace dvla;
using namespace dvla::kernels;

namespace {

constexpr std::size_t odd_sizes[] = {1, 3, 17, 49, 196, 197};

/// Moments of `count` elements `stride` apart, summed in long double.
struct moments {
  double mean, variance;

  template <class T>
  moments(T const* x, std::size_t count, std::size_t stride) {
    long double sum = 0, squares = 0;
    for (std::size_t i = 0; i < count; ++i) sum += x[i * stride];
    for (std::size_t i = 0; i < count; ++i) squares += std::pow(x[i * stride] - sum / count, 2);
    mean = double(sum / count);
    variance = double(squares / count);
  }
};

/// Inputs, moments and poisoned results of one normalisation. Groups are the channels, or the rows of layer normalisation.
template <class T>
struct norm_case {
  std::size_t rows, columns;
  guarded<T> x, dy, weight, bias, mean, inverse_std, y, dx, dweight, dbias;

  norm_case(std::size_t r, std::size_t c, bool over_rows, double center = 0.7)
      : rows(r),
        columns(c),
        x(random<T>(r * c, 1, 1.5, center)),
        dy(random<T>(r * c, 2)),
        weight(random<T>(c, 3)),
        bias(random<T>(c, 4)),
        mean(poisoned<T>(over_rows ? c : r)),
        inverse_std(poisoned<T>(over_rows ? c : r)),
        y(poisoned<T>(r * c)),
        dx(poisoned<T>(r * c)),
        dweight(poisoned<T>(c)),
        dbias(poisoned<T>(c)) {}

  [[nodiscard]] bool intact() const {
    return mean.intact() && inverse_std.intact() && y.intact() && dx.intact() && dweight.intact() && dbias.intact();
  }
};

constexpr double eps = 1e-5;

template <class T>
void batch_norm(norm_case<T>& c, cpu const& device, bool training, bool accumulate) {
  if (!accumulate) {
    auto variance = poisoned<T>(c.columns);
    batch_norm_statistics(device, c.rows, c.columns, c.x.data(), c.mean.data(), variance.data());
    for (std::size_t i = 0; i < c.columns; ++i) c.inverse_std.data()[i] = T(1 / std::sqrt(double(variance.data()[i]) + eps));
    CHECK(variance.intact());
  }
  batch_norm_apply(device, c.rows, c.columns, c.x.data(), c.mean.data(), c.inverse_std.data(), c.weight.data(), c.bias.data(),
                   c.y.data());
  batch_norm_backward(device, c.rows, c.columns, c.x.data(), c.dy.data(), c.mean.data(), c.inverse_std.data(), c.weight.data(),
                      c.dx.data(), c.dweight.data(), c.dbias.data(), accumulate, accumulate, training);
}

template <class T>
void layer_norm(norm_case<T>& c, cpu const& device, bool accumulate) {
  layer_norm_forward(device, c.rows, c.columns, T(eps), c.x.data(), c.weight.data(), c.bias.data(), c.y.data(), c.mean.data(),
                     c.inverse_std.data());
  layer_norm_backward(device, c.rows, c.columns, c.x.data(), c.dy.data(), c.mean.data(), c.inverse_std.data(), c.weight.data(),
                      c.dx.data(), c.dweight.data(), c.dbias.data(), accumulate, accumulate);
}

struct reference {
  exact_sums y, dx, dweight, dbias;
};

/// Both normalisations: element i of group g lies at g * group + i * element; its weight is that of its column.
template <class T>
reference normalise_plainly(norm_case<T> const& c, bool over_rows, bool training) {
  reference r{exact_sums(c.y.size()), exact_sums(c.dx.size()), exact_sums(c.columns), exact_sums(c.columns)};
  std::size_t const groups = over_rows ? c.columns : c.rows, count = over_rows ? c.rows : c.columns;
  std::size_t const group = over_rows ? 1 : c.columns, element = over_rows ? c.columns : 1;
  for (std::size_t g = 0; g < groups; ++g) {
    moments const m(c.x.data() + g * group, count, element);
    double const inverse = 1 / std::sqrt(m.variance + eps);
    double sum = 0, projection = 0, sum_size = 0, projection_size = 0;
    for (bool second : {false, true})
      for (std::size_t i = 0; i < count; ++i) {
        std::size_t const at = g * group + i * element, column = over_rows ? g : i;
        double const w = double(c.weight.data()[column]), dy = double(c.dy.data()[at]);
        double const normal = (double(c.x.data()[at]) - m.mean) * inverse,
                     size = (std::abs(double(c.x.data()[at])) + std::abs(m.mean)) * inverse;
        if (!second) {
          r.y.add(at, normal * w + double(c.bias.data()[column]), size * std::abs(w) + std::abs(double(c.bias.data()[column])));
          r.dweight.add(column, dy * normal, std::abs(dy) * size);
          r.dbias.add(column, dy);
          sum += dy * w / double(count), projection += dy * w * normal / double(count);
          sum_size += std::abs(dy * w) / double(count), projection_size += std::abs(dy * w) * size / double(count);
        } else if (training) {
          r.dx.add(at, (dy * w - sum - normal * projection) * inverse,
                   (std::abs(dy * w) + sum_size + size * projection_size) * inverse);
        } else {
          r.dx.add(at, dy * w * inverse);
        }
      }
  }
  return r;
}

template <class T>
void check_against(norm_case<T> const& c, reference const& r, double times) {
  CAPTURE(c.rows);
  CAPTURE(c.columns);
  CHECK(errors_of_rounding(c.y, r.y) <= 8);
  CHECK(errors_of_rounding(c.dx, r.dx, times) <= 8);
  CHECK(errors_of_rounding(c.dweight, r.dweight, times) <= 8);
  CHECK(errors_of_rounding(c.dbias, r.dbias, times) <= 8);
  CHECK(c.intact());
}

}  // namespace

TEST_CASE_TEMPLATE("batch normalisation and its gradients agree with the formula at odd sizes", T, float, double) {
  for (bool training : {true, false})
    for (std::size_t rows : odd_sizes)
      for (std::size_t channels : odd_sizes) {
        norm_case<T> c(rows, channels, true);
        auto const r = normalise_plainly(c, true, training);
        batch_norm(c, cpu{}, training, false);
        check_against(c, r, 1);
        batch_norm(c, cpu{}, training, true);
        check_against(c, r, 2);
      }
}

TEST_CASE_TEMPLATE("layer normalisation and its gradients agree with the formula at odd sizes", T, float, double) {
  for (std::size_t rows : odd_sizes)
    for (std::size_t columns : odd_sizes) {
      norm_case<T> c(rows, columns, false);
      auto const r = normalise_plainly(c, false, true);
      layer_norm(c, cpu{}, false);
      check_against(c, r, 1);
      layer_norm(c, cpu{}, true);
      check_against(c, r, 2);
    }
}

TEST_CASE_TEMPLATE("batch statistics keep their digits over many rows and under a large mean", T, float, double) {
  double const unit = double(std::numeric_limits<T>::epsilon());
  for (double center : {0.0, 10.0, 1000.0, -1e5})
    for (std::size_t channels : std::initializer_list<std::size_t>{1, 5, 16, 33}) {
      std::size_t const rows = 40001;
      auto const x = random<T>(rows * channels, channels, 1, center);
      auto mean = poisoned<T>(channels), variance = poisoned<T>(channels);
      batch_norm_statistics(cpu{}, rows, channels, x.data(), mean.data(), variance.data());
      for (std::size_t c = 0; c < channels; ++c) {
        moments const m(x.data() + c, rows, channels);
        CHECK(std::abs(double(mean.data()[c]) - m.mean) <= 2 * unit * (1 + std::abs(m.mean)));
        CHECK(std::abs(double(variance.data()[c]) - m.variance) <= 12 * unit * m.variance);
      }
    }
}

TEST_CASE("batch statistics keep their digits where each image has a mean of its own") {
  std::size_t const rows = 30000, channels = 24;
  auto x = random<float>(rows * channels, 5);
  for (std::size_t i = 0; i < x.size(); ++i) x.data()[i] += float(100 * ((i / channels / 196) % 7));
  auto mean = poisoned<float>(channels), variance = poisoned<float>(channels);
  batch_norm_statistics(cpu{}, rows, channels, x.data(), mean.data(), variance.data());
  for (std::size_t c = 0; c < channels; ++c) {
    moments const m(x.data() + c, rows, channels);
    CHECK(std::abs(double(mean.data()[c]) - m.mean) <= 2e-7 * std::abs(m.mean));
    CHECK(std::abs(double(variance.data()[c]) - m.variance) <= 5e-7 * m.variance);
  }
}

TEST_CASE("a constant channel has exactly its value as mean and no variance") {
  guarded<float> x(1000, 0.1f);
  float mean = -1, variance = -1;
  batch_norm_statistics(cpu{}, 1000, 1, x.data(), &mean, &variance);
  CHECK(mean == 0.1f);
  CHECK(variance == 0);
}

TEST_CASE_TEMPLATE("normalisation gives the same bits on one thread and on several", T, float, double) {
  thread_pool pool(2);
  norm_case<T> one(5000, 49, true), two = one;
  batch_norm(one, cpu{}, true, false), batch_norm(two, cpu{&pool}, true, false);
  norm_case<T> three(5000, 49, false), four = three;
  layer_norm(three, cpu{}, false), layer_norm(four, cpu{&pool}, false);
  for (auto const& [a, b] : {std::pair{&one, &two}, std::pair{&three, &four}}) {
    CHECK(a->mean == b->mean);
    CHECK(a->inverse_std == b->inverse_std);
    CHECK(a->y == b->y);
    CHECK(a->dx == b->dx);
    CHECK(a->dweight == b->dweight);
    CHECK(a->dbias == b->dbias);
  }
}

TEST_CASE("normalisation skips the gradients that nobody asks for") {
  norm_case<float> whole(49, 17, true), part = whole;
  batch_norm(whole, cpu{}, true, false);
  auto const& w = whole;
  batch_norm_backward<float>(cpu{}, 49, 17, w.x.data(), w.dy.data(), w.mean.data(), w.inverse_std.data(), w.weight.data(),
                             part.dx.data(), nullptr, nullptr, false, false, true);
  batch_norm_backward<float>(cpu{}, 49, 17, w.x.data(), w.dy.data(), w.mean.data(), w.inverse_std.data(), w.weight.data(), nullptr,
                             part.dweight.data(), part.dbias.data(), false, false, true);
  CHECK(part.dx == whole.dx);
  CHECK(part.dweight == whole.dweight);
  CHECK(part.dbias == whole.dbias);
}
