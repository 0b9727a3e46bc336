// Softmax, cross-entropy, reductions, broadcasts and pooling on the card against plain loops in double.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <dvla/kernels/cuda/axis.cuh>
#include <dvla/kernels/cuda/cross_entropy.cuh>
#include <dvla/kernels/cuda/pooling.cuh>
#include <dvla/kernels/cuda/reduce.cuh>
#include <dvla/kernels/cuda/softmax.cuh>

#include "placed.hpp"

using namespace dvla;
using namespace dvla::kernels;

namespace {

struct matrix_extents {
  std::size_t rows, columns;
};

// A warp a row and a block a row, whole packets and single elements.
constexpr matrix_extents matrices[] = {{1, 1},   {3, 3},   {17, 5},    {49, 64},  {196, 49}, {197, 197},
                                       {9, 196}, {5, 800}, {300, 100}, {4, 1001}, {3, 2500}, {2, 8192}};

/// Softmax and log sum exp of rows.
struct softmax_reference {
  std::vector<double> p, lse;

  template <class T>
  softmax_reference(matrix_extents e, std::vector<T> const& x) : p(x.size()), lse(e.rows) {
    for (std::size_t r = 0; r < e.rows; ++r) {
      double top = -std::numeric_limits<double>::infinity(), sum = 0;
      for (std::size_t c = 0; c < e.columns; ++c) top = std::max(top, double(x[r * e.columns + c]));
      for (std::size_t c = 0; c < e.columns; ++c) sum += std::exp(x[r * e.columns + c] - top);
      lse[r] = top + std::log(sum);
      for (std::size_t c = 0; c < e.columns; ++c) p[r * e.columns + c] = std::exp(x[r * e.columns + c] - lse[r]);
    }
  }
};

/// Runs f(extents, shift) for all matrices, aligned and not.
template <class F>
void for_matrices(F const& f) {
  for (auto const e : matrices)
    for (std::size_t const shift : {0, 1}) {
      CAPTURE(e.rows);
      CAPTURE(e.columns);
      CAPTURE(shift);
      f(e, shift);
    }
}

template <class T>
std::vector<T> rounded(std::vector<double> const& x) {
  std::vector<T> out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) out[i] = static_cast<T>(static_cast<arithmetic_t<T>>(x[i]));
  return out;
}

/// Smoothed targets of labels, or of distributions where there are no labels.
template <class T>
std::vector<double> smoothed_targets(matrix_extents e, std::vector<std::uint32_t> const& labels, std::vector<T> const& soft,
                                     double smoothing) {
  std::vector<double> t(e.rows * e.columns);
  for (std::size_t i = 0; i < t.size(); ++i) {
    double const target = labels.empty() ? double(soft[i]) : labels[i / e.columns] == i % e.columns ? 1 : 0;
    t[i] = (1 - smoothing) * target + smoothing / double(e.columns);
  }
  return t;
}

