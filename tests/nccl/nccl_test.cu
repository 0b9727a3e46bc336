// What cards exchange, and training by several as by one. Every rank runs the same cases in the same order.
#include <doctest/doctest.h>

#include <dvla/cuda.hpp>
#include <dvla/fewshot/pretrainer.hpp>
#include <dvla/kernels/cuda/nccl_communicator.cuh>

#include <cstdio>
#include <memory>

#include "device_buffer.hpp"
#include "support/plain_classifier.hpp"

using namespace dvla;

namespace {

using strict = basic_cuda<precision::f32>;
using narrow = basic_cuda<precision::bf16>;
static_assert(communicator<nccl_communicator, strict> && communicator<nccl_communicator, narrow, double>);

launch const& who() {
  static launch const out = launch_from_environment();
  return out;
}

/// This rank's card in any precision.
template <class Device = strict>
Device device() {
  static cuda_queue queue(card_of(who()));
  if constexpr (std::is_same_v<Device, strict>) return {{}, &queue};
  else return {{}, device<strict>().queue};
}

nccl_communicator const& ranks() {
  static nccl_communicator const* const out = new nccl_communicator(device(), who());  // never left: it serves all cases
  return *out;
}

/// Whether rank 0 has the same bits.
template <class T>
bool same_everywhere(std::vector<T> const& mine) {
  device_buffer<T> first(mine);
  ranks().broadcast(device(), mine.size(), first.data());
  device_buffer<double> equal(std::vector<double>{same_bits(first.get(), mine) ? 1.0 : 0.0});
  ranks().all_reduce_mean(device(), 1, equal.data());
  return equal.get()[0] == 1;
}

template <class T>
void check_sums(std::size_t size) {
  CAPTURE(size);
  device_buffer<T> integers(small_integers<T>(size, 40 + who().rank));
  ranks().all_reduce_sum(device(), size, integers.data());
  std::vector<double> expected(size, 0);
  for (std::size_t r = 0; r < who().size; ++r) {
    auto const of_rank = small_integers<T>(size, 40 + r);
    for (std::size_t i = 0; i < size; ++i) expected[i] += as_double(of_rank[i]);
  }
  CHECK(relative_error(integers.get(), expected) == 0);
  CHECK(integers.intact());

  std::vector<T> before;
  for (int repeat = 0; repeat < 3; ++repeat) {
    device_buffer<T> numbers(normal_numbers<T>(size, 60 + who().rank));
    ranks().all_reduce_mean(device(), size, numbers.data());
    auto const after = numbers.get();
    CHECK(numbers.intact());
    CHECK(same_everywhere(after));
    if (repeat > 0) CHECK(same_bits(after, before));
    before = after;
  }
  std::vector<double> mean(size, 0);
  for (std::size_t r = 0; r < who().size; ++r) {
    auto const of_rank = normal_numbers<T>(size, 60 + r);
    for (std::size_t i = 0; i < size; ++i) mean[i] += as_double(of_rank[i]) / static_cast<double>(who().size);
  }
  CHECK(relative_error(before, mean) <= (sizeof(T) == 8 ? 1e-15 : 1e-6));

  device_buffer<T> sent(normal_numbers<T>(size, 80 + who().rank));
  ranks().broadcast(device(), size, sent.data());
  CHECK(same_bits(sent.get(), normal_numbers<T>(size, 80)));
}

pretrain_settings settings() {
  pretrain_settings s;
  s.epochs = 4;
  s.warmup_epochs = 0.5;
  s.lr = 5e-3;
  s.average = 0.9;
  s.clip = 0.5;
  s.seed = 5;
  return s;
}

template <class Model, class Device, class Ranks>
struct run {
  Model model;
  parameters<float, Device> weights;
  plain::batches source;
  pretrainer<Model, plain::batches, Device, Ranks> trainer;
  std::vector<double> losses{};

