// Learning-rate schedules against the golden file and their own definition.
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>

#include <dvla/nn/schedule.hpp>

#include "support/golden_values.hpp"

namespace {

using dvla::constant_schedule;
using dvla::cosine_schedule;

std::string message_of(auto const& call) {
  try {
    call();
  } catch (dvla::error const& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the cosine schedules equal the golden file at all 801 epochs") {
  auto const golden = dvla_test::read_golden("lr_schedule");
  auto const &time = golden.at("t"), &published = golden.at("lr800"), &plain = golden.at("cosine800");
  REQUIRE(time.size() == 801);
  cosine_schedule const cosine{};
  cosine_schedule const stretched{.k_decay = 0.1};
  for (std::size_t i = 0; i < time.size(); ++i) {
    CAPTURE(time[i]);
    CHECK(std::abs(stretched(time[i]) - published[i]) <= 1e-12 * published[i] + 1e-18);
    CHECK(std::abs(cosine(time[i]) - plain[i]) <= 1e-12 * plain[i] + 1e-18);
  }
}

TEST_CASE("the schedule by step passes through the schedule by epoch") {
  cosine_schedule const by_epoch{.total = 300, .min_rate = 1e-5, .k_decay = 0.1};
  cosine_schedule const by_step{.total = 300 * 150, .warmup = 5 * 150, .min_rate = 1e-5, .k_decay = 0.1};
  for (double epoch : {0.0, 0.5, 3.25, 4.99, 5.0, 17.5, 299.0, 300.0, 1000.0})
    CHECK(std::abs(by_step(epoch * 150) - by_epoch(epoch)) <= 1e-18);
}

TEST_CASE("the cosine schedule begins at the warm-up rate, and ends and stays at the minimum") {
  cosine_schedule const schedule{.total = 100, .warmup = 10, .base_rate = 1, .warmup_rate = 0.25, .min_rate = 0.125};
  CHECK(schedule(0) == 0.25);
  CHECK(schedule(5) == 0.625);
  CHECK(std::abs(schedule(50) - 0.5625) <= 1e-15);
  CHECK(schedule(100) == 0.125);
  CHECK(schedule(1e9) == 0.125);
  CHECK(cosine_schedule{.total = 10, .warmup = 0, .base_rate = 2}(0) == 2);
  CHECK(cosine_schedule{.total = 10, .warmup = 10, .base_rate = 2}(10) == 0);
}

TEST_CASE("the constant schedule is constant") {
  CHECK(constant_schedule{1e-6}(0) == 1e-6);
  CHECK(constant_schedule{1e-6}(1e9) == 1e-6);
}

TEST_CASE("settings without a meaning are refused by name") {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  auto const refused = [](auto const& schedule, double t, char const* part) {
    return message_of([&] { (void)schedule(t); }).find(part) != std::string::npos;
  };
  for (double bad : {nan, -1.0, inf}) {
    CHECK(refused(cosine_schedule{.base_rate = bad}, 1, "base_rate is"));
    CHECK(refused(cosine_schedule{.warmup_rate = bad}, 1, "warmup_rate is"));
    CHECK(refused(cosine_schedule{.min_rate = bad}, 1, "min_rate is"));
    CHECK(refused(cosine_schedule{.total = bad}, 1, "total is"));
    CHECK(refused(cosine_schedule{.warmup = bad}, 1, "warmup is"));
    CHECK(refused(cosine_schedule{.k_decay = bad}, 1, "k_decay is"));
    CHECK(refused(constant_schedule{bad}, 1, "rate is"));
  }
  CHECK(refused(cosine_schedule{.total = 4}, 1, "give a time between 0 and total, 4"));
  CHECK(refused(cosine_schedule{}, -1, "the time is -1; count epochs or steps from 0"));
  CHECK(refused(cosine_schedule{}, nan, "the time is nan"));
}
