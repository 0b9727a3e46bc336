// Batch and layer normalisation on the card against plain formulas in double.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include <dvla/kernels/cuda/norm.cuh>
#include <dvla/kernels/cuda/statistics.cuh>

#include "placed.hpp"

using namespace dvla;
using namespace dvla::kernels;

namespace {

struct extents {
  std::size_t rows, columns;
};

// One part and several, narrow tiles and wide ones, whole packets and single columns.
std::vector<extents> const shapes = {{5, 1},   {3, 3},     {17, 16},   {49, 17},   {196, 192},   {197, 24},
                              {1, 197}, {600, 384}, {4000, 16}, {3000, 49}, {1500, 1536}, {25088, 192}, {60000, 200}};

/// Those that are run.
std::vector<extents> run_of(std::vector<extents> all) {
  if (small_tests()) std::erase_if(all, [](extents e) { return e.rows * e.columns > 250000; });
  return all;
}

constexpr double eps = 1e-5;

/// Whether all elements are equal; a zero is one of either sign.
template <class X>
bool same_values(std::vector<X> const& a, std::vector<X> const& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!(as_double(a[i]) == as_double(b[i]))) return false;
  return a.size() == b.size();
}

/// Inputs of a normalisation and their exact moments, of the columns or of the rows.
template <class X>
struct norm_case {
  using A = arithmetic_t<X>;
  std::size_t rows, columns;
  bool over_rows;  // batch normalisation
  std::vector<X> x, dy, old_dx;
  std::vector<A> weight, bias, old_dweight, old_dbias;
  std::vector<double> mean, variance;

  norm_case(extents e, bool batch, double spread = 1.5, double center = 0.7)
      : rows(e.rows),
        columns(e.columns),
        over_rows(batch),
        x(normal_numbers<X>(rows * columns, 1, spread, center)),
        dy(normal_numbers<X>(rows * columns, 2)),
        old_dx(small_integers<X>(rows * columns, 3)),
        weight(normal_numbers<A>(columns, 4)),
        bias(normal_numbers<A>(columns, 5)),
        old_dweight(small_integers<A>(columns, 6)),
        old_dbias(small_integers<A>(columns, 7)) {
    find_moments();
  }

  void find_moments() {
    mean.assign(over_rows ? columns : rows, 0);
    variance.assign(mean.size(), 0);
    double const count = static_cast<double>(over_rows ? rows : columns);
    for (std::size_t i = 0; i < x.size(); ++i) mean[group(i)] += as_double(x[i]);
    for (double& m : mean) m /= count;
    for (std::size_t i = 0; i < x.size(); ++i) variance[group(i)] += std::pow(as_double(x[i]) - mean[group(i)], 2) / count;
  }
  [[nodiscard]] std::size_t group(std::size_t i) const { return over_rows ? i % columns : i / columns; }
  [[nodiscard]] std::vector<A> inverse_std() const {
    std::vector<A> out(variance.size());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<A>(1 / std::sqrt(variance[i] + eps));
    return out;
  }
  [[nodiscard]] std::vector<A> rounded_mean() const { return {mean.begin(), mean.end()}; }
};

/// What a normalisation with given statistics and its gradients should be.
struct expectation {
  std::vector<double> y, dx, dweight, dbias;

