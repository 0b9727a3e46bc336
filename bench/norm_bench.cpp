// Batch normalisation, layer normalisation, softmax and AdamW, one thread, float. Each is limited by memory: GB/s counts the
// arrays that must be read and written once a pass.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include <dvla/core/philox.hpp>
#include <dvla/kernels/cpu/layer_norm.hpp>
#include <dvla/kernels/cpu/norm.hpp>
#include <dvla/kernels/cpu/optimizer.hpp>
#include <dvla/kernels/cpu/softmax.hpp>

namespace {

using namespace dvla;
using namespace dvla::kernels;

struct workload {
  explicit workload(benchmark::State const& state)
      : rows(std::size_t(state.range(0))),
        columns(std::size_t(state.range(1))),
        x(filled(rows * columns)),
        dy(filled(rows * columns)),
        y(rows * columns),
        weight(filled(columns)),
        bias(filled(columns)),
        mean(rows + columns),
        spread(rows + columns, 1.0f) {}

  static std::vector<float> filled(std::size_t size) {
    random_stream stream(size, draw::test, 0, 0);
    std::vector<float> out(size);
    for (auto& e : out) e = float(stream.uniform(-1, 1));
    return out;
  }
  /// Runs the body and reports `passes` reads or writes of the matrix.
  template <class Body>
  void time(benchmark::State& state, double passes, Body const& body) {
    for (auto _ : state) {
      body();
      benchmark::ClobberMemory();
    }
    double const bytes = passes * double(rows * columns * sizeof(float));
    state.counters["GB/s"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  }

  std::size_t rows, columns;
  std::vector<float> x, dy, y, weight, bias, mean, spread;
};

void statistics(benchmark::State& state) {
  workload w(state);
  w.time(state, 1, [&] { batch_norm_statistics(cpu{}, w.rows, w.columns, w.x.data(), w.mean.data(), w.spread.data()); });
}

void batch_apply(benchmark::State& state) {
  workload w(state);
  w.time(state, 2, [&] {
    batch_norm_apply(cpu{}, w.rows, w.columns, w.x.data(), w.mean.data(), w.spread.data(), w.weight.data(), w.bias.data(),
                     w.y.data());
  });
}

void batch_backward(benchmark::State& state) {
  workload w(state);
  std::vector<float> dweight(w.columns), dbias(w.columns);
  w.time(state, 5, [&] {
    batch_norm_backward(cpu{}, w.rows, w.columns, w.x.data(), w.dy.data(), w.mean.data(), w.spread.data(), w.weight.data(),
                        w.y.data(), dweight.data(), dbias.data(), false, false, true);
  });
}

void layer_forward(benchmark::State& state) {
  workload w(state);
  w.time(state, 2, [&] {
    layer_norm_forward(cpu{}, w.rows, w.columns, 1e-5f, w.x.data(), w.weight.data(), w.bias.data(), w.y.data(), w.mean.data(),
                       w.spread.data());
  });
}

void layer_backward(benchmark::State& state) {
  workload w(state);
  std::vector<float> dweight(w.columns), dbias(w.columns);
  w.time(state, 5, [&] {
    layer_norm_backward(cpu{}, w.rows, w.columns, w.x.data(), w.dy.data(), w.mean.data(), w.spread.data(), w.weight.data(),
                        w.y.data(), dweight.data(), dbias.data(), false, false);
  });
}

void softmax(benchmark::State& state) {
  workload w(state);
  w.time(state, 2, [&] { softmax_forward(cpu{}, w.rows, w.columns, w.x.data(), w.y.data()); });
}

void adamw(benchmark::State& state) {
  workload w(state);
  std::vector<float> second(w.y.size());
  w.time(state, 7, [&] {
    adamw_step(cpu{}, w.y.size(), w.x.data(), w.dy.data(), w.y.data(), second.data(), 1e-3, 0.9, 0.999, 1e-8, 0.05, 1);
  });
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"rows", "columns"})->Unit(benchmark::kMillisecond);
  b->Args({16 * 12544, 16})->Args({16 * 784, 96})->Args({16 * 196, 192})->Args({16 * 49, 384});
}

BENCHMARK(statistics)->Apply(sizes);
BENCHMARK(batch_apply)->Apply(sizes);
BENCHMARK(batch_backward)->Apply(sizes);
BENCHMARK(layer_forward)->Apply(sizes);
BENCHMARK(layer_backward)->Apply(sizes);
BENCHMARK(softmax)->Apply(sizes);
BENCHMARK(adamw)->Args({9961, 1000})->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
