// Pre-training on a card in bfloat16: a replayed step is the step that the host would issue, nothing is allocated after the first
// and nothing waits inside one, runs repeat themselves to the bit, and so do runs that were interrupted.
#include <doctest/doctest.h>

#include <cmath>
#include <optional>

#include <dvla/cuda.hpp>
#include <dvla/fewshot/pretrainer.hpp>

#include "small_model.hpp"

namespace {

using namespace dvla;
using device = basic_cuda<precision::bf16>;
using network = visformer<small::config>;

pretrain_settings settings() {
  pretrain_settings s;
  s.epochs = 4;
  s.warmup_epochs = 1;
  s.lr = 2e-3;
  s.average = 0.9;
  s.clip = 1;
  s.seed = 5;
  return s;
}

/// A model in training; making one again is what a new process does.
struct classifier {
  network net{tiny::classes};
  parameters<float, device> weights{net, device{}};
  tiny::batches source;
  pretrainer<network, tiny::batches, device> trainer;

  explicit classifier(std::uint64_t first = 0)
      : source(first), trainer((initialise(net, 1), net.drop_path(0.2), net), weights, source, tiny::classes, settings(), device{}) {}

  /// The losses of so many steps.
  std::vector<double> steps(int count) {
    std::vector<double> losses;
    for (int i = 0; i < count; ++i) losses.push_back(trainer.step().loss);
    return losses;
  }
};

void check_equal(classifier& a, classifier& b) {
  CHECK(small::position(a.weights, a.trainer.optimizer()) == small::position(b.weights, b.trainer.optimizer()));
  CHECK(a.trainer.average()->read() == b.trainer.average()->read());
  CHECK(a.trainer.optimizer().steps() == b.trainer.optimizer().steps());
}

/// Keeps a stream busy until the host opens the gate; for ten seconds at most.
__global__ void wait_at_gate(unsigned const volatile* open, unsigned* passed_unopened) {
  long long const begin = clock64();
  while (*open == 0)
    if (clock64() - begin > 20'000'000'000LL) {
      *passed_unopened = 1;
      return;
    }
}

struct gate {
  unsigned* words = nullptr;  // open; passed unopened
  gate() {
    kernels::cuda_check(cudaHostAlloc(&words, 2 * sizeof(unsigned), cudaHostAllocMapped), "allocating a gate");
    words[0] = words[1] = 0;
  }
  gate(gate const&) = delete;
  gate& operator=(gate const&) = delete;
  ~gate() { (void)cudaFreeHost(words); }
};

}  // namespace

TEST_CASE("Replayed steps of pre-training are those that the host issues, to the bit") {
  constexpr int count = 8;
  std::optional<classifier> issued;
  std::vector<double> losses_issued;
  {
    small::without_recording const guard(*device{}.queue);
    issued.emplace();
    losses_issued = issued->steps(count);
  }
  classifier replayed, again;
  auto const losses = replayed.steps(count);
  CHECK(losses == losses_issued);
  check_equal(replayed, *issued);
  for (int i = 1; i < count; ++i) CHECK(losses[static_cast<std::size_t>(i)] != losses[static_cast<std::size_t>(i - 1)]);
  CHECK(again.steps(count) == losses);
  check_equal(replayed, again);
}

TEST_CASE("Pre-training takes no device memory after its first step") {
  classifier one;
  (void)one.steps(1);
  auto const taken = device::allocations();
  (void)one.steps(6);
  CHECK(device::allocations() == taken);
}

TEST_CASE("Pre-training on a card continued from a checkpoint ends where the uninterrupted run ends") {
  small::temporary_file const file("pretraining");
  classifier straight;
  auto const losses = straight.steps(10);
  {
    classifier before;
    (void)before.steps(4);
    save_training(file.path, before.weights, before.trainer.optimizer(), before.trainer.state(), {}, before.trainer.average());
  }
  auto const archive = open_tensors(file.path);
  classifier after(read_training_state(archive).step);
  after.trainer.state() = load_training(archive, after.weights, after.trainer.optimizer(), after.trainer.average());
  CHECK(after.trainer.state().step == 4);
  CHECK(after.steps(6) == std::vector<double>(losses.begin() + 4, losses.end()));
  check_equal(straight, after);
}

TEST_CASE("A loss on a card that is not finite ends pre-training with a sentence") {
  classifier one;
  (void)one.steps(2);
  one.source.spoilt = true;
  CHECK_THROWS_WITH_AS((void)one.trainer.step(), doctest::Contains("the loss is not finite at step 2"), error);
}

TEST_CASE("The host has issued a replayed step before the card begins it") {
  constexpr std::size_t side = tiny::side, batch = 12;
  device const on;
  network net(tiny::classes);
  parameters weights(net, on);
  initialise(net, 1);
  adamw optimizer(weights, 1e-3);
  tape<device> t(on);
  t.training(true);
  tiny::batches source(0);
  staged<float, device> pixels, targets;
  replay<device> recorded;
  std::vector<float> rows(batch * tiny::classes, 1.0f / tiny::classes);
  using images = view<float const, shape<dyn, side, side, 3>, contiguous, device>;
  using target_rows = view<float const, shape<dyn, dyn>, contiguous, device>;
  auto const step = [&](std::uint64_t number) {
    images const in(pixels.put(on, source.next().pixels), shape<dyn, side, side, 3>(batch));
    target_rows const wanted(targets.put(on, rows), shape<dyn, dyn>(batch, tiny::classes));
    optimizer.begin_step(1);
    recorded.run(on, number, [&] {
      t.begin_step(1, number);
      weights.zero_gradients();
      t.backward(cross_entropy(net(t(in)), wanted));
      optimizer.apply_step();
    });
  };
  for (std::uint64_t i = 0; i < 3; ++i) step(i);
  on.queue->wait();
  gate const shut;
  wait_at_gate<<<1, 1, 0, on.stream()>>>(shut.words, shut.words + 1);
  kernels::cuda_launched("waiting at a gate");
  step(3);
  CHECK(cudaStreamQuery(on.stream()) == cudaErrorNotReady);
  *static_cast<unsigned volatile*>(shut.words) = 1;
  on.queue->wait();
  CHECK(shut.words[1] == 0);
}
