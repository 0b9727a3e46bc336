// Softmax, log sum exp and cross-entropy against plain formulas in double.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include <dvla/core/thread_pool.hpp>
#include <dvla/kernels/cpu/cross_entropy.hpp>
#include <dvla/kernels/cpu/softmax.hpp>
#include <kernels/reference.hpp>

using namespace dvla;
using namespace dvla::kernels;

namespace {

constexpr std::size_t odd_sizes[] = {1, 3, 17, 49, 196, 197};

/// log softmax of one row, summed in long double.
template <class T>
std::vector<double> log_softmax(T const* x, std::size_t n, double& lse) {
  double top = double(x[0]);
  long double sum = 0;
  for (std::size_t i = 0; i < n; ++i) top = std::max(top, double(x[i]));
  for (std::size_t i = 0; i < n; ++i) sum += std::exp(double(x[i]) - top);
  lse = top + double(std::log(sum));
  std::vector<double> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = double(x[i]) - lse;
  return out;
}

enum class targets { labels, soft };

/// A cross-entropy with its results and their references.
template <class T>
struct entropy_case {
  std::size_t rows, classes;
  T smoothing;
  guarded<T> logits, soft, row_scale, loss, p, d;
  std::vector<std::uint32_t> labels;
  bool use_labels;

  entropy_case(std::size_t r, std::size_t c, targets kind, double s)
      : rows(r),
        classes(c),
        smoothing(T(s)),
        logits(random<T>(r * c, 1, 3)),
        soft(r * c, T(0)),
        row_scale(random<T>(r, 2)),
        loss(poisoned<T>(r)),
        p(poisoned<T>(r * c)),
        d(poisoned<T>(r * c)),
        labels(r),
        use_labels(kind == targets::labels) {
    random_stream stream(3, draw::test, 0, 0);
    for (auto& label : labels) label = stream.below(std::uint32_t(c));
    for (std::size_t i = 0; i < r * c; ++i) soft.data()[i] = T(stream.uniform());  // sums to anything but 1
  }

  [[nodiscard]] std::uint32_t const* label_data() const { return use_labels ? labels.data() : nullptr; }
  [[nodiscard]] T const* soft_data() const { return use_labels ? nullptr : soft.data(); }

  void forward(cpu const& device) {
    cross_entropy_forward(device, rows, classes, std::as_const(logits).data(), label_data(), soft_data(), smoothing, loss.data(),
                          p.data());
  }
  void backward(cpu const& device, bool accumulate) {
    cross_entropy_backward(device, rows, classes, std::as_const(p).data(), label_data(), soft_data(), smoothing,
                           std::as_const(row_scale).data(), d.data(), accumulate);
  }
};

}  // namespace

TEST_CASE_TEMPLATE("softmax, its gradient and log sum exp agree with the formula at odd sizes", T, float, double) {
  for (std::size_t rows : {std::size_t{1}, std::size_t{3}, std::size_t{17}})
    for (std::size_t classes : odd_sizes) {
      CAPTURE(classes);
      auto const x = random<T>(rows * classes, 1, 3), dy = random<T>(rows * classes, 2);
      auto y = poisoned<T>(rows * classes), dx = poisoned<T>(rows * classes), lse = poisoned<T>(rows);
      exact_sums value(y.size()), gradient(y.size()), sums(rows);
      for (std::size_t r = 0; r < rows; ++r) {
        double total = 0, mean = 0, size = 0;
        auto const logs = log_softmax(x.data() + r * classes, classes, total);
        sums.add(r, total, std::abs(total) + 1);
        for (std::size_t c = 0; c < classes; ++c) {
          mean += std::exp(logs[c]) * double(dy.data()[r * classes + c]);
          size += std::exp(logs[c]) * std::abs(double(dy.data()[r * classes + c]));
        }
        for (std::size_t c = 0; c < classes; ++c) {
          double const p = std::exp(logs[c]), g = double(dy.data()[r * classes + c]);
          value.add(r * classes + c, p, p * (1 + std::abs(logs[c])));
          gradient.add(r * classes + c, p * (g - mean), p * (1 + std::abs(logs[c])) * (std::abs(g) + size));
        }
      }
      softmax_forward(cpu{}, rows, classes, x.data(), y.data());
      log_sum_exp(cpu{}, rows, classes, x.data(), lse.data());
      CHECK(errors_of_rounding(y, value) <= 8);
      CHECK(errors_of_rounding(lse, sums) <= 4);
      for (double times : {1, 2}) {
        softmax_backward(cpu{}, rows, classes, std::as_const(y).data(), dy.data(), dx.data(), times == 2);
        CHECK(errors_of_rounding(dx, gradient, times) <= 8);
      }
      CHECK((y.intact() && lse.intact() && dx.intact()));
    }
}

