// DVLA-RL (ICLR 2026, arXiv 2602.00795): a Visformer whose last block of stage 2 and first block of stage 3 see semantic
// tokens through gated attention. A Beta policy sets each gate once an episode; REINFORCE trains it.
#pragma once

#include <optional>

#include <dvla/autodiff/loss.hpp>
#include <dvla/models/gated_attention.hpp>
#include <dvla/models/prototypes.hpp>
#include <dvla/models/visformer.hpp>
#include <dvla/rl/policy.hpp>

namespace dvla::inline DVLA_ABI {

/// Who sets the gates: the learned policy (sampled in training, its mean otherwise), a constant, or the policy's network
/// trained by back-propagation through the gate instead of REINFORCE.
enum class gate_kind { policy, fixed, mlp };
/// One gate a layer and episode, or one an image (queries then replay the supports' mean).
enum class gate_scope { episode, image };
/// Whose semantic tokens an image sees: those of all classes of the episode, or supports their own class's and queries none.
enum class semantics_scope { episode, own_class };

/// What method sections 3 to 5 leave open, with the published constants.
struct dvla_rl_options {
  gate_kind gate = gate_kind::policy;
  gate_scope scope = gate_scope::episode;
  semantics_scope semantics = semantics_scope::episode;
  padding pad = padding::zero_rows;
  double fixed_gate = 0.5;
  rl::policy_options policy{};
  double lambda_similarity = 0.5, lambda_improvement = 1, lambda_rl = 0.1, tau_entropy = 0.2;
  double temperature_class = 0.2, temperature_align = 0.1;
};

/// What happened at one gated layer of an episode. Accuracy is the queries' under the nearest-prototype rule on the pooled
/// tokens leaving the layer, similarity the supports' mean cosine to their class embedding.
struct gate_report {
  double p = 0, action = 0, log_density = 0, entropy = 0, reward = 0, accuracy = 0, similarity = 0;
};

/// The semantics of an episode's classes in its order: `local` (way * phrases, width), class by class, and `global`
/// (way, width).
template <class T, class Context>
struct episode_semantics {
  variable<T, shape<dyn, dyn>, Context> local, global;
};

/// An episode's images, normalised and channels-last, class by class.
template <visformer_config Config, class T, class Context>
struct episode_images {
  using images = variable<T, shape<dyn, Config.image, Config.image, 3>, Context>;
  images support, query;
  std::size_t way;
};

/// Such images in one batch, supports first. In training supports and queries have batch statistics each, as if they passed one after
/// the other; everything else is computed for all images at once. For semantics that all images see.
template <visformer_config Config, class T, class Context>
struct episode_batch_images {
  typename episode_images<Config, T, Context>::images all;
  std::size_t supports, way;
};

/// The same images as the tokens that enter the first gated block. In evaluation mode they depend on the image alone, so one
/// computation (dvla_rl::enter) serves every episode that an image occurs in.
template <visformer_config Config, class T, class Context>
struct episode_tokens {
  using element = typename Context::device_type::template stored<T>;
  using tokens = variable<element, shape<dyn, Config.tokens(1), Config.channels(1)>, Context>;
  tokens support, query;
  std::size_t way;
};

/// The figures of a gated layer as scalars on the device, as gate_report has them.
template <class T, class Context>
struct gate_figures {
  using scalar = variable<T, shape<>, Context>;
  scalar p, action;
  std::optional<scalar> log_density{}, entropy{}, reward{}, accuracy{}, similarity{};  // of a policy; of a tape
};

/// What an episode leaves on the device: episode_output before anything was read from there, so that nothing waits for it.
template <std::size_t Features, class T, class Context>
struct episode_trace {
  using scalar = variable<T, shape<>, Context>;
  variable<T, shape<dyn, dyn>, Context> logits;
  variable<T, shape<dyn, Features>, Context> prototypes, support_features;
  scalar loss, supervised, accuracy;
  std::optional<scalar> rl{}, align{};
  std::vector<gate_figures<T, Context>> gates{};
};

/// Logits of the queries (Q, way), prototypes (way, F) and features of the supports, and what the gates did.
template <std::size_t Features, class T, class Context>
struct episode_output {
  variable<T, shape<dyn, dyn>, Context> logits;
  variable<T, shape<dyn, Features>, Context> prototypes, support_features;
  variable<T, shape<>, Context> loss;  // L_sup + lambda L_RL + L_align; what backward() starts from
  double loss_supervised = 0, loss_rl = 0, loss_align = 0, accuracy = 0;
  std::array<gate_report, 2> gates{};
};

namespace models {

/// One thing a gated layer, named after the stage it stands in.
template <class A, class B>
struct per_gated_layer {
  A stage2;
  B stage3;
  static constexpr auto members = fields("stage2", &per_gated_layer::stage2, "stage3", &per_gated_layer::stage3);

