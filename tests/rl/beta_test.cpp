// Beta distribution and the gamma functions under it: golden values, central differences, and the sampler against the
// numerically integrated distribution function.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <dvla/rl/beta.hpp>

#include "support/golden_values.hpp"

namespace {

using dvla::beta_distribution;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

double scaled_error(double got, double expected) { return std::abs(got - expected) / std::max(1.0, std::abs(expected)); }

std::string message_of(auto const& call) {
  try {
    call();
  } catch (dvla::error const& e) {
    return e.what();
  }
  return "";
}

bool contains(std::string const& text, char const* part) { return text.find(part) != std::string::npos; }

double logit(double x) { return std::log(x) - std::log1p(-x); }

// The distribution function of logit(x), x ~ Beta(a, b), whose density x^a (1-x)^b / B is smooth and has exponential
// tails: the trapezoidal rule over all of it is exact to rounding, and needs no knowledge of B.
class logit_cdf {
 public:
  logit_cdf(double a, double b) {
    auto const softplus = [](double t) { return std::max(t, 0.0) + std::log1p(std::exp(-std::abs(t))); };
    auto const log_density = [&](double t) { return -a * softplus(-t) - b * softplus(t); };
    double const peak = std::log(a / b), top = log_density(peak);
    double reach = 1e-3;
    while (log_density(peak - reach) > top - 45) reach *= 1.25;
    low_ = peak - reach;
    reach = 1e-3;
    while (log_density(peak + reach) > top - 45) reach *= 1.25;
    step_ = (peak + reach - low_) / points;
    double before = std::exp(log_density(low_) - top);
    mass_.push_back(0);
    for (int i = 1; i <= points; ++i) {
      double const now = std::exp(log_density(low_ + i * step_) - top);
      mass_.push_back(mass_.back() + 0.5 * (before + now));
      before = now;
    }
  }

  double operator()(double t) const {
    double const at = std::clamp((t - low_) / step_, 0.0, static_cast<double>(points));
    auto const i = std::min<std::size_t>(static_cast<std::size_t>(at), points - 1);
    return (mass_[i] + (at - static_cast<double>(i)) * (mass_[i + 1] - mass_[i])) / mass_.back();
  }

 private:
  static constexpr int points = 40000;
  double low_ = 0, step_ = 0;
  std::vector<double> mass_;
};

std::vector<std::pair<double, double>> const parameter_pairs = {{0.01, 0.01}, {0.01, 5}, {0.3, 0.7}, {0.5, 40},  {1, 1},
                                                                {2, 3},       {5, 5},    {9.5, 0.5}, {1e4, 1e4}, {0.01, 1e4}};

}  // namespace

TEST_CASE("lgamma, digamma and trigamma equal values of 40-digit arithmetic to 1e-13") {
  struct row {
    double x, lgamma, digamma, trigamma;
  };
  for (row const& r :
       std::initializer_list<row>{{1e-06, 13.81550998074943171, -1000000.577214020014, 1000000000001.645022},
                                  {0.0137, 4.282604939505117675, -73.54760366518177748, 5329.546956491220382},
                                  {0.3, 1.095797994818075561, -3.502524222200133125, 12.2453645461077313},
                                  {0.75, 0.2032809514312953715, -1.08586087978647217, 2.541879647671606498},
                                  {1.5, -0.1207822376352452223, 0.03648997397857652056, 0.9348022005446793094},
                                  {2.25, 0.1248717148923965943, 0.5725464666237345919, 0.5573291545071107393},
                                  {4.5, 2.453736570842442221, 1.388870926359528902, 0.2487251030390103752},
                                  {9.96875, 12.73151161871771242, 2.248460733820727326, 0.1055127795136510276},
                                  {10.5, 13.94062521940376363, 2.303001034297686375, 0.0999169560591267332},
                                  {37.25, 96.61988458827810118, 3.604169073005627167, 0.0272092058039555752},
                                  {10000.0, 82099.71749644237727, 9.210290371142849404, 0.0001000050001666666663},
                                  {123456789.0, 2176716239.223269992, 18.63140176211801799, 8.100000106515001356e-9}}) {
    CAPTURE(r.x);
    CHECK(scaled_error(dvla::lgamma(r.x), r.lgamma) <= 1e-13);
    CHECK(scaled_error(dvla::digamma(r.x), r.digamma) <= 1e-13);
    CHECK(std::abs(dvla::trigamma(r.x) / r.trigamma - 1) <= 1e-13);
  }
}

// The reference program's own trigamma is good to about 1e-10 only, and its derivatives of the entropy inherit that.
TEST_CASE("lgamma, digamma and trigamma equal the reference") {
  auto const golden = dvla_test::read_golden("beta_distribution");
  auto const &arg = golden.at("arg"), &log_gamma = golden.at("lgamma"), &psi = golden.at("digamma"), &psi1 = golden.at("trigamma");
  REQUIRE(arg.size() == 90);
  for (std::size_t i = 0; i < arg.size(); ++i) {
    CAPTURE(arg[i]);
    CHECK(scaled_error(dvla::lgamma(arg[i]), log_gamma[i]) <= 1e-13);
    CHECK(scaled_error(dvla::digamma(arg[i]), psi[i]) <= 1e-13);
    CHECK(scaled_error(dvla::trigamma(arg[i]), psi1[i]) <= 1e-9);
  }
}