  template <class X, class A>
  expectation(norm_case<X> const& c, std::vector<A> const& mean, std::vector<A> const& inverse_std, bool constants)
      : y(c.x.size()), dx(c.x.size()), dweight(c.columns), dbias(c.columns) {
    std::vector<double> sum(mean.size()), projection(mean.size());
    double const count = static_cast<double>(c.over_rows ? c.rows : c.columns);
    auto const normal = [&](std::size_t i) {
      return (as_double(c.x[i]) - as_double(mean[c.group(i)])) * as_double(inverse_std[c.group(i)]);
    };
    for (std::size_t i = 0; i < y.size(); ++i) {
      std::size_t const g = c.group(i), j = i % c.columns;
      double const dy = as_double(c.dy[i]), scaled = dy * as_double(c.weight[j]);
      y[i] = normal(i) * as_double(c.weight[j]) + as_double(c.bias[j]);
      dbias[j] += dy;
      dweight[j] += dy * normal(i);
      sum[g] += scaled / count;
      projection[g] += scaled * normal(i) / count;
    }
    for (std::size_t i = 0; i < y.size(); ++i) {
      std::size_t const g = c.group(i);
      double const scaled = as_double(c.dy[i]) * as_double(c.weight[i % c.columns]);
      dx[i] = as_double(inverse_std[g]) * (constants ? scaled : scaled - sum[g] - normal(i) * projection[g]);
    }
  }
};

/// The gradients' places on the device.
template <class X>
struct gradients {
  placed<X> dx;
  placed<arithmetic_t<X>> dweight, dbias;
  bool accumulate;