template <class T>
void check_cross_entropy(matrix_extents e, std::size_t shift, bool soft, double smoothing) {
  auto const logits = normal_numbers<T>(e.rows * e.columns, 1, 3);
  auto const distributions = rounded<T>(softmax_reference(e, normal_numbers<T>(e.rows * e.columns, 2)).p);
  std::vector<std::uint32_t> labels(soft ? 0 : e.rows);
  for (std::size_t r = 0; r < labels.size(); ++r) labels[r] = static_cast<std::uint32_t>(r * 7 % e.columns);
  auto const scale = normal_numbers<T>(e.rows, 3);
  auto const old = small_integers<T>(logits.size(), 4);
  auto const t = smoothed_targets(e, labels, distributions, double(T(smoothing)));
  softmax_reference const softmax(e, logits);
  auto const p = rounded<T>(softmax.p);
  std::vector<double> loss(e.rows), gradient(logits.size());
  for (std::size_t r = 0; r < e.rows; ++r) {
    double total = 0;
    for (std::size_t i = r * e.columns; i < (r + 1) * e.columns; ++i) loss[r] += t[i] * (softmax.lse[r] - logits[i]), total += t[i];
    for (std::size_t i = r * e.columns; i < (r + 1) * e.columns; ++i) gradient[i] = (p[i] * total - t[i]) * scale[r];
  }

  placed<T> const x(logits, shift), targets(distributions, shift), given_p(p, shift), row_scale(scale, shift), d(old, shift);
  placed<T> const per_row(e.rows, shift), probabilities(logits.size(), shift), d_fresh(logits.size(), shift);
  placed<std::uint32_t> const l(labels, 0);
  std::uint32_t const* const label_data = soft ? nullptr : l.read();
  cuda const device;
  cross_entropy_forward(device, e.rows, e.columns, x.read(), label_data, targets.read(), T(smoothing), per_row.data(),
                        probabilities.data());
  CHECK(relative_error(per_row.get(), loss) <= bound<T>);
  CHECK(relative_error(probabilities.get(), softmax.p) <= bound<T>);
  auto const first = per_row.get();
  cross_entropy_forward(device, e.rows, e.columns, x.read(), label_data, targets.read(), T(smoothing), per_row.data(), nullptr);
  CHECK(same_bits(per_row.get(), first));
  cross_entropy_backward(device, e.rows, e.columns, given_p.read(), label_data, targets.read(), T(smoothing), row_scale.read(),
                         d_fresh.data(), false);
  cross_entropy_backward(device, e.rows, e.columns, given_p.read(), label_data, targets.read(), T(smoothing), row_scale.read(),
                         d.data(), true);
  if (e.columns > 1) CHECK(relative_error(d_fresh.get(), gradient) <= bound<T>);
  if (e.columns > 1) CHECK(relative_error(d.get(), added(gradient, as_doubles(old))) <= bound<T>);
  CHECK((per_row.intact() && probabilities.intact() && d.intact() && d_fresh.intact()));
}

struct axis_extents {
  std::size_t outer, count, inner;
};

// One part and several, several matrices a block, narrow tiles and wide ones, the last axis.
constexpr axis_extents axes[] = {{1, 1, 1},    {3, 17, 1},    {49, 3, 17}, {80, 196, 192}, {1, 197, 49},
                                 {1, 5000, 1}, {2, 4000, 16}, {1, 300, 8}, {300, 3, 32},   {1, 80, 384},
                                 {5, 2, 1536}, {1, 30000, 3}, {7, 1, 24},  {2, 24000, 96}, {9, 1200, 1}};

template <class X, class Y>
void check_axis_sum(axis_extents e, std::size_t shift, std::vector<X> const& x, double factor, double most) {
  std::vector<double> expected(e.outer * e.inner);
  for (std::size_t i = 0; i < x.size(); ++i) expected[i / (e.count * e.inner) * e.inner + i % e.inner] += factor * as_double(x[i]);
  auto const old = small_integers<Y>(expected.size(), 9);
  placed<X> const in(x, shift);
  placed<Y> const fresh(expected.size(), shift), again(expected.size(), shift), sum(old, shift);
  auto const by = static_cast<arithmetic_t<X>>(factor);
  cuda const device;
  axis_sum(device, e.outer, e.count, e.inner, in.read(), by, fresh.data());
  axis_sum(device, e.outer, e.count, e.inner, in.read(), by, again.data());
  axis_sum_into(device, e.outer, e.count, e.inner, in.read(), by, sum.data(), true);
  CHECK(relative_error(fresh.get(), expected) <= most);
  CHECK(relative_error(sum.get(), added(expected, as_doubles(old))) <= most);
  CHECK(same_bits(again.get(), fresh.get()));
  CHECK((fresh.intact() && sum.intact()));
}

template <class Y, class X>
void check_axis_broadcast(axis_extents e, std::size_t shift) {
  auto const dy = normal_numbers<Y>(e.outer * e.inner, 1);
  auto const old = small_integers<X>(e.outer * e.count * e.inner, 2);
  std::vector<double> expected(old.size());
  for (std::size_t i = 0; i < old.size(); ++i) expected[i] = 0.25 * as_double(dy[i / (e.count * e.inner) * e.inner + i % e.inner]);
  placed<Y> const in(dy, shift);
  placed<X> const fresh(old.size(), shift), sum(old, shift);
  cuda const device;
  axis_broadcast(device, e.outer, e.count, e.inner, in.read(), arithmetic_t<X>(0.25), fresh.data(), false);
  axis_broadcast(device, e.outer, e.count, e.inner, in.read(), arithmetic_t<X>(0.25), sum.data(), true);
  CHECK(relative_error(fresh.get(), expected) <= (std::is_same_v<X, Y> ? 0 : bound<X>));
  CHECK(relative_error(sum.get(), added(expected, as_doubles(old))) <= bound<X>);
  CHECK((fresh.intact() && sum.intact()));
}

