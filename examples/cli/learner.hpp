// The few-shot learners of the tool: made from options, loaded from checkpoints, given the semantics of their classes.
#pragma once

#include <dvla/fewshot/folder_images.hpp>
#include <dvla/fewshot/meta_trainer.hpp>

#include "run_support.hpp"

namespace cli {

/// The word for a choice, or the error that names the choices.
template <class Choice>
[[nodiscard]] Choice choose(char const* option, std::string const& word,
                            std::initializer_list<std::pair<char const*, Choice>> choices) {
  std::string known;
  for (auto const& [name, value] : choices) {
    if (word == name) return value;
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  dvla::fail(option, " ", word, " is not known; give one of ", known);
}

/// The learner part of a configuration: the command line's words, else the checkpoint's, else the defaults.
struct learner_choice {
  std::string method;
  dvla::dvla_rl_options options{};
  std::string semantics, encoder = "hashed";
  std::size_t phrases = 4;
  dvla::bank_transform transform{};
};

[[nodiscard]] inline learner_choice settle_learner(json& configuration, learner_options const& given, std::string const& fallback) {
  learner_choice out;
  out.method = settle(configuration, "method", given.method, fallback);
  auto const gate = choose<std::optional<dvla::gate_kind>>("--method", out.method,
                                                           {{"dvla-rl", dvla::gate_kind::policy},
                                                            {"fixed-gate", dvla::gate_kind::fixed},
                                                            {"mlp-gate", dvla::gate_kind::mlp},
                                                            {"prototypical", std::nullopt}});
  if (!gate) return out;
  out.options.gate = *gate;
  out.options.fixed_gate = settle(configuration, "gate", given.gate, 0.5);
  dvla::expect(out.options.fixed_gate >= 0 && out.options.fixed_gate <= 1, "--gate ", out.options.fixed_gate,
               "; give a number from 0 to 1");
  out.options.scope =
      choose<dvla::gate_scope>("--gate-scope", settle(configuration, "gate_scope", given.gate_scope, std::string("episode")),
                               {{"episode", dvla::gate_scope::episode}, {"image", dvla::gate_scope::image}});
  out.options.semantics = choose<dvla::semantics_scope>(
      "--semantics-scope", settle(configuration, "semantics_scope", given.semantics_scope, std::string("episode")),
      {{"episode", dvla::semantics_scope::episode}, {"own-class", dvla::semantics_scope::own_class}});
  out.options.pad = choose<dvla::padding>("--padding", settle(configuration, "padding", given.padding, std::string("zero-rows")),
                                          {{"zero-rows", dvla::padding::zero_rows}, {"none", dvla::padding::none}});
  out.semantics = settle(configuration, "semantics", given.semantics, std::string());
  out.phrases = settle(configuration, "phrases", given.phrases, std::size_t{4});
  out.transform = {settle(configuration, "centre", given.centre, true), settle(configuration, "unit", given.unit, true)};
  if (given.encoder || configuration.contains("encoder")) out.encoder = settle(configuration, "encoder", given.encoder, out.encoder);
  dvla::expect(!out.semantics.empty(), "--method ", out.method,
               " needs the meanings of the classes; give --semantics BANK (.safetensors, .pth, or a .json of texts)");
  return out;
}

/// Keeps the content of a bank in a configuration. Where it holds another one's already, the model was trained with that: an error
/// unless this bank was asked for by name; then a sentence is returned.
[[nodiscard]] inline std::string settle_bank(json& configuration, learner_options const& given, std::string const& file,
                                             std::string const& hash) {
  std::string const before = configuration.value("semantics_sha256", hash);
  configuration["semantics_sha256"] = hash;
  if (before == hash) return {};
  auto const text = dvla::concat("the model was trained with the bank of content ", before.substr(0, 12), ", but ", file, " has ",
                                 hash.substr(0, 12));
  dvla::expect(given.semantics.has_value(), text,
               "; give the bank that it was trained with, or this one by --semantics to use it all the same");
  return text;
}

[[nodiscard]] inline json to_json(dvla::bank_centre const& centre) { return {{"local", centre.local}, {"global", centre.global}}; }

[[nodiscard]] inline dvla::bank_centre centre_from(std::string const& text) {
  auto const parsed = json::parse(text);
  return {parsed.at("local").get<std::vector<float>>(), parsed.at("global").get<std::vector<float>>()};
}

/// Whether any tensor's name begins so.
[[nodiscard]] inline bool holds(dvla::tensor_archive const& archive, std::string_view prefix) {
  for (auto const& t : archive.tensors())
    if (t.name.starts_with(prefix)) return true;
  return false;
}

/// Whether a file holds the modules that bring semantics in, beside the backbone.
[[nodiscard]] inline bool holds_semantic_modules(dvla::tensor_archive const& archive) { return holds(archive, "gated."); }

/// How many classes the head of a checkpoint tells apart; `fallback` for one without head.
[[nodiscard]] inline std::size_t head_classes(dvla::tensor_archive const& archive, std::size_t fallback) {
  for (char const* name : {"head.weight", "backbone.head.weight"})
    if (archive.contains(name) && archive.find(name).shape.size() == 2) return archive.find(name).shape[0];
  return fallback;
}

/// Loads a learner where file and method both have semantic modules, its backbone alone otherwise.
template <class Device>
void load_learner(dvla::parameters<float, Device>& weights, dvla::tensor_archive const& archive, learner_choice const& choice) {
  dvla::load_options how;
  how.skip_other_head = true;
  if (choice.method == "prototypical" || !holds_semantic_modules(archive)) {
    how.model_prefix = "backbone.";
    if (holds(archive, "backbone.")) how.archive_prefix = "backbone.";
  }
  dvla::load_weights(weights, archive, how);
}

/// The backbone's drop-path rate, where it has one.
template <class Model>
void set_drop_path(Model& model, double rate) {
  if constexpr (requires { model.backbone.drop_path(rate); }) model.backbone.drop_path(rate);
}

}  // namespace cli
