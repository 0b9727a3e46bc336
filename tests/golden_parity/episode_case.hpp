// A whole DVLA-RL episode with given actions against a golden file.
#pragma once

#include <dvla/models/dvla_rl.hpp>

#include "gradients.hpp"

namespace parity {

/// The constants of the losses, of which the file must give each: "lambda_sim .5 lambda_imp 1 ...".
template <class Model>
void take_coefficients(Model& model, golden_file const& golden) {
  auto given = golden.pairs("coefficients");
  auto const take = [&](char const* name, double& to) {
    auto const found = given.find(name);
    golden.require(found != given.end(), "\"coefficients\" does not give ", name);
    to = found->second;
    given.erase(found);
  };
  auto& o = model.options;
  take("lambda_sim", o.lambda_similarity);
  take("lambda_imp", o.lambda_improvement);
  take("lambda", o.lambda_rl);
  take("tau", o.tau_entropy);
  take("tau_cls", o.temperature_class);
  take("tau_align", o.temperature_align);
  take("kappa", o.policy.kappa);
  take("eps", o.policy.eps);
  golden.require(given.empty(), "\"coefficients\" gives ", given.empty() ? "" : given.begin()->first,
                 ", which the case does not have");
}

/// How semantic rows fill the map's last row, where the file says it; the published way otherwise.
[[nodiscard]] inline dvla::padding padding_of(golden_file const& golden) {
  if (!golden.gives("padding")) return dvla::padding::zero_rows;
  std::string const text = golden.text("padding");
  golden.require(text == "zero_rows" || text == "none", "\"padding\" is \"", text, "\"; give zero_rows or none");
  return text == "none" ? dvla::padding::none : dvla::padding::zero_rows;
}

template <dvla::visformer_config Config, class Device, class T>
void episode(report& found, golden_file const& golden, bool training) {
  std::size_t const way = golden.count("way"), shot = golden.count("shot"), query = golden.count("query");
  auto const logits = golden.values("logits", {way * query, way});  // before anything of that size is made
  auto const support_features = golden.values("feature_support", {way * shot, Config.features()});
  // The pre-training head takes no part in an episode; a single class keeps it small.
  dvla::dvla_rl<Config, T> model(1);
  dvla::parameters weights(model, Device{});
  fill_by_name(weights, golden);
  take_coefficients(model, golden);
  model.options.pad = padding_of(golden);
  std::array<double, 2> const actions{golden.member("actions", "stage2"), golden.member("actions", "stage3")};
  model.baselines[0].restore(golden.member("baselines", "stage2"), true);
  model.baselines[1].restore(golden.member("baselines", "stage3"), true);
  auto const support = images_by_name<T, Config.image>(golden, "input.support", way * shot, 2);
  auto const queries = images_by_name<T, Config.image>(golden, "input.query", way * query, 2);
  auto const local = unit_rows_by_name<T>(golden, "input.local", way * golden.count("local_phrases_per_class"), 512);
  auto const global = unit_rows_by_name<T>(golden, "input.global", way, 512);

  dvla::tape<Device> tape;
  tape.training(training);
  using images = dvla::episode_batch_images<Config, T, dvla::tape<Device>>;  // as training and evaluation pass them
  using semantics = dvla::episode_semantics<T, dvla::tape<Device>>;
  images const together{dvla::concatenate<0>(tape(support), tape(queries)), way * shot, way};
  auto const out = model.episode(together, semantics{tape(local), tape(global)}, &actions);
  auto const number = [&](std::string const& name, double value) {
    found.add("rewards and losses", name, relative_error(std::vector{value}, golden.values(name, {1}), 1e-3), bounds_of<T>.output);
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
  number("loss_total", static_cast<double>(out.loss.host()[0]));
  auto const tensor = [&](char const* name, auto const& v, std::vector<double> const& reference) {
    found.add(name, name, relative_error(v.host(), reference), bounds_of<T>.output);
  };
  tensor("prototypes", out.prototypes, golden.values("prototypes", extents_of(out.prototypes)));
  tensor("logits", out.logits, logits);
  tensor("feature_support", out.support_features, support_features);
  tape.backward(out.loss);
  compare_gradients(found, golden, weights, "backbone.head.");
}

}  // namespace parity