/// The places and values of maxima, as the CPU finds them.
template <class X>
void reference_pooling(pool_geometry const& g, std::vector<X> const& x, std::vector<X>& y, std::vector<std::uint8_t>& place) {
  for (std::size_t i = 0; i < y.size(); ++i) {
    std::size_t const c = i % g.channels, column = i / g.channels % g.out_width(), row = i / g.channels / g.out_width();
    std::size_t const image = row / g.out_height(), line = row % g.out_height();
    for (std::size_t k = 0; k < g.size * g.size; ++k) {
      std::size_t const h = line * g.size + k / g.size, w = column * g.size + k % g.size;
      X const candidate = x[((image * g.height + h) * g.width + w) * g.channels + c];
      double const value = as_double(candidate), best = as_double(y[i]);
      if (k > 0 && !(value > best || (value != value && best == best))) continue;
      y[i] = candidate;
      place[i] = static_cast<std::uint8_t>(k);
    }
  }
}

template <class X>
void check_pooling(pool_geometry const& g, std::size_t shift, bool with_nan) {
  auto x = small_integers<X>(g.batch * g.height * g.width * g.channels, 1);  // many equal elements
  if (with_nan) x[x.size() / 3] = x[x.size() / 2] = static_cast<X>(std::numeric_limits<arithmetic_t<X>>::quiet_NaN());
  std::vector<X> y(g.batch * g.out_height() * g.out_width() * g.channels);
  std::vector<std::uint8_t> place(y.size());
  reference_pooling(g, x, y, place);
  auto const dy = normal_numbers<X>(y.size(), 2), old = small_integers<X>(x.size(), 3);
  std::vector<double> dx(x.size());
  for (std::size_t i = 0; i < y.size(); ++i) {
    std::size_t const c = i % g.channels, column = i / g.channels % g.out_width(), row = i / g.channels / g.out_width();
    std::size_t const h = row % g.out_height() * g.size + place[i] / g.size, w = column * g.size + place[i] % g.size;
    dx[((row / g.out_height() * g.height + h) * g.width + w) * g.channels + c] = as_double(dy[i]);
  }
  placed<X> const in(x, shift), out(y.size(), shift), gradient(dy, shift), fresh(x.size(), shift), sum(old, shift);
  placed<std::uint8_t> const at(y.size(), shift);
  cuda const device;
  max_pool_forward(device, g, in.read(), out.data(), at.data());
  CHECK(at.get() == place);
  auto const found = out.get();
  for (std::size_t i = 0; i < y.size(); ++i) {
    double const a = as_double(found[i]), b = as_double(y[i]);
    if (!(a == b || (a != a && b != b))) FAIL_CHECK("element ", i, ": ", a, " instead of ", b);
  }
  max_pool_backward(device, g, gradient.read(), at.read(), fresh.data(), false);
  max_pool_backward(device, g, gradient.read(), at.read(), sum.data(), true);
  CHECK(relative_error(fresh.get(), dx) == 0);
  CHECK(relative_error(sum.get(), added(dx, as_doubles(old))) <= bound<X>);
  CHECK((out.intact() && at.intact() && fresh.intact() && sum.intact()));
}

}  // namespace