TEST_CASE("the gamma functions know closed forms, extremes and their domain") {
  constexpr double euler = 0.577215664901532860607, pi = 3.14159265358979323846;
  CHECK(std::abs(dvla::lgamma(1.0)) <= 1e-14);
  CHECK(std::abs(dvla::lgamma(2.0)) <= 1e-14);
  CHECK(std::abs(dvla::lgamma(0.5) - 0.5 * std::log(pi)) <= 1e-14);
  CHECK(scaled_error(dvla::lgamma(171.0), 706.57306224578734715758) <= 1e-15);
  CHECK(scaled_error(dvla::lgamma(1e-300), 300 * std::log(10.0)) <= 1e-15);
  CHECK(scaled_error(dvla::lgamma(1e300), 1e300 * (300 * std::log(10.0) - 1)) <= 1e-15);
  CHECK(std::abs(dvla::digamma(1.0) + euler) <= 1e-14);
  CHECK(std::abs(dvla::digamma(0.5) + euler + 2 * std::log(2.0)) <= 1e-14);
  CHECK(std::abs(dvla::trigamma(1.0) - pi * pi / 6) <= 1e-14);
  CHECK(std::abs(dvla::trigamma(0.5) - pi * pi / 2) <= 1e-14);
  CHECK(dvla::lgamma(0.0) == infinity);
  CHECK(dvla::lgamma(infinity) == infinity);
  CHECK(dvla::digamma(0.0) == -infinity);
  CHECK(dvla::trigamma(0.0) == infinity);
  for (double bad : {-0.5, -infinity, not_a_number}) {
    CHECK(std::isnan(dvla::lgamma(bad)));
    CHECK(std::isnan(dvla::digamma(bad)));
    CHECK(std::isnan(dvla::trigamma(bad)));
  }
  for (float x : {0.07f, 1.3f, 12.5f, 300.0f}) {
    CHECK(dvla::lgamma(x) == static_cast<float>(dvla::lgamma(static_cast<double>(x))));
    CHECK(dvla::digamma(x) == static_cast<float>(dvla::digamma(static_cast<double>(x))));
    CHECK(dvla::trigamma(x) == static_cast<float>(dvla::trigamma(static_cast<double>(x))));
  }
}

TEST_CASE("the Beta distribution's log-density, entropy and their derivatives equal the reference") {
  auto const golden = dvla_test::read_golden("beta_distribution");
  auto const &alpha = golden.at("alpha"), &beta = golden.at("beta"), &x = golden.at("x");
  REQUIRE(alpha.size() == 448);
  for (std::size_t i = 0; i < alpha.size(); ++i) {
    CAPTURE(alpha[i]);
    CAPTURE(beta[i]);
    CAPTURE(x[i]);
    beta_distribution<double> const d{alpha[i], beta[i]};
    CHECK(scaled_error(d.log_density(x[i]), golden.at("log_prob")[i]) <= 1e-12);
    CHECK(scaled_error(d.entropy(), golden.at("entropy")[i]) <= 1e-12);
    CHECK(scaled_error(d.d_log_density(x[i]).alpha, golden.at("dlogp_dalpha")[i]) <= 1e-12);
    CHECK(scaled_error(d.d_log_density(x[i]).beta, golden.at("dlogp_dbeta")[i]) <= 1e-12);
    CHECK(scaled_error(d.d_entropy().alpha, golden.at("dentropy_dalpha")[i]) <= 1e-9);
    CHECK(scaled_error(d.d_entropy().beta, golden.at("dentropy_dbeta")[i]) <= 1e-9);
  }
}

TEST_CASE("the Beta distribution's derivatives equal central differences") {
  for (auto const& pair : {std::pair{0.2, 0.6}, {0.9, 3.1}, {4.5, 5.5}, {30.0, 7.0}}) {
    double const a = pair.first, b = pair.second;
    CAPTURE(a);
    CAPTURE(b);
    double const h = 1e-4, x = 0.37;
    auto const difference = [&](auto const& f) {
      double const by_alpha = (f(beta_distribution<double>{a + h, b}) - f(beta_distribution<double>{a - h, b})) / (2 * h);
      double const by_beta = (f(beta_distribution<double>{a, b + h}) - f(beta_distribution<double>{a, b - h})) / (2 * h);
      return std::pair{by_alpha, by_beta};
    };
    beta_distribution<double> const d{a, b};
    auto const score = difference([&](auto const& at) { return at.log_density(x); });
    CHECK(scaled_error(d.d_log_density(x).alpha, score.first) <= 2e-6);
    CHECK(scaled_error(d.d_log_density(x).beta, score.second) <= 2e-6);
    auto const entropy = difference([](auto const& at) { return at.entropy(); });
    CHECK(scaled_error(d.d_entropy().alpha, entropy.first) <= 2e-6);
    CHECK(scaled_error(d.d_entropy().beta, entropy.second) <= 2e-6);
  }
}

