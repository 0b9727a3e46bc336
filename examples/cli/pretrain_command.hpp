// dvla pretrain: classification of the base classes.
#pragma once

#include <dvla/fewshot/evaluator.hpp>
#include <dvla/fewshot/pretrainer.hpp>

#include "image_supply.hpp"
#include "ranks.hpp"
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
template <class Backbone, class Images, class Device>
[[nodiscard]] std::string validate_backbone(Backbone const& net, Images const& images, Device const& device) {
  dvla::nearest_prototype<Backbone> const classifier{net};
  std::string text = "validation, 600 episodes 5-way:";
  for (std::size_t const shot : {1u, 5u}) {
    auto const episodes = dvla::fixed_episodes(images.images_per_class(), {5, shot, 15}, 600);
    auto const [mean, half] = dvla::evaluate_episodes(classifier, images, nullptr, episodes, device).accuracy();
    text += format(" %zu-shot %.2f +- %.2f %%", shot, 100 * mean, 100 * half);
  }
  return text;
}

/// A run of pre-training between the finding of its data and the writing of its model. Of several processes all train, and rank 0
/// alone writes, validates and tells.
template <class Backbone, class Device, class Ranks>
class pretraining {
 public:
  pretraining(pretrain_options const& o, run_folder const& folder, dvla::executor* pool, Device const& device, Ranks const& ranks)
      : options_(o),
        folder_(folder),
        device_(device),
        ranks_(ranks),
        preprocess_(o.data.preprocess.value_or("imagenet")),
        how_(dvla::evaluation_preprocessing(preprocess_, Backbone::config.image)),
        base_(open_images(o.data, "base", pool, Device::is_host)),
        val_(o.validate_every > 0 && leads() ? open_images(o.data, "val", pool, Device::is_host) : nullptr),
        supply_(device, o.data, o.compute, pool),
        classes_(base_->folder().classes.size()),
        configuration_(pretrain_configuration(o, classes_, preprocess_)),
        net_(classes_),
        weights_(net_, device) {
    dvla::initialise(net_, o.run.seed);
    if constexpr (requires { net_.drop_path(o.drop_path); }) net_.drop_path(o.drop_path);
    if (!folder.continues()) return;
    before_ = dvla::open_tensors(folder.last());
    expect_same(configuration_of(*before_), configuration_, folder.last().string());
    first_ = dvla::read_training_state(*before_).step;
  }

  /// Trains to the end and writes the model.
  void run() {
    dvla::epoch_order const order({base_->size(), options_.batch, options_.repeats, true, options_.run.seed, dvla::share_of(ranks_)});
    auto const settings = settings_of(options_);
    if (val_) val_images_.emplace(supply_.episodes(*val_, how_, {}, 0));
    auto const loader = supply_.batches(*base_, order, how_, augmentation_of(options_, how_), classes_, settings, first_);
    train(*loader, settings);
  }

 private:
  template <class Loader>
  void train(Loader& loader, dvla::pretrain_settings const& settings) {
    if (leads()) folder_.make();
    dvla::pretrainer trainer(net_, weights_, loader, classes_, settings, device_, ranks_);
    if (before_) trainer.state() = dvla::load_training(*before_, weights_, trainer.optimizer(), trainer.average());
    before_.reset();
    dvla::checkpoint_texts const texts{{"dvla.configuration", configuration_.dump()}};
    auto const save = [&] {
      trainer.average_statistics();
      if (leads()) dvla::save_training(folder_.last(), weights_, trainer.optimizer(), trainer.state(), texts, trainer.average());
    };
    tell_begin(trainer.total_steps());
    save_clock saves(options_.run.save_every);
    double const seconds_at_start = trainer.state().seconds;
    double next_validation = validation_after(static_cast<double>(first_) / static_cast<double>(loader.steps_per_epoch()));
    while (!trainer.done()) {
      // What goes by a process's own clock or signals is asked for, so that all ranks do it after the same step.
      auto const report = trainer.step({leads() && saves.due(trainer.state().step + 1), stop_requested != 0});
      if (leads()) show(report, seconds_at_start);
      if (options_.validate_every > 0 && report.epoch >= next_validation && !trainer.done()) {
        next_validation = validation_after(report.epoch);
        trainer.average_statistics();
        if (leads()) line_.note(format("epoch %.1f: ", report.epoch) + validate());
      }
      bool const stops = report.wishes.stop || (ranks_.size() == 1 && stop_requested != 0);
      if (report.wishes.save || stops || trainer.done()) save();
      if (stops)
        throw interrupted{dvla::concat("stopped at step ", report.step, "; --resume continues from ", folder_.last().string())};
    }
    if (!leads()) return;
    if (auto const* average = trainer.average()) {
      weights_.weights().write(average->read());
      weights_.weights_changed();
    }
    dvla::save_model(folder_.file("model.safetensors"), weights_, trainer.state().step, texts);
    line_.clear();
    std::printf("model: %s\n", folder_.file("model.safetensors").c_str());
    if (val_) std::printf("%s\n", validate().c_str());
  }

  /// Whether this is the process that writes and tells.
  [[nodiscard]] bool leads() const { return ranks_.rank() == 0; }

  void tell_begin(std::uint64_t steps) {
    if (!leads()) return;
    std::string const shared = ranks_.size() > 1 ? format(" shared by %zu processes", ranks_.size()) : "";
    line_.note(format("%s: %zu parameters, %zu classes, %zu images, %llu steps of %zu%s; from step %llu", options_.model.c_str(),
                      weights_.count(), classes_, base_->size(), static_cast<unsigned long long>(steps), options_.batch, shared.c_str(),
                      static_cast<unsigned long long>(first_)));
  }

  [[nodiscard]] double validation_after(double epoch) const {
    return options_.validate_every > 0 ? (std::floor(epoch / options_.validate_every) + 1) * options_.validate_every : 0;
  }
  [[nodiscard]] std::string validate() const { return validate_backbone(net_, *val_images_, device_); }

  void show(dvla::pretrain_report const& report, double seconds_at_start) {
    ++counted_;
    mean_loss_ += (report.loss - mean_loss_) / static_cast<double>(std::min<std::uint64_t>(counted_, 50));
    if (!line_.due(report.progress)) return;
    double const seconds = report.seconds - seconds_at_start;
    line_.show(report.progress, format("epoch %.2f  loss %.4f  rate %.2e  %.0f images/s", report.epoch, mean_loss_, report.rate,
                                       static_cast<double>(counted_ * options_.batch) / seconds) +
                                    waiting(report.waited, seconds));
  }

  pretrain_options const& options_;
  run_folder const& folder_;
  Device device_;
  Ranks ranks_;
  std::string preprocess_;
  dvla::preprocessing how_;
  std::unique_ptr<dvla::image_source> base_, val_;
  image_supply<Device> supply_;
  std::optional<typename image_supply<Device>::images> val_images_;
  std::size_t classes_;
  json configuration_;
  Backbone net_;
  dvla::parameters<float, Device> weights_;
  std::optional<dvla::tensor_archive> before_;
  std::uint64_t first_ = 0, counted_ = 0;
  double mean_loss_ = 0;
  progress_line line_;
};

template <class Backbone, class Device>
void pretrain(pretrain_options const& o) {
  watch_signals();
  run_folder const folder(o.run);
  dvla::thread_pool pool(o.run.threads);
  auto const [device, ranks] = join_ranks<Device>(pool);
  pretraining<Backbone, Device, std::remove_cvref_t<decltype(ranks)>>(o, folder, &pool, device, ranks).run();
}

}  // namespace cli