TEST_CASE_TEMPLATE("Softmax, its gradient and log sum exp agree with the formulas", T, double, float) {
  for_matrices([](matrix_extents e, std::size_t shift) {
    auto const x = normal_numbers<T>(e.rows * e.columns, 1, 4), dy = normal_numbers<T>(x.size(), 2),
               old = small_integers<T>(x.size(), 3);
    softmax_reference const expected(e, x);
    auto const p = rounded<T>(expected.p);
    std::vector<double> dx(x.size());
    for (std::size_t r = 0; r < e.rows; ++r) {
      double mean = 0;
      for (std::size_t i = r * e.columns; i < (r + 1) * e.columns; ++i) mean += double(p[i]) * double(dy[i]);
      for (std::size_t i = r * e.columns; i < (r + 1) * e.columns; ++i) dx[i] = p[i] * (dy[i] - mean);
    }
    placed<T> const in(x, shift), out(x.size(), shift), in_place(x, shift), lse(e.rows, shift), y(p, shift), gradient(dy, shift);
    placed<T> const fresh(x.size(), shift), sum(old, shift);
    cuda const device;
    softmax_forward(device, e.rows, e.columns, in.read(), out.data());
    softmax_forward(device, e.rows, e.columns, in_place.read(), in_place.data());
    log_sum_exp(device, e.rows, e.columns, in.read(), lse.data());
    CHECK(relative_error(out.get(), expected.p) <= bound<T>);
    CHECK(same_bits(in_place.get(), out.get()));
    CHECK(relative_error(lse.get(), expected.lse) <= bound<T>);
    softmax_backward(device, e.rows, e.columns, y.read(), gradient.read(), fresh.data(), false);
    softmax_backward(device, e.rows, e.columns, y.read(), gradient.read(), sum.data(), true);
    softmax_backward(device, e.rows, e.columns, y.read(), gradient.read(), gradient.data(), false);
    if (e.columns > 1) CHECK(relative_error(fresh.get(), dx) <= bound<T>);
    CHECK(relative_error(sum.get(), added(dx, as_doubles(old))) <= bound<T>);
    CHECK(same_bits(gradient.get(), fresh.get()));
    CHECK((out.intact() && lse.intact() && fresh.intact() && sum.intact()));
  });
}

TEST_CASE_TEMPLATE("Softmax keeps large numbers finite and leaves out what is -inf", T, double, float) {
  T const infinity = std::numeric_limits<T>::infinity();
  std::vector<T> const x{T(8000), T(8000), -infinity, T(-8000), T(1), -infinity, T(1), T(1)};
  placed<T> const in(x, 0), out(8, 0), lse(2, 0);
  cuda const device;
  softmax_forward(device, 2, 4, in.read(), out.data());
  log_sum_exp(device, 2, 4, in.read(), lse.data());
  CHECK(relative_error(out.get(), {0.5, 0.5, 0, 0, 1 / 3.0, 0, 1 / 3.0, 1 / 3.0}) <= 1e-6);
  CHECK(relative_error(lse.get(), {8000 + std::log(2.0), 1 + std::log(3.0)}) <= 1e-6);
}

TEST_CASE_TEMPLATE("Cross-entropy and its gradient agree with the formulas", T, double, float) {
  for_matrices([](matrix_extents e, std::size_t shift) {
    for (bool const soft : {false, true})
      for (double const smoothing : {0.0, 0.1}) check_cross_entropy<T>(e, shift, soft, smoothing);
  });
}

TEST_CASE_TEMPLATE("Row maxima are exact, NaN included, and equal elements share the gradient", T, double, float) {
  for_matrices([](matrix_extents e, std::size_t shift) {
    auto const x = small_integers<T>(e.rows * e.columns, 1), dy = normal_numbers<T>(e.rows, 2),
               old = small_integers<T>(x.size(), 3);
    std::vector<double> best(e.rows, -std::numeric_limits<double>::infinity()), dx(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) best[i / e.columns] = std::max(best[i / e.columns], double(x[i]));
    std::vector<double> equal(e.rows);
    for (std::size_t i = 0; i < x.size(); ++i) equal[i / e.columns] += x[i] == best[i / e.columns] ? 1 : 0;
    for (std::size_t i = 0; i < x.size(); ++i) dx[i] = x[i] == best[i / e.columns] ? dy[i / e.columns] / equal[i / e.columns] : 0;
    placed<T> const in(x, shift), out(e.rows, shift), gradient(dy, shift), fresh(x.size(), shift), sum(old, shift);
    cuda const device;
    row_max(device, e.rows, e.columns, in.read(), out.data());
    CHECK(as_doubles(out.get()) == best);
    row_max_backward(device, e.rows, e.columns, in.read(), gradient.read(), fresh.data(), false);
    row_max_backward(device, e.rows, e.columns, in.read(), gradient.read(), sum.data(), true);
    CHECK(relative_error(fresh.get(), dx) <= bound<T>);
    CHECK(relative_error(sum.get(), added(dx, as_doubles(old))) <= bound<T>);
    CHECK((out.intact() && fresh.intact() && sum.intact()));
    auto damaged = x;
    damaged[damaged.size() / 2] = std::numeric_limits<T>::quiet_NaN();
    placed<T> const with_nan(damaged, shift);
    row_max(device, e.rows, e.columns, with_nan.read(), out.data());
    auto const found = out.get();
    std::size_t const where = damaged.size() / 2 / e.columns;
    for (std::size_t r = 0; r < e.rows; ++r) CHECK((r == where ? found[r] != found[r] : double(found[r]) == best[r]));
  });
}