  gradients(norm_case<X> const& c, bool add, std::size_t shift)
      : dx(c.x.size(), shift), dweight(c.columns, shift), dbias(c.columns, shift), accumulate(add) {
    if (!add) return;
    copy_in(dx, c.old_dx), copy_in(dweight, c.old_dweight), copy_in(dbias, c.old_dbias);
  }
  template <class T>
  static void copy_in(placed<T>& to, std::vector<T> const& from) {
    cuda_check(cudaMemcpy(to.data(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice), "filling a test buffer");
  }
  void check(norm_case<X> const& c, expectation const& expected) const {
    using A = arithmetic_t<X>;
    auto const total = [&](std::vector<double> const& fresh, auto const& old) {
      return accumulate ? added(fresh, as_doubles(old)) : fresh;
    };
    CHECK(relative_error(dx.get(), total(expected.dx, c.old_dx)) <= bound<X>);
    CHECK(relative_error(dweight.get(), total(expected.dweight, c.old_dweight)) <= bound<A>);
    CHECK(relative_error(dbias.get(), total(expected.dbias, c.old_dbias)) <= bound<A>);
    CHECK(dx.intact());
    CHECK(dweight.intact());
    CHECK(dbias.intact());
  }
  [[nodiscard]] bool same(gradients const& other) const {
    return same_bits(dx.get(), other.dx.get()) && same_bits(dweight.get(), other.dweight.get()) &&
           same_bits(dbias.get(), other.dbias.get());
  }
};

template <class X>
void check_statistics(norm_case<X> const& c, std::size_t shift, double most) {
  using A = arithmetic_t<X>;
  placed<X> const x(c.x, shift);
  placed<A> const mean(c.columns, shift), variance(c.columns, shift), again(c.columns, shift);
  cuda const device;
  batch_norm_statistics(device, c.rows, c.columns, x.read(), mean.data(), variance.data());
  CHECK(relative_error(mean.get(), c.mean) <= most);
  if (c.rows > 1)
    CHECK(relative_error(variance.get(), c.variance) <= most);
  else
    CHECK(variance.get() == std::vector<A>(c.columns, A(0)));
  CHECK(mean.intact());
  CHECK(variance.intact());
  auto const first = variance.get();
  batch_norm_statistics(device, c.rows, c.columns, x.read(), mean.data(), again.data());
  CHECK(same_bits(again.get(), first));
}

template <class X>
void run_batch_norm(norm_case<X> const& c, std::size_t shift, bool training, bool accumulate) {
  using A = arithmetic_t<X>;
  auto const mean = c.rounded_mean(), inverse_std = c.inverse_std();
  expectation const expected(c, mean, inverse_std, !training);
  placed<X> const x(c.x, shift), dy(c.dy, shift), y(c.x.size(), shift), in_place(c.x, shift);
  placed<A> const m(mean, shift), s(inverse_std, shift), w(c.weight, shift), b(c.bias, shift);
  cuda const device;
  batch_norm_apply(device, c.rows, c.columns, x.read(), m.read(), s.read(), w.read(), b.read(), y.data());
  CHECK(relative_error(y.get(), expected.y) <= bound<X>);
  CHECK(y.intact());
  batch_norm_apply(device, c.rows, c.columns, in_place.read(), m.read(), s.read(), w.read(), b.read(), in_place.data());
  CHECK(same_bits(in_place.get(), y.get()));
  auto const backward = [&](gradients<X> const& to, X* dx, A* dweight, A* dbias) {
    batch_norm_backward(device, c.rows, c.columns, x.read(), dy.read(), m.read(), s.read(), w.read(), dx, dweight, dbias,
                        accumulate, accumulate, training);
    return &to;
  };
  gradients<X> const all(c, accumulate, shift), parts(c, accumulate, shift);
  backward(all, all.dx.data(), all.dweight.data(), all.dbias.data())->check(c, expected);
  backward(parts, parts.dx.data(), nullptr, nullptr);
  backward(parts, nullptr, parts.dweight.data(), nullptr);
  backward(parts, nullptr, nullptr, parts.dbias.data())->check(c, expected);
  if (!accumulate) {
    gradients<X> const again(c, accumulate, shift);
    CHECK(backward(again, again.dx.data(), again.dweight.data(), again.dbias.data())->same(all));
  }

  // With a ReLU in the same passes: the same values, and the gradients of a dy that is 0 where the ReLU is.
  placed<X> const rectified(c.x.size(), shift);
  batch_norm_apply_relu(device, c.rows, c.columns, x.read(), m.read(), s.read(), w.read(), b.read(), rectified.data());
  auto plain = y.get();
  auto through = c.dy;
  for (std::size_t i = 0; i < plain.size(); ++i)
    if (!(as_double(plain[i]) > 0)) plain[i] = through[i] = X(0);
  CHECK(same_values(rectified.get(), plain));
  placed<X> const masked(through, shift);
  gradients<X> const of_relu(c, accumulate, shift), of_mask(c, accumulate, shift);
  batch_norm_backward_relu(device, c.rows, c.columns, x.read(), dy.read(), m.read(), s.read(), w.read(), of_relu.dx.data(),
                           of_relu.dweight.data(), of_relu.dbias.data(), accumulate, accumulate, training, b.read());
  batch_norm_backward(device, c.rows, c.columns, x.read(), masked.read(), m.read(), s.read(), w.read(), of_mask.dx.data(),
                      of_mask.dweight.data(), of_mask.dbias.data(), accumulate, accumulate, training);
  CHECK(relative_error(of_relu.dx.get(), as_doubles(of_mask.dx.get())) <= bound<X>);
  CHECK(relative_error(of_relu.dweight.get(), as_doubles(of_mask.dweight.get())) <= bound<A>);
  CHECK(relative_error(of_relu.dbias.get(), as_doubles(of_mask.dbias.get())) <= bound<A>);
}

/// Statistics, running statistics and normalised rows at once, against the formulas and in place.
template <class X>
void run_batch_norm_forward(norm_case<X> const& c, std::size_t shift) {
  using A = arithmetic_t<X>;
  expectation const expected(c, c.rounded_mean(), c.inverse_std(), false);
  auto const old_mean = normal_numbers<A>(c.columns, 8), old_variance = normal_numbers<A>(c.columns, 9);
  placed<X> const x(c.x, shift);
  placed<A> const w(c.weight, shift), b(c.bias, shift);
  cuda const device;
  auto const run = [&](placed<X> const& from, placed<X> const& y, bool relu) {
    placed<A> const mean(c.columns, shift), inverse(c.columns, shift), running_m(old_mean, shift), running_v(old_variance, shift);
    auto const forward = [&](auto function) {
      function(device, c.rows, c.columns, from.read(), static_cast<A>(eps), 0.1, mean.data(), inverse.data(), running_m.data(),
               running_v.data(), w.read(), b.read(), y.data());
    };
    if (relu) forward([](auto const&... all) { batch_norm_forward_relu(all...); });
    else forward([](auto const&... all) { batch_norm_forward(all...); });
    std::vector<double> expected_m(c.columns), expected_v(c.columns);
    double const rows = static_cast<double>(c.rows);
    for (std::size_t i = 0; i < c.columns; ++i) {
      expected_m[i] = 0.9 * as_double(old_mean[i]) + 0.1 * c.mean[i];
      expected_v[i] = 0.9 * as_double(old_variance[i]) + 0.1 * c.variance[i] * rows / (rows - 1);
    }
    CHECK(relative_error(mean.get(), c.mean) <= bound<A>);
    CHECK(relative_error(inverse.get(), as_doubles(c.inverse_std())) <= bound<A>);
    CHECK(relative_error(running_m.get(), expected_m) <= bound<A>);
    CHECK(relative_error(running_v.get(), expected_v) <= bound<A>);
    CHECK((mean.intact() && inverse.intact() && running_m.intact() && running_v.intact() && y.intact()));
  };
  placed<X> const y(c.x.size(), shift), again(c.x, shift), rectified(c.x.size(), shift);
  run(x, y, false);
  CHECK(relative_error(y.get(), expected.y) <= bound<X>);
  run(again, again, false);
  CHECK(same_bits(again.get(), y.get()));
  run(x, rectified, true);
  auto positive = y.get();
  for (X& value : positive)
    if (!(as_double(value) > 0)) value = X(0);
  CHECK(same_values(rectified.get(), positive));
}

template <class X>
void run_layer_norm(norm_case<X> const& c, std::size_t shift, bool accumulate) {
  using A = arithmetic_t<X>;
  auto const mean = c.rounded_mean(), inverse_std = c.inverse_std();
  expectation const expected(c, mean, inverse_std, false);
  placed<X> const x(c.x, shift), dy(c.dy, shift), y(c.x.size(), shift);
  placed<A> const m(c.rows, shift), s(c.rows, shift), w(c.weight, shift), b(c.bias, shift), exact_m(mean, 0),
      exact_s(inverse_std, 0);
  cuda const device;
  layer_norm_forward(device, c.rows, c.columns, static_cast<A>(eps), x.read(), w.read(), b.read(), y.data(), m.data(), s.data());
  CHECK(relative_error(m.get(), as_doubles(mean)) <= bound<A>);
  if (c.columns > 1) CHECK(relative_error(s.get(), as_doubles(inverse_std)) <= bound<A>);
  if (c.columns > 1) CHECK(relative_error(y.get(), expected.y) <= bound<X>);
  CHECK((m.intact() && s.intact() && y.intact()));
  auto const backward = [&](gradients<X> const& to, X* dx, A* dweight, A* dbias) {
    layer_norm_backward(device, c.rows, c.columns, x.read(), dy.read(), exact_m.read(), exact_s.read(), w.read(), dx, dweight,
                        dbias, accumulate, accumulate);
    return &to;
  };
  gradients<X> const all(c, accumulate, shift), parts(c, accumulate, shift);
  backward(all, all.dx.data(), all.dweight.data(), all.dbias.data());
  if (c.columns > 1) all.check(c, expected);
  backward(parts, parts.dx.data(), nullptr, nullptr);
  backward(parts, nullptr, parts.dweight.data(), nullptr);
  CHECK(backward(parts, nullptr, nullptr, parts.dbias.data())->same(all));
}

}  // namespace