TEST_CASE("a Beta distribution of floats computes in double and rounds once") {
  beta_distribution<float> const d{2.5f, 40.25f};
  beta_distribution<double> const wide{2.5, 40.25};
  CHECK(d.mean() == static_cast<float>(wide.mean()));
  CHECK(d.entropy() == static_cast<float>(wide.entropy()));
  CHECK(d.log_density(0.125f) == static_cast<float>(wide.log_density(0.125)));
  CHECK(d.d_log_density(0.125f).beta == static_cast<float>(wide.d_log_density(0.125).beta));
  CHECK(d.d_entropy().alpha == static_cast<float>(wide.d_entropy().alpha));
}

TEST_CASE("Beta draws follow the distribution, from parameters of 0.01 to 10000") {
  constexpr std::size_t count = 20000;
  std::uint32_t where = 0;
  for (auto const& pair : parameter_pairs) {
    double const a = pair.first, b = pair.second;
    CAPTURE(a);
    CAPTURE(b);
    dvla::random_stream random(7, dvla::draw::test, where++, 0);
    beta_distribution<double> const d{a, b};
    std::vector<double> draws(count);
    for (double& x : draws) x = d.sample(random);
    std::sort(draws.begin(), draws.end());
    CHECK(draws.front() > 0);
    CHECK(draws.back() < 1);

    double sum = 0, squares = 0;
    for (double x : draws) sum += x, squares += (x - d.mean()) * (x - d.mean());
    double const variance = a * b / ((a + b) * (a + b) * (a + b + 1)), n = count;
    double const excess = 6 * ((a - b) * (a - b) * (a + b + 1) - a * b * (a + b + 2)) / (a * b * (a + b + 2) * (a + b + 3));
    CHECK(std::abs(sum / n - d.mean()) <= 4 * std::sqrt(variance / n));
    CHECK(std::abs(squares / n - variance) <= 4 * variance * std::sqrt((excess + 2) / n));

    // Kolmogorov-Smirnov, at the points a double resolves on both sides (near 1 the draws share the last few numbers).
    logit_cdf const cdf(a, b);
    double distance = 0;
    for (std::size_t i = 0; i < count; ++i) {
      double const t = logit(draws[i]), expected = cdf(t);
      if (t < -700 || t > 30) continue;
      double const rank = static_cast<double>(i);
      distance = std::max({distance, std::abs(expected - rank / n), std::abs(expected - (rank + 1) / n)});
    }
    CHECK(distance > 0);
    CHECK(distance <= 1.95 / std::sqrt(n));
  }
}

TEST_CASE("float draws of extreme Beta distributions stay strictly inside the unit interval") {
  for (auto const& [a, b] : {std::pair{0.01f, 0.01f}, {1e-3f, 50.0f}, {50.0f, 1e-3f}, {1e4f, 1e-2f}}) {
    dvla::random_stream random(3, dvla::draw::test, 0, 1);
    beta_distribution<float> const d{a, b};
    bool inside = true, finite = true;
    for (int i = 0; i < 2000; ++i) {
      float const x = d.sample(random);
      inside = inside && x > 0 && x < 1;
      finite = finite && std::isfinite(d.log_density(x)) && std::isfinite(d.d_log_density(x).alpha);
    }
    CHECK(inside);
    CHECK(finite);
  }
}

TEST_CASE("beta_from_mean has the mean and the concentration asked for") {
  auto const d = dvla::beta_from_mean(0.3, 10.0);
  CHECK(std::abs(d.alpha - 3) <= 1e-15);
  CHECK(std::abs(d.beta - 7) <= 1e-15);
  CHECK(std::abs(d.mean() - 0.3) <= 1e-15);
}

TEST_CASE("bad parameters of a Beta distribution are named") {
  dvla::random_stream random(1, dvla::draw::test, 0, 0);
  for (double bad : {0.0, -1.0, infinity, not_a_number}) {
    CAPTURE(bad);
    CHECK(contains(message_of([&] { (void)beta_distribution<double>{bad, 1.0}.entropy(); }), "alpha is"));
    CHECK(contains(message_of([&] { (void)beta_distribution<double>{1.0, bad}.sample(random); }), "beta is"));
    CHECK(contains(message_of([&] { (void)dvla::beta_from_mean(0.5, bad); }), "kappa is"));
  }
  CHECK(message_of([] {
          (void)beta_distribution<double>{2, -1}.mean();
        }) == "Beta distribution: beta is -1; both parameters must be positive and finite");
  for (double bad : {0.0, 1.0, not_a_number}) {
    CHECK(contains(message_of([&] { (void)beta_distribution<double>{2, 2}.log_density(bad); }), "strictly between 0 and 1, but x"));
    CHECK(contains(message_of([&] { (void)dvla::beta_from_mean(bad, 10.0); }), "the mean must lie strictly between 0 and 1"));
  }
}
