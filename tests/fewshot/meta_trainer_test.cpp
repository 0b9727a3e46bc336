#include <doctest/doctest.h>

#include <dvla/core/thread_pool.hpp>
#include <dvla/fewshot/meta_trainer.hpp>
#include <dvla/io/checkpoint.hpp>

#include "fewshot/tiny_world.hpp"
#include "fewshot/training_support.hpp"

using namespace dvla;

namespace {

struct learner {
  dvla_rl<tiny::config> model{tiny::classes, 8};
  parameters<float> weights{model};
  tiny::images images{};
  class_vectors vectors = tiny::vectors();
  meta_trainer<dvla_rl<tiny::config>, tiny::images> trainer;

  static meta_settings settings() {
    meta_settings s;
    s.shape = {3, 2, 3};
    s.episodes_per_epoch = 10;
    s.epochs = 5;
    s.backbone_lr = 1e-4;
    s.validation_episodes = 8;
    s.seed = 9;
    return s;
  }
  explicit learner(executor* pool)
      : trainer((initialise(model, 2), model.backbone.drop_path(0.2), model), weights, images, &vectors, settings(), cpu{pool}) {}
};

}  // namespace

TEST_CASE("meta-tuning is equal to the bit for one thread and for three, gates and baselines included") {
  thread_pool pool(3);
  learner one(nullptr), three(&pool);
  for (int i = 0; i < 50; ++i) {
    auto const& a = one.trainer.step();
    auto const& b = three.trainer.step();
    CHECK(a.gates.size() == 2);
    CHECK(a.gates[0].action == b.gates[0].action);
    CHECK(a.gates[0].action > 0);
    CHECK(a.gates[0].action < 1);
  }
  CHECK(one.trainer.done());
  CHECK(same_bits(one.weights.weights(), three.weights.weights()));
  CHECK(same_bits(one.weights.statistics(), three.weights.statistics()));
  CHECK(one.trainer.state().baselines.size() == 2);
  CHECK(one.trainer.state().baselines == three.trainer.state().baselines);
}

TEST_CASE("meta-tuning continued from a checkpoint ends where the uninterrupted run ends, validations included") {
  temporary_file const file("meta");
  tiny::images const val{false};
  auto const run = [&](learner& l, int steps) {
    for (int i = 0; i < steps; ++i) {
      (void)l.trainer.step();
      evaluation result;
      if (l.trainer.at_epoch_end()) (void)l.trainer.validate(val, &l.vectors, result);
    }
  };
  learner straight(nullptr);
  run(straight, 50);
  {
    learner before(nullptr);
    run(before, 25);
    save_training(file.path, before.weights, before.trainer.optimizer(), before.trainer.state(), {});
  }
  learner after(nullptr);
  after.trainer.restore(load_training(open_tensors(file.path), after.weights, after.trainer.optimizer()));
  run(after, 25);
  CHECK(same_bits(straight.weights.weights(), after.weights.weights()));
  CHECK(same_bits(straight.weights.statistics(), after.weights.statistics()));
  CHECK(straight.trainer.state().best_accuracy == after.trainer.state().best_accuracy);
  CHECK(straight.trainer.state().best_step == after.trainer.state().best_step);
  CHECK(straight.trainer.state().baselines == after.trainer.state().baselines);
}

TEST_CASE("a model with semantics refuses to train without vectors") {
  dvla_rl<tiny::config> model(tiny::classes, 8);
  parameters weights(model);
  tiny::images const images{};
  CHECK_THROWS_WITH_AS((meta_trainer(model, weights, images, nullptr, learner::settings(), cpu{})),
                       doctest::Contains("needs semantic vectors"), error);
}

TEST_CASE("a prototypical network learns stripes it has never seen") {
  prototypical_network<visformer<tiny::config>> model(1);
  parameters weights(model);
  initialise(model, 4);
  tiny::images const images{}, val{false};
  meta_settings settings = learner::settings();
  settings.backbone_lr = 3e-3;
  settings.epochs = 8;
  meta_trainer trainer(model, weights, images, nullptr, settings, cpu{});
  while (!trainer.done()) (void)trainer.step();
  auto const episodes = fixed_episodes(val.images_per_class(), {3, 2, 3}, 40);
  CHECK(evaluate_episodes(model, val, nullptr, episodes, cpu{}).accuracy().mean > 0.8);
}

TEST_CASE("features computed once give every episode the accuracy that it has when it runs by itself") {
  prototypical_network<visformer<tiny::config>> model(1);
  parameters weights(model);
  initialise(model, 4);
  tiny::images const images{false};
  auto const episodes = fixed_episodes(images.images_per_class(), {4, 1, 5}, 25);
  auto const result = evaluate_episodes(model, images, nullptr, episodes, cpu{});
  CHECK(result.accuracies.size() == 25);
  CHECK(result.images <= tiny::classes * tiny::per_class);
  inference<> context;
  for (std::size_t i = 0; i < episodes.size(); ++i) {
    auto const batch = load_episode<tiny::side>(images, episodes[i], nullptr, 0);
    CHECK(run_episode(model, context, batch).accuracy == result.accuracies[i]);
  }
}