TEST_CASE_TEMPLATE("Statistics of batches are exact to rounding, at any alignment and every time", X, double, float, bfloat16) {
  for (auto const e : run_of(shapes)) {
    CAPTURE(e.rows);
    CAPTURE(e.columns);
    norm_case<X> const c(e, true);
    for (std::size_t const shift : {0, 1}) check_statistics(c, shift, bound<arithmetic_t<X>>);
  }
}

TEST_CASE_TEMPLATE("Statistics keep their digits where the mean is large, and where the first row is far from it", X, double, float,
                   bfloat16) {
  for (extents const e : run_of({{600, 16}, {4000, 16}, {5000, 17}, {70000, 64}})) {
    CAPTURE(e.rows);
    CAPTURE(e.columns);
    bool const narrow = std::is_same_v<X, bfloat16>;
    check_statistics(norm_case<X>(e, true, narrow ? 2 : 0.01, narrow ? 100 : 1000), 0, bound<arithmetic_t<X>>);
    norm_case<X> outlier(e, true);
    for (std::size_t j = 0; j < e.columns; ++j) outlier.x[j] = static_cast<X>(arithmetic_t<X>(-4096));
    outlier.find_moments();
    check_statistics(outlier, 0, std::max(bound<arithmetic_t<X>>, 1e-11));  // the mean is a small difference of large numbers
  }
}

