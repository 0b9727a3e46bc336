// Visformer-Tiny against a golden file: evaluation (stage outputs, feature, logits) or training (gradients, AdamW steps).
#pragma once

#include <dvla/autodiff/loss.hpp>
#include <dvla/models/visformer.hpp>
#include <dvla/nn/optimizer.hpp>

#include "gradients.hpp"

namespace parity {

/// Tokens (B, N, C) against a stored map (B', C, H, W) of the first B' images.
template <class T, class V>
void compare_map(report& found, golden_file const& golden, char const* name, V const& tokens) {
  std::size_t const n = tokens.shape()[1], c = tokens.shape()[2];
  auto const side = static_cast<std::size_t>(std::lround(std::sqrt(static_cast<double>(n))));
  auto const reference = golden.first_values(name, {tokens.shape()[0], c, side, side});
  std::size_t const images = reference.size() / (n * c);
  auto const host = tokens.host();
  std::vector<double> computed(reference.size());
  for (std::size_t b = 0; b < images; ++b)
    for (std::size_t ch = 0; ch < c; ++ch)
      for (std::size_t i = 0; i < n; ++i) computed[(b * c + ch) * n + i] = static_cast<double>(host[(b * n + i) * c + ch]);
  // Stage outputs are stored in single precision.
  found.add(name, name, relative_error(computed, reference), std::max(bounds_of<T>.output, 2e-7));
}

template <dvla::visformer_config Config, class Device, class T>
void visformer_evaluation(report& found, golden_file const& golden) {
  std::size_t const batch = golden.count("batch"), classes = golden.count("classes", 1e6);
  auto const reference = golden.values("logits", {batch, classes});
  dvla::visformer<Config, T> net(classes);
  dvla::parameters weights(net, Device{});
  fill_by_name(weights, golden);
  auto const images = images_by_name<T, Config.image>(golden, "input.image", batch, 2);
  dvla::inference<Device> context;
  auto const stem = net.stem(context(images)).host();
  double sum = 0, squares = 0;
  for (std::size_t i = 0; i < stem.size(); ++i) sum += static_cast<double>(stem[i]);
  double const mean = sum / static_cast<double>(stem.size());
  for (std::size_t i = 0; i < stem.size(); ++i) squares += std::pow(static_cast<double>(stem[i]) - mean, 2);
  std::vector<double> const moments{mean, std::sqrt(squares / static_cast<double>(stem.size() - 1))};
  found.add("stem.mean_std", "stem.mean_std", relative_error(moments, golden.values("stem.mean_std", {2})), bounds_of<T>.output);
  auto const x1 = net.first_stage(context(images));
  compare_map<T>(found, golden, "stage1", x1);
  auto x2 = net.embed2(x1);
  for (auto const& block : net.stage2) x2 = block(x2);
  compare_map<T>(found, golden, "stage2", x2);
  auto x3 = net.embed3(x2);
  for (auto const& block : net.stage3) x3 = block(x3);
  compare_map<T>(found, golden, "stage3", x3);
  auto const feature = net.pool(x3);
  found.add("feature", "feature", relative_error(feature.host(), golden.values("feature", extents_of(feature))),
            bounds_of<T>.output);
  auto const logits = net(context(images));
  found.add("logits", "logits", relative_error(logits.host(), reference), bounds_of<T>.output);
}

/// Labels by a rule such as "7*i mod 64".
[[nodiscard]] inline std::vector<std::uint32_t> labels_by_rule(golden_file const& golden, std::size_t count, std::size_t classes) {
  std::string const rule = golden.text("labels");
  std::string_view rest = rule;
  auto const factor = take_number(rest);
  golden.require(factor && rest.starts_with("*i mod "), "\"labels\" is \"", rule, "\"; give a rule such as \"7*i mod 64\"");
  std::size_t const times = golden.whole("labels", *factor, 0, 1e6);
  std::size_t const modulus = golden.whole("labels", golden.after("labels", "mod")[0], 1, static_cast<double>(classes));
  std::vector<std::uint32_t> labels(count);
  for (std::size_t i = 0; i < count; ++i) labels[i] = static_cast<std::uint32_t>(times * i % modulus);
  return labels;
}

template <dvla::visformer_config Config, class Device, class T>
void visformer_training(report& found, golden_file const& golden) {
  std::size_t const batch = golden.count("batch"), steps = golden.count("steps"), classes = golden.find("logits", 2).shape[1];
  auto const reference = golden.values("logits", {batch, classes});
  auto const setting = [&](char const* words) { return golden.after("case", words)[0]; };
  double const smoothing = setting("label smoothing");
  auto const betas = golden.after("case", "betas", 2);
  dvla::visformer<Config, T> net(classes);
  dvla::parameters weights(net, Device{});
  fill_by_name(weights, golden);
  auto const images = images_by_name<T, Config.image>(golden, "input.image", batch, 2);
  auto const labels = labels_by_rule(golden, batch, classes);
  dvla::adamw optimizer(weights, setting("lr"), setting("wd"), {betas[0], betas[1], setting("eps")});
  dvla::tape<Device> tape;
  tape.training(true);
  for (std::size_t step = 0; step < steps; ++step) {
    weights.zero_gradients();
    auto const logits = net(tape(images));
    auto const loss = cross_entropy(logits, labels, smoothing);
    std::string const name = "step" + std::to_string(step) + ".loss";
    double const bound = step == 0 ? bounds_of<T>.output : bounds_of<T>.state;
    found.add("losses", name, relative_error(loss.host(), golden.values(name, {1})), bound);
    if (step == 0) found.add("logits", "logits", relative_error(logits.host(), reference), bounds_of<T>.output);
    tape.backward(loss);
    if (step == 0) compare_gradients(found, golden, weights);
    optimizer.step();
  }
  compare_state(found, golden, weights, steps);
}

}  // namespace parity
