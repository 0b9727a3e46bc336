// A whole DVLA-RL episode with given actions against a golden file.
#pragma once

#include <dvla/models/dvla_rl.hpp>

#include "gradients.hpp"

namespace parity {

template <dvla::visformer_config Config, class T>
void episode(report& found, golden_file const& golden, bool training) {
  std::size_t const way = golden.number("way"), shot = golden.number("shot"), query = golden.number("query");
  // The pre-training head takes no part in an episode; a single class keeps it small.
  dvla::dvla_rl<Config, T> model(1);
  dvla::parameters weights(model);
  fill_by_name(weights, golden);
  std::array<double, 2> const actions{golden.real("actions", "stage2"), golden.real("actions", "stage3")};
  model.baselines[0].restore(golden.real("baselines", "stage2"), true);
  model.baselines[1].restore(golden.real("baselines", "stage3"), true);
  auto const support = images_by_name<T, Config.image>(golden, "input.support", way * shot, 2);
  auto const queries = images_by_name<T, Config.image>(golden, "input.query", way * query, 2);
  auto const local = unit_rows_by_name<T>(golden, "input.local", way * golden.number("local_phrases_per_class"), 512);
  auto const global = unit_rows_by_name<T>(golden, "input.global", way, 512);

  dvla::tape<> tape;
  tape.training(training);
  using images = dvla::episode_images<Config, T, dvla::tape<>>;
  using semantics = dvla::episode_semantics<T, dvla::tape<>>;
  auto const out = model.episode(images{tape(support), tape(queries), way}, semantics{tape(local), tape(global)}, &actions);
  auto const number = [&](std::string const& name, double value) {
    found.add("rewards and losses", name, relative_error(std::vector{value}, golden.values(name), 1e-3), bounds_of<T>.output);
  };
  for (std::size_t i = 0; i < 2; ++i) {
    std::string const stage = i == 0 ? "stage2." : "stage3.";
    auto const& gate = out.gates[i];
    number(stage + "p", gate.p);
    number(stage + "logp", gate.log_density);
    number(stage + "entropy", gate.entropy);
    number(stage + "reward", gate.reward);
    number(stage + "accuracy", gate.accuracy);
    number(stage + "similarity", gate.similarity);
  }
  number("loss_sup", out.loss_supervised);
  number("loss_rl", out.loss_rl);
  number("loss_align", out.loss_align);
  number("loss_total", static_cast<double>(out.loss.value().data[0]));
  auto const tensor = [&](char const* name, auto const& v) {
    found.add(name, name, relative_error(v.value().data, golden.values(name)), bounds_of<T>.output);
  };
  tensor("prototypes", out.prototypes);
  tensor("logits", out.logits);
  tensor("feature_support", out.support_features);
  tape.backward(out.loss);
  compare_gradients(found, golden, weights);
}

}  // namespace parity
