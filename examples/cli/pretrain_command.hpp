// dvla pretrain: classification of the base classes.
#pragma once

#include <dvla/data/loader.hpp>
#include <dvla/fewshot/evaluator.hpp>
#include <dvla/fewshot/folder_images.hpp>
#include <dvla/fewshot/pretrainer.hpp>

#include "run_support.hpp"

namespace cli {

[[nodiscard]] inline json pretrain_configuration(pretrain_options const& o, std::size_t classes, std::string const& preprocess) {
  return {{"command", "pretrain"},
          {"model", o.model},
          {"classes", classes},
          {"preprocess", preprocess},
          {"augment", o.augment},
          {"smallest_area", o.smallest_area},
          {"erasing", o.erasing},
          {"epochs", o.epochs},
          {"warmup", o.warmup},
          {"lr", o.lr},
          {"weight_decay", o.weight_decay},
          {"k_decay", o.k_decay},
          {"label_smoothing", o.label_smoothing},
          {"mixup", o.mixup},
          {"cutmix", o.cutmix},
          {"drop_path", o.drop_path},
          {"clip", o.clip},
          {"average", o.average},
          {"batch", o.batch},
          {"repeats", o.repeats},
          {"seed", o.run.seed},
          {"max_minutes", o.run.max_minutes}};
}

[[nodiscard]] inline dvla::pretrain_settings settings_of(pretrain_options const& o) {
  dvla::pretrain_settings s;
  s.epochs = o.epochs;
  s.warmup_epochs = std::min(o.warmup, o.epochs);
  s.lr = o.lr;
  s.weight_decay = o.weight_decay;
  s.k_decay = o.k_decay;
  s.label_smoothing = o.label_smoothing;
  s.mix.mixup_alpha = o.mixup;
  s.mix.cutmix_alpha = o.cutmix;
  s.clip = o.clip;
  s.average = o.average;
  s.max_seconds = 60 * o.run.max_minutes;
  s.seed = o.run.seed;
  return s;
}

[[nodiscard]] inline dvla::augmentation augmentation_of(pretrain_options const& o, dvla::preprocessing const& how) {
  if (o.augment == "crop") {  // the small pictures' classic: a random window of the padded image, and a flip
    dvla::augmentation a;
    a.border = how.image / 8;
    a.flip = 0.5;
    if (o.erasing > 0) a.erasing = dvla::random_erasing{o.erasing};
    return a;
  }
  auto a = dvla::training_augmentation(o.augment, o.smallest_area);
  if (o.erasing > 0) a.erasing = dvla::random_erasing{o.erasing};
  return a;
}

/// Nearest-prototype accuracy on fixed 5-way 1-shot and 5-shot episodes of the validation classes.
template <class Backbone>
[[nodiscard]] std::string validate_backbone(Backbone const& net, dvla::folder_images const& images, dvla::executor* pool) {
  dvla::nearest_prototype<Backbone> const classifier{net};
  std::string text = "validation, 600 episodes 5-way:";
  for (std::size_t const shot : {1u, 5u}) {
    auto const episodes = dvla::fixed_episodes(images.images_per_class(), {5, shot, 15}, 600);
    auto const [mean, half] = dvla::evaluate_episodes(classifier, images, nullptr, episodes, pool).accuracy();
    text += format(" %zu-shot %.2f +- %.2f %%", shot, 100 * mean, 100 * half);
  }
  return text;
}

template <class Backbone>
void pretrain(pretrain_options const& o) {
  watch_signals();
  run_folder const folder(o.run);
  dvla::thread_pool pool(o.run.threads);
  std::string const preprocess = o.data.preprocess.value_or("imagenet");
  constexpr std::size_t side = Backbone::config.image;
  auto const how = dvla::evaluation_preprocessing(preprocess, side);
  auto const base = open_images(o.data, "base", &pool);
  auto const val = o.validate_every > 0 ? open_images(o.data, "val", &pool) : nullptr;
  std::size_t const classes = base->folder().classes.size();
  auto const configuration = pretrain_configuration(o, classes, preprocess);

  Backbone net(classes);
  dvla::parameters weights(net);
  dvla::initialise(net, o.run.seed);
  if constexpr (requires { net.drop_path(o.drop_path); }) net.drop_path(o.drop_path);
  std::uint64_t first = 0;
  std::optional<dvla::tensor_archive> before;
  if (folder.continues()) {
    before = dvla::open_tensors(folder.last());
    expect_same(configuration_of(*before), configuration, folder.last().string());
    first = dvla::read_training_state(*before).step;
  }
  std::size_t const workers = pool.threads() == 1 ? 0 : std::max<std::size_t>(1, pool.threads() / 4);
  dvla::batch_loader loader(*base, dvla::epoch_order({base->size(), o.batch, o.repeats, true, o.run.seed}), how,
                            augmentation_of(o, how), o.run.seed, {workers, workers + 1, first});
  folder.make();
  dvla::pretrainer trainer(net, weights, loader, classes, settings_of(o), &pool);
  if (before) trainer.state() = dvla::load_training(*before, weights, trainer.optimizer(), trainer.average());
  before.reset();

  progress_line line;
  dvla::checkpoint_texts const texts{{"dvla.configuration", configuration.dump()}};
  auto const save = [&] {
    dvla::save_training(folder.last(), weights, trainer.optimizer(), trainer.state(), texts, trainer.average());
  };
  line.note(format("%s: %zu parameters, %zu classes, %zu images, %llu steps of %zu; from step %llu", o.model.c_str(),
                   weights.count(), classes, base->size(), static_cast<unsigned long long>(trainer.total_steps()), o.batch,
                   static_cast<unsigned long long>(first)));
  save_clock saves(o.run.save_every);
  double next_validation =
      o.validate_every > 0
          ? (std::floor(static_cast<double>(first) / static_cast<double>(loader.steps_per_epoch()) / o.validate_every) + 1) *
                o.validate_every
          : 0;
  double mean_loss = 0, seconds_at_start = trainer.state().seconds;
  std::uint64_t counted = 0;
  while (!trainer.done()) {
    auto const report = trainer.step();
    ++counted;
    mean_loss += (report.loss - mean_loss) / static_cast<double>(std::min<std::uint64_t>(counted, 50));
    if (line.due(trainer.progress()))
      line.show(trainer.progress(), format("epoch %.2f  loss %.4f  rate %.2e  %.0f images/s", report.epoch, mean_loss, report.rate,
                                           static_cast<double>(counted * o.batch) / (report.seconds - seconds_at_start)));
    if (val && report.epoch >= next_validation && !trainer.done()) {
      next_validation += o.validate_every;
      line.note(format("epoch %.1f: ", report.epoch) + validate_backbone(net, {val.get(), how, {}, 0, &pool}, &pool));
    }
    if (saves.due(report.step) || trainer.done()) save();
    if (stop_requested) {
      save();
      throw interrupted{dvla::concat("stopped at step ", report.step, "; --resume continues from ", folder.last().string())};
    }
  }
  if (auto const* average = trainer.average()) std::copy_n(average->data(), average->size(), weights.weights().data());
  dvla::save_model(folder.file("model.safetensors"), weights, trainer.state().step, texts);
  line.clear();
  std::printf("model: %s\n", folder.file("model.safetensors").c_str());
  if (val) std::printf("%s\n", validate_backbone(net, {val.get(), how, {}, 0, &pool}, &pool).c_str());
}

}  // namespace cli
