// dvla meta-train: episodes of base classes, validation after every epoch, the best model kept.
#pragma once

#include "class_meanings.hpp"
#include "image_supply.hpp"
#include "learner.hpp"

namespace cli {

[[nodiscard]] inline dvla::meta_settings settings_of(meta_options const& o) {
  dvla::meta_settings s;
  s.shape = {o.way, o.shot, o.query};
  s.epochs = o.epochs;
  s.episodes_per_epoch = o.episodes_per_epoch;
  s.lr = o.lr;
  s.backbone_lr = o.backbone_lr;
  s.weight_decay = o.weight_decay;
  s.clip = o.clip;
  s.max_seconds = 60 * o.run.max_minutes;
  s.validation_episodes = o.validation_episodes;
  s.seed = o.run.seed;
  return s;
}

inline void add_configuration(json& c, meta_options const& o) {
  c.update({{"command", "meta-train"},
            {"checkpoint", o.checkpoint},
            {"augment", o.augment},
            {"epochs", o.epochs},
            {"episodes_per_epoch", o.episodes_per_epoch},
            {"lr", o.lr},
            {"backbone_lr", o.backbone_lr},
            {"weight_decay", o.weight_decay},
            {"drop_path", o.drop_path},
            {"clip", o.clip},
            {"way", o.way},
            {"shot", o.shot},
            {"query", o.query},
            {"validation_episodes", o.validation_episodes},
            {"seed", o.run.seed},
            {"max_minutes", o.run.max_minutes}});
}

[[nodiscard]] inline std::string line_of(auto const& report) {
  std::string text = format("epoch %.2f  loss %.4f  accuracy %.1f %%", report.epoch, report.loss, 100 * report.accuracy);
  for (auto const& gate : report.gates) text += format("  p %.3f a %.3f R %.3f", gate.p, gate.action, gate.reward);
  return text;
}

/// How fast episodes of so many images went through a card.
[[nodiscard]] inline std::string speed_of(std::uint64_t episodes, std::size_t images, double seconds, double waited) {
  double const in_all = static_cast<double>(episodes) * static_cast<double>(images);
  return format("  %.0f images/s", seconds > 0 ? in_all / seconds : 0.0) + waiting(waited, seconds);
}

/// Base and validation images, and what their classes mean.
struct meta_data {
  std::unique_ptr<dvla::image_source> base, val;
  std::optional<dvla::class_vectors> base_vectors, val_vectors;
  dvla::bank_centre centre;
  std::string bank_hash;  ///< of the semantics' content; empty without

  meta_data(meta_options const& o, learner_choice const& choice, dvla::executor* pool, bool host_prepares) {
    if (choice.method != "prototypical") {  // before any image: a missing class is found at once
      auto meanings = read_meanings(choice.semantics, choice.encoder, choice.phrases, o.data.root, {"base", "val"});
      base_vectors = std::move(meanings.splits[0]);
      val_vectors = std::move(meanings.splits[1]);
      bank_hash = std::move(meanings.hash);
      centre = dvla::centre_of(*base_vectors);
      dvla::transform(*base_vectors, choice.transform, centre);
      dvla::transform(*val_vectors, choice.transform, centre);
    }
    base = open_images(o.data, "base", pool, host_prepares);
    val = open_images(o.data, "val", pool, host_prepares);
  }
};

/// Trains a laid-out and loaded model until the end of the run.
template <class Model, class Device>
void meta_train(meta_options const& o, learner_choice const& choice, json const& configuration, run_folder const& folder,
                Model& model, dvla::parameters<float, Device>& weights, meta_data const& data, dvla::executor* pool,
                Device const& device) {
  constexpr std::size_t side = dvla::image_side<Model>;
  auto const how = dvla::evaluation_preprocessing(configuration.at("preprocess").get<std::string>(), side);
  image_supply<Device> const supply(device, o.data, o.compute, pool);
  auto const base = supply.episodes(*data.base, how, dvla::training_augmentation(o.augment), o.run.seed);
  auto const val = supply.episodes(*data.val, how, {}, 0);
  auto const vectors = [&](auto const& v) { return v ? &*v : nullptr; };
  dvla::meta_trainer trainer(model, weights, base, vectors(data.base_vectors), settings_of(o), device);
  if (folder.continues()) {
    auto const before = dvla::open_tensors(folder.last());
    expect_same(configuration_of(before), configuration, folder.last().string());
    trainer.restore(dvla::load_training(before, weights, trainer.optimizer()));
  }
  folder.make();
  dvla::checkpoint_texts texts{{"dvla.configuration", configuration.dump()}};
  if (choice.method != "prototypical") texts.emplace_back("dvla.centre", to_json(data.centre).dump());

  progress_line line;
  line.note(format("%s: %zu parameters, %llu episodes %zu-way %zu-shot, %zu an epoch; from episode %llu", choice.method.c_str(),
                   weights.count(), static_cast<unsigned long long>(trainer.total_steps()), o.way, o.shot,
                   trainer.episodes_per_epoch(), static_cast<unsigned long long>(trainer.state().step)));
  auto const save = [&] { dvla::save_training(folder.last(), weights, trainer.optimizer(), trainer.state(), texts); };
  save_clock saves(o.run.save_every);
  auto const begin = trainer.state();
  double validating = 0;
  auto const text_of = [&](auto const& report) {
    std::string text = line_of(report);
    if constexpr (!Device::is_host)
      text += speed_of(report.step - begin.step, o.way * (o.shot + o.query), report.seconds - begin.seconds - validating, report.waited);
    return text;
  };
  while (!trainer.done()) {
    auto const& report = trainer.step();
    if (line.due(trainer.progress())) line.show(trainer.progress(), text_of(report));
    bool const epoch_end = trainer.at_epoch_end();
    if (epoch_end) {
      dvla::evaluation result;
      bool const best = trainer.validate(val, vectors(data.val_vectors), result);
      validating += result.seconds;
      auto const [mean, half] = result.accuracy();
      if (best) dvla::save_model(folder.file("best.safetensors"), weights, trainer.state().step, texts);
      line.note(format("epoch %.0f: %s  validation %.2f +- %.2f %%%s", std::ceil(report.epoch), line_of(report).c_str(), 100 * mean,
                       100 * half, best ? "  (best)" : ""));
    }
    if (epoch_end || saves.due(report.step)) save();
    if (stop_requested) {
      save();
      throw interrupted{dvla::concat("stopped at episode ", report.step, "; --resume continues from ", folder.last().string())};
    }
  }
  line.clear();
  std::printf("best validation accuracy %.2f %% after %llu episodes: %s\n", 100 * trainer.state().best_accuracy,
              static_cast<unsigned long long>(trainer.state().best_step), folder.file("best.safetensors").c_str());
}

}  // namespace cli
