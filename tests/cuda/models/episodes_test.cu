// DVLA-RL on a card in bfloat16: meta-training steps and evaluation episodes are replayed to the bit, gates and baselines included,
// allocate nothing after the first, and continue from a checkpoint.
#include <doctest/doctest.h>

#include <optional>

#include <dvla/cuda.hpp>
#include <dvla/fewshot/meta_trainer.hpp>

#include "small_model.hpp"

namespace {

using namespace dvla;
using device = basic_cuda<precision::bf16>;
using model_type = dvla_rl<small::config>;

meta_settings settings() {
  meta_settings s;
  s.shape = {3, 2, 3};
  s.episodes_per_epoch = 10;
  s.epochs = 5;
  s.backbone_lr = 1e-4;
  s.clip = 1;
  s.seed = 9;
  return s;
}

/// What a step reports beside its time.
struct figures {
  double loss, accuracy;
  std::vector<double> gates{};

  explicit figures(meta_trainer<model_type, tiny::images, device>::report const& r) : loss(r.loss), accuracy(r.accuracy) {
    for (auto const& g : r.gates) gates.insert(gates.end(), {g.p, g.action, g.log_density, g.entropy, g.reward, g.accuracy, g.similarity});
  }
  friend bool operator==(figures const&, figures const&) = default;
};

struct learner {
  model_type model{tiny::classes, 8};
  parameters<float, device> weights{model, device{}};
  tiny::images images{};
  class_vectors vectors = tiny::vectors();
  meta_trainer<model_type, tiny::images, device> trainer;

  learner()
      : trainer((initialise(model, 2), model.backbone.drop_path(0.2), model), weights, images, &vectors, settings(), device{}) {}

  std::vector<figures> steps(int count) {
    std::vector<figures> out;
    for (int i = 0; i < count; ++i) out.emplace_back(trainer.step());
    return out;
  }
};

void check_equal(learner& a, learner& b) {
  CHECK(small::position(a.weights, a.trainer.optimizer()) == small::position(b.weights, b.trainer.optimizer()));
  CHECK(a.trainer.state().baselines == b.trainer.state().baselines);
}

/// The logits of each episode, and the accuracies that the evaluator finds.
struct evaluated {
  std::vector<std::vector<float>> logits{};
  std::vector<double> accuracies{};

  explicit evaluated(learner const& l) {
    tiny::images const images{false};
    auto const episodes = fixed_episodes(images.images_per_class(), {3, 2, 5}, 7);
    accuracies = evaluate_episodes(l.model, images, &l.vectors, episodes, device{}).accuracies;
    inference<device> context(device{});
    replay<device> recorded;
    episode_source<tiny::side, device, tiny::images> source(device{}, images, &l.vectors, [&](std::uint64_t i) { return episodes[i]; });
    tensor<float, shape<dyn, dyn>, device> kept(15, 3);
    for (std::size_t i = 0; i < episodes.size(); ++i) {
      auto const in = source.load(i);
      recorded.run(device{}, 0, [&] {
        auto const traced = trace_episode(l.model, context, in, static_cast<float const*>(nullptr));
        copy(device{}, kept.size(), static_cast<float const*>(traced.logits.data_pointer()), kept.data());
      });
      logits.push_back(kept.read());
    }
  }
  friend bool operator==(evaluated const&, evaluated const&) = default;
};

}  // namespace

TEST_CASE("Replayed meta-training steps are those that the host issues, to the bit") {
  constexpr int count = 8;
  std::optional<learner> issued;
  std::vector<figures> issued_figures;
  {
    small::without_recording const guard(*device{}.queue);
    issued.emplace();
    issued_figures = issued->steps(count);
  }
  learner replayed, again;
  auto const found = replayed.steps(count);
  CHECK(found == issued_figures);
  CHECK(found.front().gates.size() == 14);
  check_equal(replayed, *issued);
  for (std::size_t i = 1; i < found.size(); ++i) CHECK(found[i].gates != found[i - 1].gates);  // each drew actions of its own
  CHECK(again.steps(count) == found);
  check_equal(replayed, again);
}

TEST_CASE("Replayed evaluation episodes are those that the host issues, to the bit") {
  learner one;
  (void)one.steps(3);
  evaluated const replayed(one), again(one);
  CHECK(replayed == again);
  small::without_recording const guard(*device{}.queue);
  CHECK(replayed == evaluated(one));
  for (std::size_t i = 1; i < replayed.logits.size(); ++i) CHECK(replayed.logits[i] != replayed.logits[i - 1]);
}

TEST_CASE("Meta-training takes no device memory after its first step") {
  learner one;
  (void)one.steps(1);
  auto const taken = device::allocations();
  (void)one.steps(5);
  CHECK(device::allocations() == taken);
}

TEST_CASE("Meta-training on a card continued from a checkpoint ends where the uninterrupted run ends") {
  small::temporary_file const file("meta");
  learner straight;
  auto const found = straight.steps(9);
  {
    learner before;
    (void)before.steps(4);
    save_training(file.path, before.weights, before.trainer.optimizer(), before.trainer.state(), {});
  }
  learner after;
  after.trainer.restore(load_training(open_tensors(file.path), after.weights, after.trainer.optimizer()));
  CHECK(after.steps(5) == std::vector<figures>(found.begin() + 4, found.end()));
  check_equal(straight, after);
}
