// Matrix products of the shapes that occur in a Visformer-Tiny step over 16 images, one thread.
#include <cstddef>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include <dvla/kernels/cpu/gemm.hpp>

#include "fma_peak.hpp"

namespace {

struct product {
  char const* what;
  std::size_t m, n, k;
  bool trans_a, trans_b;
};

constexpr product products[] = {
    {"stage1 conv1 y", 12544, 192, 96, false, true},   {"stage1 conv3 y", 12544, 96, 192, false, true},
    {"stage2 qkv y", 3136, 576, 192, false, true},     {"stage2 proj y", 3136, 192, 192, false, true},
    {"stage2 fc1 y", 3136, 768, 192, false, true},     {"stage2 fc2 y", 3136, 192, 768, false, true},
    {"stage3 qkv y", 784, 1152, 384, false, true},     {"stage3 proj y", 784, 384, 384, false, true},
    {"stage3 fc1 y", 784, 1536, 384, false, true},     {"stage3 fc2 y", 784, 384, 1536, false, true},
    {"stage1 conv1 dx", 12544, 96, 192, false, false}, {"stage2 fc1 dx", 3136, 192, 768, false, false},
    {"stage3 fc1 dx", 784, 384, 1536, false, false},   {"stage1 conv1 dw", 192, 96, 12544, true, false},
    {"stage1 conv3 dw", 96, 192, 12544, true, false},  {"stage2 fc1 dw", 768, 192, 3136, true, false},
    {"stage2 fc2 dw", 192, 768, 3136, true, false},    {"stage3 fc1 dw", 1536, 384, 784, true, false},
    {"stage3 proj dw", 384, 384, 784, true, false},    {"prototypes", 5, 64, 384, false, false},
    {"logits", 75, 5, 384, false, true},               {"square", 2048, 2048, 2048, false, false},
};

template <class T>
void run(benchmark::State& state, product const& s) {
  std::vector<T> const a(s.m * s.k, T(0.5)), b(s.n * s.k, T(0.25));
  std::vector<T> c(s.m * s.n);
  dvla::kernels::gemm_problem<T> const problem{.m = s.m, .n = s.n, .k = s.k, .a = a.data(), .lda = s.trans_a ? s.m : s.k,
                                               .trans_a = s.trans_a, .b = b.data(), .ldb = s.trans_b ? s.k : s.n,
                                               .trans_b = s.trans_b, .c = c.data(), .ldc = s.n};
  for (auto _ : state) {
    dvla::kernels::gemm(dvla::cpu{}, problem);
    benchmark::ClobberMemory();
  }
  report_flops<T>(state, 2.0 * static_cast<double>(s.m * s.n * s.k));
}

std::string size_name(product const& s) {
  return std::string(s.what) + " " + std::to_string(s.m) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k);
}

bool const registered = [] {
  for (product const& s : products) {
    std::string const name = "gemm<float> " + size_name(s);
    benchmark::RegisterBenchmark(name.c_str(), [&s](benchmark::State& state) { run<float>(state, s); });
  }
  benchmark::RegisterBenchmark("gemm<double> square 768", [](benchmark::State& state) {
    run<double>(state, {"", 768, 768, 768, false, false});
  });
  return true;
}();

}  // namespace
