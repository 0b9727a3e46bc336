// Evaluation, meta-tuning and pre-training on a card with images that it prepares and with images from the host.
#include <doctest/doctest.h>

#include <dvla/cuda.hpp>
#include <dvla/fewshot/cuda/card_images.cuh>
#include <dvla/fewshot/meta_trainer.hpp>
#include <dvla/fewshot/pretrainer.hpp>
#include <dvla/models/conv4.hpp>

#include "device_buffer.hpp"
#include "episode_data.hpp"

using namespace dvla;

namespace {

using backbone = conv4<conv4_32>;
using learner = prototypical_network<backbone>;

/// Images that are loaded on the host as an episode needs them.
struct plain_images {
  folder_images images;
  [[nodiscard]] std::vector<std::size_t> images_per_class() const { return images.images_per_class(); }
  void load(std::span<std::uint32_t const> indices, std::uint64_t step, std::span<float> out) const { images.load(indices, step, out); }
};

/// The accuracies of 30 episodes; the 30 images of each and the order of the calls to progress are checked.
template <class Images>
std::vector<double> accuracies(learner const& model, Images const& images) {
  auto const episodes = fixed_episodes(images.images_per_class(), {5, 1, 5}, 30);
  std::size_t calls = 0;
  auto const result = evaluate_episodes(model, images, nullptr, episodes, cuda{}, [&](evaluation const& so_far) {
    CHECK(so_far.accuracies.size() == ++calls);
    CHECK(so_far.images == 30 * calls);
  });
  CHECK(calls == episodes.size());
  CHECK(result.waited > 0);
  CHECK(result.waited < result.seconds);
  return result.accuracies;
}

/// In how many episodes two evaluations differ; all of them where one does by more than a query.
std::size_t differing(std::vector<double> const& a, std::vector<double> const& b) {
  std::size_t count = a.size() == b.size() ? 0 : a.size();
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (std::abs(a[i] - b[i]) > 1.01 / 25) return a.size();
    count += a[i] != b[i];
  }
  return count;
}

meta_settings short_run() {
  meta_settings s;
  s.shape = {3, 2, 3};
  s.episodes_per_epoch = 10;
  s.epochs = 5;
  s.backbone_lr = 1e-3;
  s.validation_episodes = 8;
  s.seed = 9;
  return s;
}

/// A learner in training; making one again is what a new process does.
template <class Images>
struct run {
  learner model{episode_data::classes};
  parameters<float, cuda> weights{model, cuda{}};
  meta_trainer<learner, Images, cuda> trainer;

  explicit run(Images const& images) : trainer((initialise(model, 2), model), weights, images, nullptr, short_run(), cuda{}) {}

  std::vector<double> losses(int steps) {
    std::vector<double> out;
    for (int i = 0; i < steps; ++i) out.push_back(trainer.step().loss);
    return out;
  }
};

double largest_difference(std::vector<double> const& a, std::vector<double> const& b) {
  double largest = a.size() == b.size() ? 0 : 1e30;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    double const d = std::abs(a[i] - b[i]);
    largest = d <= largest ? largest : d;  // a NaN stays
  }
  return largest;
}

}  // namespace

TEST_CASE("the card's accuracies are those of images from the host, ahead or as they are needed") {
  episode_data::data_set const data;
  auto const source = data.source();
  auto const how = episode_data::published();
  thread_pool pool(3);
  learner model(1);
  parameters weights(model, cuda{});
  initialise(model, 4);
  auto const needed = accuracies(model, plain_images{{&source, how}});
  card_images<> const there(cuda{}, source, how, {}, 0, &pool, {image_place::card});
  card_images<> const ahead(cuda{}, source, how, {}, 0, &pool, {image_place::host});
  CHECK(accuracies(model, ahead) == needed);
  CHECK(differing(accuracies(model, there), needed) <= 2);
  CHECK(confidence_interval(needed).mean > 0.3);  // colours tell classes apart even without training
}

TEST_CASE("meta-tuning is the same with either, equal to the bit from run to run, and validates in between") {
  episode_data::data_set const data;
  auto const source = data.source();
  auto const how = episode_data::published();
  auto const what = training_augmentation("episodic-cifar");
  thread_pool pool(3);
  card_images<> const there(cuda{}, source, how, what, 9, &pool, {image_place::card});
  card_images<> const ahead(cuda{}, source, how, what, 9, &pool, {image_place::host});
  card_images<> const val(cuda{}, source, how, {}, 0, &pool);
  run on_card(there), again(there);
  run on_host(ahead);
  plain_images const plain{{&source, how, what, 9, &pool}};
  run as_needed(plain);
  auto const losses = on_card.losses(12);
  auto const hosted = on_host.losses(12);
  CHECK(as_needed.losses(12) == hosted);
  CHECK(largest_difference(losses, hosted) <= 2e-2);
  CHECK(on_card.trainer.state().step == 12);
  auto first = again.losses(5);
  evaluation result;
  CHECK(again.trainer.validate(val, nullptr, result));
  CHECK(result.accuracies.size() == 8);
  auto const rest = again.losses(7);
  first.insert(first.end(), rest.begin(), rest.end());
  CHECK(first == losses);
  CHECK(on_card.weights.weights().read() == again.weights.weights().read());
}

TEST_CASE("a run that is set back repeats its episodes") {
  episode_data::data_set const data;
  auto const source = data.source();
  for (auto const place : {image_place::card, image_place::host}) {
    card_images<> const images(cuda{}, source, episode_data::published(), training_augmentation("episodic-cifar"), 9, nullptr, {place});
    run straight(images), set_back(images);
    auto const begin = set_back.trainer.state();
    (void)set_back.losses(1);
    set_back.trainer.restore(begin);
    auto const weights = straight.weights.weights().read();
    set_back.weights.weights().write(weights);
    set_back.weights.weights_changed();
    CHECK(set_back.trainer.step().loss == straight.trainer.step().loss);
  }
}

TEST_CASE("pre-training from the host's batches goes as from the card's") {
  episode_data::data_set const data;
  auto const source = data.source();
  auto const how = episode_data::published();
  thread_pool pool(3);
  std::vector<double> losses[2];
  for (auto const place : {image_place::card, image_place::host}) {
    std::string told;
    auto const batches =
        place_batches<float>(cuda{}, source, epoch_order({source.size(), 12, 1, true, 7}), how, training_augmentation("episodic-cifar"),
                             {episode_data::classes, {}, 0.1, 7}, &pool, {place}, told);
    backbone net(episode_data::classes);
    parameters weights(net, cuda{});
    initialise(net, 1);
    pretrain_settings settings;
    settings.epochs = 10;
    settings.warmup_epochs = 1;
    settings.seed = 7;
    pretrainer trainer(net, weights, *batches, episode_data::classes, settings, cuda{});
    for (int i = 0; i < 12; ++i) losses[place == image_place::host].push_back(trainer.step().loss);
  }
  CHECK(largest_difference(losses[0], losses[1]) <= 2e-2);
  CHECK(largest_difference({losses[0].begin() + 6, losses[0].end()}, {losses[0].begin(), losses[0].begin() + 6}) > 1e-3);
}