  /// The part of gated layer 0 or 1.
  template <std::size_t Layer>
  auto const& at() const {
    if constexpr (Layer == 0) return stage2;
    else return stage3;
  }
};

}  // namespace models

template <visformer_config Config, class T = float>
struct dvla_rl {
  static constexpr visformer_config config = Config;
  static constexpr std::size_t c2 = Config.channels(1), c3 = Config.channels(2), feature_width = Config.features();
  static constexpr std::array<level_weights, 2> levels{{{0.7, 0.3}, {0.3, 0.7}}};
  using scalar = T;

  visformer<Config, T> backbone;
  models::per_gated_layer<models::gated_attention<c2, 8, T>, models::gated_attention<c3, 8, T>> gated;
  models::per_gated_layer<rl::gate_policy<2 * c2 + 1, 128, T>, rl::gate_policy<2 * c3 + 1, 128, T>> policy;
  models::per_gated_layer<nn::projection<c2, dyn, T>, nn::projection<c3, dyn, T>> align;  // U: pooled fused tokens -> semantics
  static constexpr auto members =
      fields("backbone", &dvla_rl::backbone, "gated", &dvla_rl::gated, "policy", &dvla_rl::policy, "align", &dvla_rl::align);

  dvla_rl_options options{};
  std::array<rl::moving_baseline, 2> baselines;

  /// `classes` counts the outputs of the backbone's pre-training head, `semantic_width` the elements of a semantic vector.
  explicit dvla_rl(std::size_t classes, std::size_t semantic_width = 512)
      : backbone(classes),
        gated{models::gated_attention<c2, 8, T>(semantic_width), models::gated_attention<c3, 8, T>(semantic_width)},
        align{nn::projection<c2, dyn, T>(semantic_width), nn::projection<c3, dyn, T>(semantic_width)} {}

  /// Images to the tokens that enter the first gated block, the last of stage 2.
  template <class Images>
  auto enter(Images const& images) const {
    auto x = backbone.embed2(backbone.first_stage(images));
    for (std::size_t i = 0; i + 1 < backbone.stage2.size(); ++i) x = backbone.stage2[i](x);
    return x;
  }

  /// One episode, of images or of tokens, with gates as the options say, or as `actions` gives them. In a training context the
  /// policy's actions are drawn at random; labels follow from the class-by-class order. Rewards and losses are computed on a
  /// tape; an inference context gives logits and gates alone.
  template <class Context>
  auto episode(episode_images<Config, T, Context> const& images, episode_semantics<T, Context> const& semantics,
               std::array<double, 2> const* actions = nullptr) const {
    return read(trace_episode(images, semantics, actions));
  }
  template <class Context>
  auto episode(episode_batch_images<Config, T, Context> const& images, episode_semantics<T, Context> const& semantics,
               std::array<double, 2> const* actions = nullptr) const {
    return read(trace_episode(images, semantics, actions));
  }
  template <class Context>
  auto episode(episode_tokens<Config, T, Context> const& tokens, episode_semantics<T, Context> const& semantics,
               std::array<double, 2> const* actions = nullptr) const {
    return read(trace_episode(tokens, semantics, actions));
  }

  /// The same without reading anything back from the device. `baselines` holds value and started (0 or 1) of each gate's
  /// baseline in the device's memory; null takes those of the model.
  template <class Input, class Context>
  auto trace_episode(Input const& input, episode_semantics<T, Context> const& semantics, std::array<double, 2> const* actions = nullptr,
                     T const* baselines_at = nullptr) const {
    detail_episode<Context, Input> run(*this, input, semantics, actions, baselines_at);
    return run.finish();
  }

  /// Moves the baselines towards an episode's rewards: after the optimizer's step.
  template <class Output>
  void update_baselines(Output const& output) {
    for (std::size_t i = 0; i < 2; ++i) baselines[i].update(output.gates[i].reward);
  }

 private:
  template <class Context, class Input>
  class detail_episode;

  template <class Context>
  static auto read(episode_trace<feature_width, T, Context> const& trace) {
    auto const number = [](auto const& scalar) { return scalar ? static_cast<double>(scalar->host()[0]) : 0; };
    using some = std::optional<variable<T, shape<>, Context>>;
    episode_output<feature_width, T, Context> out{trace.logits, trace.prototypes, trace.support_features, trace.loss};
    out.accuracy = exact_share(number(some(trace.accuracy)), trace.logits.shape()[0]);
    for (std::size_t i = 0; i < 2; ++i) {
      auto const& g = trace.gates[i];
      out.gates[i] = {number(some(g.p)),  number(some(g.action)), number(g.log_density), number(g.entropy),
                      number(g.reward), number(g.accuracy),     number(g.similarity)};
    }
    if constexpr (Context::records) out.loss_supervised = number(some(trace.supervised));
    out.loss_rl = number(trace.rl);
    out.loss_align = number(trace.align);
    return out;
  }
};

}  // namespace dvla::inline DVLA_ABI

#include <dvla/models/dvla_rl_episode.hpp>
