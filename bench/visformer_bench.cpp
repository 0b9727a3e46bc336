// Visformer-Tiny at 224, batch 16, one thread: forward and training step. The same in PyTorch: bench/peers/visformer_torch.py.
#include <benchmark/benchmark.h>

#include <dvla/autodiff/loss.hpp>
#include <dvla/models/visformer.hpp>
#include <dvla/nn/optimizer.hpp>

namespace {

using namespace dvla;

constexpr std::size_t batch = 16, classes = 64;
constexpr double forward_flops = 2.535e9 * batch;  // multiply-adds counted twice, per image 2.535 GFLOP

struct bench_model {
  visformer<visformer_tiny_224> net{classes};
  parameters<> weights{net};
  tensor<float, shape<dyn, 224, 224, 3>> images{batch};
  std::vector<std::uint32_t> labels;

  bench_model() {
    initialise(net, 1);
    random_stream random(1, draw::test, 0, 0);
    for (std::size_t i = 0; i < images.size(); ++i) images.data()[i] = static_cast<float>(random.normal());
    for (std::size_t i = 0; i < batch; ++i) labels.push_back(static_cast<std::uint32_t>(i % classes));
  }
};

void forward(benchmark::State& state) {
  bench_model m;
  inference<> context;
  for (auto _ : state) benchmark::DoNotOptimize(m.net(context(m.images)).data_pointer());
  state.counters["FLOP/s"] = benchmark::Counter(forward_flops, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["arena MB"] = static_cast<double>(context.memory().peak_bytes()) / 1e6;
}

void training_step(benchmark::State& state) {
  bench_model m;
  adamw optimizer(m.weights, 5e-4, 0.05);
  tape<> t;
  t.training(true);
  for (auto _ : state) {
    m.weights.zero_gradients();
    auto const loss = cross_entropy(m.net(t(m.images)), m.labels, 0.1);
    t.backward(loss);
    optimizer.step();
  }
  state.counters["FLOP/s"] = benchmark::Counter(3 * forward_flops, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["arena MB"] = static_cast<double>(t.memory().peak_bytes()) / 1e6;
}

}  // namespace

BENCHMARK(forward)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(training_step)->Unit(benchmark::kMillisecond)->UseRealTime();