TEST_CASE_TEMPLATE("softmax takes infinite and enormous scores and works in place", T, float, double) {
  T const infinity = std::numeric_limits<T>::infinity();
  T x[5] = {T(3e30), -infinity, T(3e30), T(-3e30), T(0)};
  softmax_forward<T>(cpu{}, 1, 5, x, x);
  T const expected[5] = {T(0.5), T(0), T(0.5), T(0), T(0)};
  for (int i = 0; i < 5; ++i) CHECK(x[i] == expected[i]);
}

TEST_CASE_TEMPLATE("cross-entropy and its gradient agree with the formula for labels, soft targets and smoothing", T, float,
                   double) {
  for (auto kind : {targets::labels, targets::soft})
    for (double smoothing : {0.0, 0.1})
      for (std::size_t classes : odd_sizes) {
        entropy_case<T> c(7, classes, kind, smoothing);
        CAPTURE(classes);
        exact_sums loss(c.rows), d(c.d.size());
        for (std::size_t r = 0; r < c.rows; ++r) {
          double lse = 0;
          long double total = 0;
          auto const logs = log_softmax(c.logits.data() + r * classes, classes, lse);
          std::vector<double> t(classes);
          for (std::size_t i = 0; i < classes; ++i) {
            double const hard = c.use_labels ? double(c.labels[r] == i) : double(c.soft.data()[r * classes + i]);
            t[i] = (1 - double(c.smoothing)) * hard + double(c.smoothing) / double(classes);
            total += t[i];
            loss.add(r, -t[i] * logs[i], t[i] * (std::abs(lse) + std::abs(double(c.logits.data()[r * classes + i]))));
          }
          for (std::size_t i = 0; i < classes; ++i) {
            double const scale = double(c.row_scale.data()[r]), p = std::exp(logs[i]);
            d.add(r * classes + i, double(p * total - t[i]) * scale,
                  (p * double(total) * (1 + std::abs(logs[i])) + t[i]) * std::abs(scale));
          }
        }
        c.forward(cpu{});
        CHECK(errors_of_rounding(c.loss, loss) <= 8);
        for (double times : {1, 2}) {
          c.backward(cpu{}, times == 2);
          CHECK(errors_of_rounding(c.d, d, times) <= 8);
        }
        CHECK((c.loss.intact() && c.p.intact() && c.d.intact()));
      }
}

TEST_CASE("cross-entropy's gradient agrees with central differences") {
  for (auto kind : {targets::labels, targets::soft}) {
    entropy_case<double> c(3, 11, kind, 0.1);
    c.forward(cpu{});
    c.backward(cpu{}, false);
    for (std::size_t i = 0; i < c.logits.size(); ++i) {
      double const step = 1e-5;
      auto above = c, below = c;
      above.logits.data()[i] += step, below.logits.data()[i] -= step;
      above.forward(cpu{}), below.forward(cpu{});
      std::size_t const r = i / c.classes;
      double const slope = (above.loss.data()[r] - below.loss.data()[r]) / (2 * step) * c.row_scale.data()[r];
      CHECK(std::abs(slope - c.d.data()[i]) <= 1e-8);
    }
  }
}

TEST_CASE("a label beyond the classes is refused with row and label") {
  entropy_case<float> c(4, 5, targets::labels, 0);
  c.labels[2] = 5;
  std::string message;
  try {
    c.forward(cpu{});
  } catch (error const& e) {
    message = e.what();
  }
  CHECK(message == "cross_entropy: row 2 has label 5, but there are 5 classes; labels count from 0 to classes - 1");
}

TEST_CASE("rows of scores give the same bits on one thread and on several, and the loss does without probabilities") {
  thread_pool pool(2);
  entropy_case<float> one(3000, 97, targets::soft, 0.1), two = one;
  one.forward(cpu{}), two.forward(cpu{&pool});
  one.backward(cpu{}, false), two.backward(cpu{&pool}, false);
  CHECK(one.loss == two.loss);
  CHECK(one.p == two.p);
  CHECK(one.d == two.d);
  auto loss = poisoned<float>(3000);
  cross_entropy_forward<float>(cpu{}, 3000, 97, one.logits.data(), nullptr, one.soft.data(), 0.1f, loss.data(), nullptr);
  CHECK(loss == one.loss);
}