TEST_CASE_TEMPLATE("Batch normalisation and its gradients agree with the formulas", X, double, float, bfloat16) {
  for (auto const e : run_of(shapes)) {
    CAPTURE(e.rows);
    CAPTURE(e.columns);
    norm_case<X> const c(e, true);
    if (e.rows < 2) continue;  // no variance
    run_batch_norm_forward(c, 0);
    run_batch_norm_forward(c, 1);
    run_batch_norm(c, 0, true, false);
    if (e.rows > 10000) continue;
    run_batch_norm(c, 0, true, true);
    run_batch_norm(c, 0, false, false);
    run_batch_norm(c, 1, true, false);
    run_batch_norm(c, 1, false, true);
  }
}

TEST_CASE_TEMPLATE("Running statistics and inverse deviations agree with the formulas", T, double, float) {
  for (std::size_t const channels : {1, 17, 384}) {
    auto const mean = normal_numbers<T>(channels, 1), old_mean = normal_numbers<T>(channels, 2);
    auto variance = normal_numbers<T>(channels, 3), old_variance = normal_numbers<T>(channels, 4);
    for (std::size_t i = 0; i < channels; ++i) variance[i] *= variance[i], old_variance[i] *= old_variance[i];
    placed<T> const m(mean, 0), v(variance, 0), running_m(old_mean, 1), running_v(old_variance, 1);
    cuda const device;
    batch_norm_track(device, channels, m.read(), v.read(), 9, 0.1, running_m.data(), running_v.data());
    batch_norm_invert(device, channels, v.read(), T(eps), v.data());
    std::vector<double> expected_m(channels), expected_v(channels), inverse(channels);
    for (std::size_t i = 0; i < channels; ++i) {
      expected_m[i] = 0.9 * old_mean[i] + 0.1 * mean[i];
      expected_v[i] = 0.9 * old_variance[i] + 0.1 * variance[i] * 9 / 8;
      inverse[i] = 1 / std::sqrt(double(variance[i]) + double(T(eps)));
    }
    CHECK(relative_error(running_m.get(), expected_m) <= bound<T>);
    CHECK(relative_error(running_v.get(), expected_v) <= bound<T>);
    CHECK(relative_error(v.get(), inverse) <= bound<T>);
    CHECK((running_m.intact() && running_v.intact() && v.intact()));
  }
}

TEST_CASE_TEMPLATE("Layer normalisation and its gradients agree with the formulas", X, double, float, bfloat16) {
  // A single column has no variance: it is only to stay in its place.
  for (extents const e : run_of({{3, 1}, {3, 3}, {49, 17}, {197, 192}, {17, 384}, {5, 1536}, {3, 4099}, {2, 8192}, {5000, 64}})) {
    CAPTURE(e.rows);
    CAPTURE(e.columns);
    norm_case<X> const c(e, false);
    for (std::size_t const shift : {0, 1})
      for (bool const accumulate : {false, true}) run_layer_norm(c, shift, accumulate);
  }
}
