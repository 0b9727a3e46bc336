// What one core can do at most, measured in the process that is judged by it: fused multiply-adds on registers alone.
#pragma once

#include <algorithm>
#include <cstddef>
#include <ctime>

#include <benchmark/benchmark.h>

#include <dvla/core/config.hpp>
#include <dvla/core/simd.hpp>

/// Floating-point operations a second of one thread in T, the best of several runs; measured at the first call.
template <class T>
double fma_peak() {
  static double const peak = [] {
    using dvla::batch;
    constexpr std::size_t chains = 12, rounds = 2000000;
    typename batch<T>::register_type const x = batch<T>(T(0.5));
    typename batch<T>::register_type sum[chains];
    DVLA_UNROLL(12)
    for (std::size_t i = 0; i < chains; ++i) sum[i] = batch<T>(static_cast<T>(i));
    double best = 0;
    for (int run = 0; run < 10; ++run) {
      std::clock_t const start = std::clock();  // as the benchmarks count: time on the processor
      for (std::size_t r = 0; r < rounds; ++r) {
        DVLA_UNROLL(12)
        for (std::size_t i = 0; i < chains; ++i) sum[i] = sum[i] * x + x;
      }
      double const time = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
      best = std::max(best, static_cast<double>(2 * rounds * chains * dvla::lanes<T>) / time);
    }
    batch<T> total(T(0));
    for (std::size_t i = 0; i < chains; ++i) total += batch<T>(sum[i]);
    T const kept = dvla::simd::reduce_add(total);
    benchmark::DoNotOptimize(kept);
    return best;
  }();
  return peak;
}

/// Reports the speed of `flops` operations an iteration, in GFLOP/s and in percent of the core's peak.
template <class T>
void report_flops(benchmark::State& state, double flops) {
  double const done = flops * static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = benchmark::Counter(done / 1e9, benchmark::Counter::kIsRate);
  state.counters["%peak"] = benchmark::Counter(100 * done / fma_peak<T>(), benchmark::Counter::kIsRate);
}
