// dvla evaluate: accuracy over fixed episodes, equal episode by episode to the published code's.
#pragma once

#include <dvla/version.hpp>

#include "class_meanings.hpp"
#include "image_supply.hpp"
#include "learner.hpp"

namespace cli {

/// The images of a split and what its classes mean, centred as in training.
struct evaluation_data {
  std::unique_ptr<dvla::image_source> images;
  std::optional<dvla::class_vectors> vectors;

  evaluation_data(evaluate_options const& o, learner_choice const& choice, json& configuration, dvla::tensor_archive const& archive,
                  dvla::executor* pool, bool host_prepares) {
    if (choice.method != "prototypical") {
      auto const kept = choice.transform.centre ? archive.metadata("dvla.centre") : std::nullopt;
      bool const by_base = choice.transform.centre && !kept;
      auto meanings = read_meanings(choice.semantics, choice.encoder, choice.phrases, o.data.root,
                                    by_base ? std::vector<std::string>{o.split, "base"} : std::vector<std::string>{o.split});
      vectors = std::move(meanings.splits[0]);
      if (auto const other = settle_bank(configuration, o.learner, choice.semantics, meanings.hash); !other.empty())
        std::fprintf(stderr, "dvla: note: %s\n", other.c_str());
      auto const centre = kept ? centre_from(*kept) : by_base ? dvla::centre_of(meanings.splits[1]) : dvla::bank_centre{};
      dvla::transform(*vectors, choice.transform, centre);
    }
    images = open_images(o.data, o.split, pool, host_prepares);
  }
};

inline void write_report(evaluate_options const& o, json const& configuration, dvla::evaluation const& result) {
  auto const [mean, half] = result.accuracy();
  json report{{"accuracy", 100 * mean},
                    {"interval", 100 * half},
                    {"episodes", result.accuracies},
                    {"way", o.way},
                    {"shot", o.shot},
                    {"query", o.query},
                    {"split", o.split},
                    {"episode_seed", o.seed},
                    {"checkpoint", o.checkpoint},
                    {"configuration", configuration},
                    {"images", result.images},
                    {"seconds", result.seconds},
                    {"images_per_second", result.images_per_second()},
                    {"version", DVLA_VERSION_STRING}};
  if (o.compute.device != "cpu") report["seconds_waiting_for_images"] = result.waited;
  dvla::write_atomically(o.json, report.dump(1) + "\n");
}

/// Evaluates a laid-out model on the episodes and reports.
template <class Model, class Device>
void evaluate(evaluate_options const& o, json const& configuration, Model const& model, evaluation_data const& data,
              dvla::executor* pool, Device const& device) {
  auto const how = dvla::evaluation_preprocessing(configuration.at("preprocess").get<std::string>(), dvla::image_side<Model>);
  auto const images = image_supply<Device>(device, o.data, o.compute, pool).episodes(*data.images, how, {}, 0);
  auto const episodes = dvla::fixed_episodes(images.images_per_class(), {o.way, o.shot, o.query}, o.episodes, o.seed);
  progress_line line;
  auto const result = dvla::evaluate_episodes(
      model, images, data.vectors ? &*data.vectors : nullptr, episodes, device, [&](dvla::evaluation const& so_far) {
        double const fraction = static_cast<double>(so_far.accuracies.size()) / static_cast<double>(episodes.size());
        if (!line.due(fraction)) return;
        auto const [mean, half] = so_far.accuracy();
        auto text = format("%.2f +- %.2f %%  %.0f images/s", 100 * mean, 100 * half, so_far.images_per_second());
        if constexpr (!Device::is_host) text += waiting(so_far.waited, so_far.seconds);
        line.show(fraction, text);
      });
  line.clear();
  auto const [mean, half] = result.accuracy();
  std::printf("%s, %zu episodes of %s, %zu-way %zu-shot: %.2f +- %.2f %%\n", configuration.at("method").get<std::string>().c_str(),
              result.accuracies.size(), o.split.c_str(), o.way, o.shot, 100 * mean, 100 * half);
  if (!o.json.empty()) write_report(o, configuration, result);
}

}  // namespace cli
