// Attention, one thread, float: forward and backward at the sizes of Visformer-Tiny and of the gated fusion. GFLOP/s counts
// the products alone: two of queries x keys x head_dim forward, five backward. The exponential is what limits small heads,
// the multiply-add units the others.
#include <benchmark/benchmark.h>

#include <cmath>
#include <vector>

#include <dvla/core/philox.hpp>
#include <dvla/kernels/cpu/attention.hpp>
#include <dvla/kernels/cpu/attention_backward.hpp>

namespace {

using namespace dvla;
using namespace dvla::kernels;

struct workload {
  explicit workload(benchmark::State const& state)
      : shape{size(state, 0), size(state, 1), size(state, 2), size(state, 3), size(state, 4)},
        scale(1 / std::sqrt(float(shape.head_dim))),
        q(filled(shape.queries)),
        k(filled(shape.keys)),
        v(filled(shape.keys)),
        o(q.size()),
        d_o(filled(shape.queries)),
        dq(q.size()),
        dk(k.size()),
        dv(v.size()),
        lse(shape.batch * shape.heads * shape.queries) {}

  static std::size_t size(benchmark::State const& state, std::size_t i) { return std::size_t(state.range(i)); }

  [[nodiscard]] std::vector<float> filled(std::size_t tokens) const {
    random_stream stream(tokens, draw::test, 0, 0);
    std::vector<float> out(shape.batch * tokens * shape.heads * shape.head_dim);
    for (auto& x : out) x = float(stream.uniform(-1, 1));
    return out;
  }
  [[nodiscard]] attention_strides strides(std::size_t tokens) const {
    std::size_t const row = shape.heads * shape.head_dim;
    return {tokens * row, shape.head_dim, row};
  }

  void forward() {
    auto const sq = strides(shape.queries), sk = strides(shape.keys);
    attention_forward<float>(cpu{}, shape, scale, {q.data(), sq}, {k.data(), sk}, {v.data(), sk}, {o.data(), sq}, lse.data());
  }
  void backward() {
    auto const sq = strides(shape.queries), sk = strides(shape.keys);
    attention_backward<float>(cpu{}, shape, scale, {q.data(), sq}, {k.data(), sk}, {v.data(), sk}, {o.data(), sq}, lse.data(),
                              {d_o.data(), sq}, {dq.data(), sq}, {dk.data(), sk}, {dv.data(), sk}, false);
  }
  void report(benchmark::State& state, double products) const {
    double const flops = products * 2 * double(shape.batch * shape.heads * shape.queries * shape.keys * shape.head_dim);
    state.counters["GFLOP/s"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  }

  attention_shape shape;
  float scale;
  std::vector<float> q, k, v, o, d_o, dq, dk, dv, lse;
};

void forward(benchmark::State& state) {
  workload w(state);
  for (auto _ : state) {
    w.forward();
    benchmark::ClobberMemory();
  }
  w.report(state, 2);
}

void backward(benchmark::State& state) {
  workload w(state);
  w.forward();
  for (auto _ : state) {
    w.backward();
    benchmark::ClobberMemory();
  }
  w.report(state, 5);
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"batch", "heads", "queries", "keys", "head_dim"})->Unit(benchmark::kMillisecond);
  b->Args({16, 3, 196, 196, 64});
  b->Args({16, 3, 49, 49, 128});
  b->Args({16, 8, 45, 196, 24});
  b->Args({16, 3, 64, 64, 32});
  b->Args({16, 3, 16, 16, 64});
  b->Args({1, 3, 1024, 1024, 64});
}

BENCHMARK(forward)->Apply(sizes);
BENCHMARK(backward)->Apply(sizes);

}  // namespace

BENCHMARK_MAIN();