  /// `seed` of the initial weights: rank 0's count.
  run(Ranks const& all, std::uint64_t seed)
      : weights(model, device<Device>()),
        source(share_of(all)),
        trainer((initialise(model, seed), model), weights, source, plain::classes, settings(), device<Device>(), all) {}
  void steps(int count) {
    for (int i = 0; i < count; ++i) losses.push_back(trainer.step().loss);
  }
};

template <class Device>
void check_training(double tolerance) {
  using model = plain::with_layer_norm;
  run<model, Device, single_process> alone(single_process{}, 1);
  alone.steps(30);
  run<model, Device, nccl_communicator> shared(ranks(), 1 + who().rank);
  shared.steps(30);  // the first is issued, the second recorded, the others replayed
  CHECK(alone.losses.back() < 0.8 * alone.losses.front());
  double worst = 0;
  for (std::size_t i = 0; i < 30; ++i) worst = std::max(worst, std::abs(shared.losses[i] - alone.losses[i]) / alone.losses[i]);
  if (who().rank == 0)
    std::printf("loss %.4f to %.4f; %zu cards differ from one by %.1e\n", alone.losses.front(), alone.losses.back(), who().size, worst);
  CHECK(worst <= tolerance);
  CHECK(same_everywhere(shared.losses));
  CHECK(same_everywhere(shared.weights.weights().read()));
  CHECK(same_everywhere(shared.trainer.average()->read()));
  CHECK(same_everywhere(shared.trainer.optimizer().second_moments().read()));
  if constexpr (!std::is_same_v<Device, strict>) {
    std::vector<bfloat16> rounded(shared.weights.weights().size()), expected;
    for (float const w : shared.weights.weights().read()) expected.push_back(bfloat16(w));
    Device::copy_bytes(rounded.data(), shared.weights.rounded(), rounded.size() * sizeof(bfloat16));
    CHECK(same_bits(rounded, expected));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("Sums, means and rank 0's numbers reach every card, with the same bits every time", T, float, double) {
  for (std::size_t const size : {std::size_t{1}, std::size_t{3}, std::size_t{1000}, (std::size_t{1} << 20) + 5}) check_sums<T>(size);
  ranks().all_reduce_sum(device(), 0, static_cast<T*>(nullptr));
}

TEST_CASE("What is exchanged in a recorded step is exchanged at every replay") {
  auto const here = device();
  auto const n = std::size_t{4097};
  device_buffer<float> from(n), to(n);
  replay<strict> recorded;
  for (std::uint64_t step = 0; step < 6; ++step) {
    from.put(small_integers<float>(n, 100 * step + who().rank));
    recorded.run(here, step, [&] {
      copy(here, n, static_cast<float const*>(from.data()), to.data());
      ranks().all_reduce_sum(here, n, to.data());
    });
    std::vector<double> expected(n, 0);
    for (std::size_t r = 0; r < who().size; ++r) {
      auto const of_rank = small_integers<float>(n, 100 * step + r);
      for (std::size_t i = 0; i < n; ++i) expected[i] += as_double(of_rank[i]);
    }
    CHECK(relative_error(to.get(), expected) == 0);
  }
}

TEST_CASE("Several cards train as one does with the whole batch, and keep the same weights to the bit") {
  check_training<strict>(1e-3);
  check_training<narrow>(5e-2);
}

TEST_CASE("Running statistics are each card's own until they are averaged") {
  run<plain::with_batch_norm, strict, nccl_communicator> shared(ranks(), 1);
  shared.steps(6);
  CHECK(same_everywhere(shared.weights.weights().read()));
  auto const own = shared.weights.statistics().read();
  CHECK_FALSE(same_everywhere(own));
  shared.trainer.average_statistics();
  auto const mean = shared.weights.statistics().read();
  CHECK(same_everywhere(mean));
  CHECK(mean != own);
  auto const report = shared.trainer.step({who().rank == 0, who().rank + 1 == who().size});
  CHECK(report.wishes.save);
  CHECK(report.wishes.stop);
}

TEST_CASE("Processes can leave, and meet again") {
  for (int meeting = 0; meeting < 2; ++meeting) {
    nccl_communicator const again(device(), who());
    device_buffer<float> one(std::vector<float>{1});
    again.all_reduce_sum(device(), 1, one.data());
    CHECK(one.get()[0] == static_cast<float>(who().size));
  }
}
