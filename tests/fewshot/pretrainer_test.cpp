#include <doctest/doctest.h>

#include <dvla/core/thread_pool.hpp>
#include <dvla/fewshot/pretrainer.hpp>
#include <dvla/io/checkpoint.hpp>

#include "fewshot/tiny_world.hpp"
#include "fewshot/training_support.hpp"

using namespace dvla;

namespace {

pretrain_settings short_run() {
  pretrain_settings s;
  s.epochs = 50.0 / 6;
  s.warmup_epochs = 1;
  s.lr = 2e-3;
  s.average = 0.9;
  s.clip = 1;
  s.seed = 5;
  return s;
}

/// A model in training; making one again is what a new process does.
struct classifier {
  visformer<tiny::config> net{tiny::classes};
  parameters<float> weights{net};
  tiny::batches source;
  pretrainer<visformer<tiny::config>, tiny::batches> trainer;

  explicit classifier(executor* pool, pretrain_settings const& s = short_run(), std::uint64_t first = 0)
      : source(first), trainer((initialise(net, 1), net.drop_path(0.2), net), weights, source, tiny::classes, s, cpu{pool}) {}
};

}  // namespace

TEST_CASE("pre-training is equal to the bit for one thread and for three, and the loss falls") {
  thread_pool pool(3);
  classifier one(nullptr), three(&pool);
  double first = 0, last = 0;
  for (int i = 0; i < 50; ++i) {
    auto const report = one.trainer.step();
    (void)three.trainer.step();
    (i < 5 ? first : last) += i < 5 || i >= 45 ? report.loss / 5 : 0;
  }
  CHECK(one.trainer.done());
  CHECK(same_bits(one.weights.weights(), three.weights.weights()));
  CHECK(same_bits(one.weights.statistics(), three.weights.statistics()));
  CHECK(same_bits(*one.trainer.average(), *three.trainer.average()));
  CHECK(last < first);
}

TEST_CASE("pre-training continued from a checkpoint ends where the uninterrupted run ends") {
  temporary_file const file("pretrain");
  classifier straight(nullptr);
  for (int i = 0; i < 50; ++i) (void)straight.trainer.step();
  {
    classifier before(nullptr);
    for (int i = 0; i < 25; ++i) (void)before.trainer.step();
    save_training(file.path, before.weights, before.trainer.optimizer(), before.trainer.state(), {}, before.trainer.average());
  }
  auto const archive = open_tensors(file.path);
  classifier after(nullptr, short_run(), read_training_state(archive).step);
  after.trainer.state() = load_training(archive, after.weights, after.trainer.optimizer(), after.trainer.average());
  CHECK(after.trainer.state().step == 25);
  for (int i = 0; i < 25; ++i) (void)after.trainer.step();
  CHECK(same_bits(straight.weights.weights(), after.weights.weights()));
  CHECK(same_bits(straight.weights.statistics(), after.weights.statistics()));
  CHECK(same_bits(*straight.trainer.average(), *after.trainer.average()));
}

TEST_CASE("a time limit compresses the schedule: at half the time the rate is that of half the run") {
  auto settings = short_run();
  settings.max_seconds = 1000;
  classifier limited(nullptr, settings);
  limited.trainer.state().seconds = 500;
  auto const report = limited.trainer.step();
  cosine_schedule const schedule{settings.epochs, settings.warmup_epochs, settings.lr, settings.warmup_lr, 0, settings.k_decay};
  CHECK(report.progress == 0.5);
  CHECK(report.rate == schedule(settings.epochs / 2));
  limited.trainer.state().seconds = 1000;
  CHECK(limited.trainer.done());
}

TEST_CASE("a loss that is not finite ends pre-training with a sentence, before the weights are touched") {
  classifier one(nullptr);
  auto const before = one.weights.weights().clone();
  one.source.spoilt = true;
  CHECK_THROWS_WITH_AS((void)one.trainer.step(), doctest::Contains("the loss is not finite at step 0"), error);
  CHECK(same_bits(before, one.weights.weights()));
}
