// Meta-tuning: one optimizer step an episode of base classes; the backbone learns at its own, smaller rate.
#pragma once

#include <dvla/fewshot/evaluator.hpp>
#include <dvla/nn/optimizer.hpp>

namespace dvla::inline DVLA_ABI {

/// The recipe, with the published constants. Rates are constant.
struct meta_settings {
  episode_shape shape{};
  double epochs = 100;
  std::size_t episodes_per_epoch = 0;  ///< 0 for floor(images / images of an episode)
  double lr = 5e-4, backbone_lr = 1e-6, weight_decay = 1e-4;
  double clip = 0;         ///< largest gradient norm; 0 does not clip
  double max_seconds = 0;  ///< the run stops after this time; 0 for no limit
  std::size_t validation_episodes = 600;
  std::uint64_t seed = 0;
};

/// Trains a few-shot model episode by episode. Images is anything with images_per_class() and load(), such as folder_images.
template <class Model, class Images>
class meta_trainer {
 public:
  /// What a step did.
  struct report {
    std::uint64_t step = 0;
    double epoch = 0, loss = 0, accuracy = 0, seconds = 0;
    std::vector<gate_report> gates{};  ///< of a model that has any
  };

  /// The model must be laid out in `weights` and initialised or loaded; vectors may be null for a model without semantics.
  meta_trainer(Model& model, parameters<float>& weights, Images const& images, class_vectors const* vectors,
               meta_settings const& settings, executor* pool)
      : model_(&model),
        weights_(&weights),
        images_(&images),
        vectors_(vectors),
        settings_(settings),
        per_class_(images.images_per_class()),
        optimizer_(weights, groups(weights, settings)),
        tape_(cpu{pool}),
        pool_(pool) {
    expect(!uses_semantics<Model> || vectors != nullptr,
           "meta-tuning: the model needs semantic vectors of the classes; give a bank");
    expect(settings.epochs > 0, "meta-tuning: epochs is ", settings.epochs, "; give a positive number");
    detail::check_episode(per_class_, settings.shape);
    std::size_t images_in_all = 0;
    for (auto const n : per_class_) images_in_all += n;
    std::size_t const an_episode = settings.shape.way * (settings.shape.shot + settings.shape.query);
    per_epoch_ =
        settings.episodes_per_epoch > 0 ? settings.episodes_per_epoch : std::max<std::size_t>(1, images_in_all / an_episode);
    state_.seed = settings.seed;
    tape_.training(true);
  }

  [[nodiscard]] std::size_t episodes_per_epoch() const { return per_epoch_; }
  [[nodiscard]] std::uint64_t total_steps() const {
    return static_cast<std::uint64_t>(settings_.epochs * static_cast<double>(per_epoch_) + 0.5);
  }
  [[nodiscard]] double progress() const {
    double const steps = static_cast<double>(state_.step) / static_cast<double>(total_steps());
    double const time = settings_.max_seconds > 0 ? state_.seconds / settings_.max_seconds : 0;
    return std::min(1.0, std::max(steps, time));
  }
  [[nodiscard]] bool done() const { return progress() >= 1; }
  /// Whether the last step ended an epoch or the run: the moment to validate.
  [[nodiscard]] bool at_epoch_end() const { return state_.step > 0 && (state_.step % per_epoch_ == 0 || done()); }

  /// One episode, one optimizer step.
  report const& step() {
    using clock = std::chrono::steady_clock;
    auto const begin = clock::now();
    auto const drawn = training_episode(per_class_, settings_.shape, settings_.seed, state_.step);
    auto const batch = load_episode<image_side<Model>>(*images_, drawn, vectors_, state_.step);
    tape_.begin_step(settings_.seed, state_.step);
    weights_->zero_gradients();
    auto out = run_episode(*model_, tape_, batch);
    loss_ = static_cast<double>(*out.loss.data_pointer());
    expect(std::isfinite(loss_), "meta-tuning: the loss is not finite at step ", state_.step,
           "; lower the rates or clip gradients");
    tape_.backward(out.loss);
    if (settings_.clip > 0) clip_gradients(*weights_, settings_.clip);
    optimizer_.step();
    after_step(*model_, out);
    ++state_.step;
    state_.seconds += std::chrono::duration<double>(clock::now() - begin).count();
    keep_baselines(*model_, state_);
    report_of(out);
    return report_;
  }

  /// Evaluates on the fixed validation episodes of `images`; whether the accuracy is the best so far, which it then becomes.
  template <class Validation>
  bool validate(Validation const& images, class_vectors const* vectors, evaluation& result) {
    auto const begin = std::chrono::steady_clock::now();
    auto const episodes = fixed_episodes(images.images_per_class(), settings_.shape, settings_.validation_episodes);
    result = evaluate_episodes(*model_, images, vectors, episodes, pool_);
    state_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    double const accuracy = result.accuracy().mean;
    if (!(accuracy > state_.best_accuracy)) return false;
    state_.best_accuracy = accuracy;
    state_.best_step = state_.step;
    return true;
  }

  [[nodiscard]] training_state const& state() const { return state_; }
  /// Continues from a state; weights and moments are the caller's to bring back.
  void restore(training_state const& state) {
    state_ = state;
    restore_baselines(*model_, state_);
  }
  [[nodiscard]] adamw<float>& optimizer() { return optimizer_; }

 private:
  static std::vector<parameter_group> groups(parameters<float> const& weights, meta_settings const& s) {
    std::vector<parameter_group> out{{"backbone.", s.backbone_lr, s.weight_decay}};
    for (auto const& e : weights.entries())
      if (e.kind == role::weight && e.name.compare(0, 9, "backbone.") != 0) {
        out.push_back({"", s.lr, s.weight_decay});
        break;
      }
    return out;
  }

  template <class Output>
  void report_of(Output const& out) {
    report_.step = state_.step;
    report_.epoch = static_cast<double>(state_.step) / static_cast<double>(per_epoch_);
    report_.loss = loss_;
    report_.accuracy = out.accuracy;
    report_.seconds = state_.seconds;
    if constexpr (requires { out.gates; }) report_.gates.assign(out.gates.begin(), out.gates.end());
  }

  Model* model_;
  parameters<float>* weights_;
  Images const* images_;
  class_vectors const* vectors_;
  meta_settings settings_;
  std::vector<std::size_t> per_class_;
  std::size_t per_epoch_ = 1;
  adamw<float> optimizer_;
  tape<> tape_;
  executor* pool_;
  training_state state_;
  report report_;
  double loss_ = 0;
};

}  // namespace dvla::inline DVLA_ABI