TEST_CASE_TEMPLATE("Sums over an axis are exact for integers, close for others, and the same every time", X, double, float,
                   bfloat16) {
  for (auto const e : axes)
    for (std::size_t const shift : {0, 1}) {
      CAPTURE(e.outer);
      CAPTURE(e.count);
      CAPTURE(e.inner);
      CAPTURE(shift);
      using A = arithmetic_t<X>;
      std::size_t const size = e.outer * e.count * e.inner;
      if (shift > 0 && size > 1000000) continue;
      check_axis_sum<X, A>(e, shift, small_integers<X>(size, 1), 1, 0);
      check_axis_sum<X, A>(e, shift, normal_numbers<X>(size, 2, 1, 0.5), 0.25, bound<A>);
      check_axis_sum<X, X>(e, shift, normal_numbers<X>(size, 3, 1, 0.5), 0.5, bound<X>);
      if constexpr (std::is_same_v<X, float>)
        check_axis_sum<float, bfloat16>(e, shift, normal_numbers<X>(size, 3, 1, 0.5), 0.5, bound<bfloat16>);
    }
}

TEST_CASE_TEMPLATE("A sum over no elements is 0, and adds nothing", X, double, float, bfloat16) {
  placed<X> const x(0, 0);
  placed<X> const y(small_integers<X>(6, 1), 0);
  auto const before = y.get();
  cuda const device;
  axis_sum_into(device, 2, 0, 3, x.read(), arithmetic_t<X>(1), y.data(), true);
  CHECK(as_doubles(y.get()) == as_doubles(before));
  axis_sum(device, 2, 0, 3, x.read(), arithmetic_t<X>(1), y.data());
  CHECK(as_doubles(y.get()) == std::vector<double>(6, 0));
}

TEST_CASE_TEMPLATE("Broadcasts along an axis write or add everywhere", X, double, float, bfloat16) {
  for (auto const e : axes)
    for (std::size_t const shift : {0, 1}) {
      CAPTURE(e.outer);
      CAPTURE(e.count);
      CAPTURE(e.inner);
      if (shift > 0 && e.outer * e.count * e.inner > 1000000) continue;
      check_axis_broadcast<X, X>(e, shift);
      check_axis_broadcast<arithmetic_t<X>, X>(e, shift);
    }
}

TEST_CASE_TEMPLATE("Column sums are exact for integers", X, double, float, bfloat16) {
  using A = arithmetic_t<X>;
  for (matrix_extents const e : {matrix_extents{1, 1}, {17, 3}, {80, 384}, {197, 49}, {6000, 96}, {12000, 17}}) {
    auto const x = small_integers<X>(e.rows * e.columns, 1);
    auto const old = small_integers<A>(e.columns, 2);
    std::vector<double> expected = as_doubles(old);
    for (std::size_t i = 0; i < x.size(); ++i) expected[i % e.columns] += as_double(x[i]);
    placed<X> const in(x, 0);
    placed<A> const out(old, 0);
    column_sum(cuda{}, e.rows, e.columns, in.read(), out.data(), true);
    CHECK(as_doubles(out.get()) == expected);
    CHECK(out.intact());
  }
}

TEST_CASE_TEMPLATE("Pooling finds the first of equal maxima and NaN, and sends the gradient there", X, double, float, bfloat16) {
  for (pool_geometry const g :
       {pool_geometry{1, 2, 2, 1, 2}, {3, 7, 5, 3, 2}, {2, 9, 10, 16, 3}, {4, 8, 8, 64, 2}, {1, 17, 16, 8, 16}, {2, 3, 3, 24, 1}})
    for (std::size_t const shift : {0, 1})
      for (bool const with_nan : {false, true}) {
        CAPTURE(g.size);
        CAPTURE(g.channels);
        check_pooling<X>(g, shift, with_nan);
      }
}
