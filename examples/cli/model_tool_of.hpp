// model_tool for a backbone, and for those that DVLA-RL is defined on also with semantics.
#pragma once

#include "evaluate_command.hpp"
#include "meta_command.hpp"
#include "model_tool.hpp"
#include "pretrain_command.hpp"

namespace cli {

/// Stands for "no model with semantics on this backbone".
struct no_semantic_model {};

template <class Device, class Backbone, class Semantic = no_semantic_model>
class model_tool_of final : public model_tool {
 public:
  explicit model_tool_of(std::string name) : name_(std::move(name)) {}

  void pretrain(pretrain_options const& options) const override { cli::pretrain<Backbone, Device>(options); }

  void meta_train(meta_options const& o) const override {
    watch_signals();
    run_folder const folder(o.run);
    dvla::thread_pool pool(o.run.threads);
    json configuration{{"model", name_}};
    std::optional<dvla::tensor_archive> start;
    if (!o.checkpoint.empty()) start = dvla::open_tensors(o.checkpoint).state_dict();
    json const before = start ? configuration_of(*start) : json::object();
    if (before.contains("preprocess")) configuration["preprocess"] = before.at("preprocess");
    (void)settle(configuration, "preprocess", o.data.preprocess, std::string("imagenet"));
    auto const choice = settle_learner(configuration, o.learner, "dvla-rl");
    add_configuration(configuration, o);
    meta_data const data(o, choice, &pool, Device::is_host);
    if (!data.bank_hash.empty()) configuration["semantics_sha256"] = data.bank_hash;
    std::size_t const classes = data.base->folder().classes.size(), head = start ? head_classes(*start, classes) : classes;
    std::size_t const width = data.base_vectors ? data.base_vectors->width : 0;
    auto const device = device_of<Device>(pool);
    with_model(device, choice, head, width, o.run.seed, [&](auto& model, auto& weights) {
      set_drop_path(model, o.drop_path);
      if (start && !folder.continues()) load_learner(weights, *start, choice);
      cli::meta_train(o, choice, configuration, folder, model, weights, data, &pool, device);
    });
  }

  void evaluate(evaluate_options const& o) const override {
    dvla::thread_pool pool(o.threads);
    auto const archive = dvla::open_tensors(o.checkpoint).state_dict();
    json configuration = configuration_of(archive);
    configuration["model"] = name_;
    (void)settle(configuration, "preprocess", o.data.preprocess, std::string("imagenet"));
    auto const choice = settle_learner(configuration, o.learner, "prototypical");
    dvla::expect(choice.method == "prototypical" || holds_semantic_modules(archive), o.checkpoint, " is a backbone without ",
                 choice.method, "'s modules; meta-train it first, or evaluate it with --method prototypical");
    evaluation_data const data(o, choice, configuration, archive, &pool, Device::is_host);
    auto const device = device_of<Device>(pool);
    with_model(device, choice, head_classes(archive, 1), data.vectors ? data.vectors->width : 0, 0, [&](auto& model, auto& weights) {
      load_learner(weights, archive, choice);
      cli::evaluate(o, configuration, model, data, &pool, device);
    });
  }

  [[nodiscard]] std::string describe(std::size_t classes) const override {
    Backbone net(classes);
    dvla::parameters const weights(net);
    constexpr std::size_t side = Backbone::config.image;
    std::string text = dvla::concat(name_, ": images ", side, "x", side, ", features ", std::size_t{Backbone::feature_width}, ", ",
                                    weights.count(), " parameters with a head of ", classes, " classes\n");
    if constexpr (!std::is_same_v<Semantic, no_semantic_model>) {
      Semantic learner(classes);
      dvla::parameters const all(learner);
      text += dvla::concat("  DVLA-RL on it: ", all.count(), " parameters, ", all.count() - weights.count(), " of them new\n");
    }
    return text;
  }

 private:
  /// Makes the learner of a choice, initialises it and calls f(model, weights).
  template <class F>
  void with_model(Device const& device, learner_choice const& choice, std::size_t classes, std::size_t width, std::uint64_t seed,
                  F const& f) const {
    auto const run = [&](auto& model) {
      dvla::parameters weights(model, device);
      dvla::initialise(model, seed);
      f(model, weights);
    };
    if (choice.method == "prototypical") {
      dvla::prototypical_network<Backbone> model(classes);
      run(model);
    } else if constexpr (!std::is_same_v<Semantic, no_semantic_model>) {
      Semantic model(classes, width);
      model.options = choice.options;
      run(model);
    } else {
      dvla::fail("--method ", choice.method, " needs a Visformer, not ", name_, "; give --method prototypical or another --model");
    }
  }

  std::string name_;
};

}  // namespace cli
