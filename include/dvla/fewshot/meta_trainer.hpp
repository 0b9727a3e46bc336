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

/// Trains a few-shot model episode by episode. Images is anything with images_per_class() and load(), such as folder_images, and
/// on a device with memory of its own what episode_source takes.
template <class Model, class Images, class Device = cpu>
class meta_trainer {
 public:
  /// What a step did.
  struct report {
    std::uint64_t step = 0;
    double epoch = 0, loss = 0, accuracy = 0, seconds = 0;
    double waited = 0;                 ///< of the training's seconds in this process, those spent on getting images
    std::vector<gate_report> gates{};  ///< of a model that has any
  };

  /// The model must be laid out in `weights` and initialised or loaded; vectors may be null for a model without semantics.
  meta_trainer(Model& model, parameters<float, Device>& weights, Images const& images, class_vectors const* vectors,
               meta_settings const& settings, Device device)
      : model_(&model),
        weights_(&weights),
        images_(&images),
        vectors_(vectors),
        settings_(settings),
        per_class_(images.images_per_class()),
        optimizer_(weights, groups(weights, settings)),
        tape_(device),
        figures_(shape<dyn>(figures_of_gate * most_gates + 2)),
        baselines_(shape<dyn>(2 * most_gates)) {
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
    if constexpr (!Device::is_host)
      source_.emplace(device, images, vectors, [counts = per_class_, shape = settings.shape, seed = settings.seed](std::uint64_t step) {
        return training_episode(counts, shape, seed, step);
      });
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
    learn();
    expect(std::isfinite(report_.loss), "meta-tuning: the loss is not finite at step ", state_.step,
           "; lower the rates or clip gradients");
    ++state_.step;
    state_.seconds += std::chrono::duration<double>(clock::now() - begin).count();
    keep_baselines(*model_, state_);
    report_.step = state_.step;
    report_.epoch = static_cast<double>(state_.step) / static_cast<double>(per_epoch_);
    report_.seconds = state_.seconds;
    return report_;
  }

  /// Evaluates on the fixed validation episodes of `images`; whether the accuracy is the best so far, which it then becomes.
  template <class Validation>
  bool validate(Validation const& images, class_vectors const* vectors, evaluation& result) {
    auto const begin = std::chrono::steady_clock::now();
    auto const episodes = fixed_episodes(images.images_per_class(), settings_.shape, settings_.validation_episodes);
    result = evaluate_episodes(*model_, images, vectors, episodes, tape_.device());
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
  [[nodiscard]] adamw<float, Device>& optimizer() { return optimizer_; }

 private:
  static std::vector<parameter_group> groups(parameters<float, Device> const& weights, meta_settings const& s) {
    std::vector<parameter_group> out{{"backbone.", s.backbone_lr, s.weight_decay}};
    for (auto const& e : weights.entries())
      if (e.kind == role::weight && e.name.compare(0, 9, "backbone.") != 0) {
        out.push_back({"", s.lr, s.weight_decay});
        break;
      }
    return out;
  }

  /// One episode and what it teaches; loss, accuracy and gates go into the report.
  void learn() {
    if constexpr (Device::is_host) {
      auto const begin = std::chrono::steady_clock::now();
      auto const drawn = training_episode(per_class_, settings_.shape, settings_.seed, state_.step);
      auto const batch = load_episode<image_side<Model>>(*images_, drawn, vectors_, state_.step);
      report_.waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      optimizer_.begin_step(1);
      tape_.begin_step(settings_.seed, state_.step);
      weights_->zero_gradients();
      auto const out = run_episode(*model_, tape_, batch);
      tape_.backward(out.loss);
      apply_gradients();
      report_.loss = static_cast<double>(*out.loss.data_pointer());
      report_.accuracy = out.accuracy;
      if constexpr (requires { out.gates; }) report_.gates.assign(out.gates.begin(), out.gates.end());
      after_step(*model_, out);
    } else {
      if (!staged_ || staged_->step != state_.step) staged_ = staged_episode{state_.step, source_->load(state_.step)};
      optimizer_.begin_step(1);
      put_baselines();
      replay_.run(tape_.device(), state_.step, [&] { learn_from(staged_->inputs); });
      staged_ = staged_episode{state_.step + 1, source_->load(state_.step + 1)};  // while the device works on this one
      report_.waited = source_->waited();
      read_figures();
    }
  }

  /// The work of a step, the same on the same memory at every step.
  void learn_from(episode_inputs<image_side<Model>, Device> const& in) {
    tape_.begin_step(settings_.seed, state_.step);
    weights_->zero_gradients();
    auto const out = trace_episode(*model_, tape_, in, static_cast<float const*>(baselines_.data()));
    tape_.backward(out.loss);  // with which a branch ends, and what it computed is there
    std::size_t place = 0;
    auto const keep = [&](auto const& scalar) {
      if (scalar) copy(tape_.device(), 1, static_cast<float const*>((*scalar).data_pointer()), figures_.data() + place);
      ++place;
    };
    keep(&out.loss);
    keep(&out.accuracy);
    if constexpr (requires { out.gates; }) {
      for (auto const& g : out.gates) {
        keep(&g.p), keep(&g.action), keep(g.log_density), keep(g.entropy), keep(g.reward), keep(g.accuracy), keep(g.similarity);
      }
      gates_ = out.gates.size();
    }
    apply_gradients();
  }

  void apply_gradients() {
    if (settings_.clip > 0) limit_gradients(*weights_, settings_.clip);
    optimizer_.apply_step();
  }

  /// Value and started of each gate's baseline, where the recorded step reads them.
  void put_baselines() {
    if constexpr (requires { model_->baselines; }) {
      std::array<float, 2 * most_gates> now{};
      for (std::size_t i = 0; i < model_->baselines.size(); ++i) {
        now[2 * i] = static_cast<float>(model_->baselines[i].value());
        now[2 * i + 1] = model_->baselines[i].started() ? 1.0f : 0.0f;
      }
      using words = std::array<float, 2 * most_gates>;
      put(tape_.device(), reinterpret_cast<words*>(baselines_.data()), now);
    }
  }

  void read_figures() {
    std::vector<float> host(figures_.size());
    download(tape_.device(), host.size(), static_cast<float const*>(figures_.data()), host.data());
    auto const at = [&](std::size_t i) { return static_cast<double>(host[i]); };
    report_.loss = at(0);
    report_.accuracy = at(1);
    report_.gates.clear();
    for (std::size_t i = 2; i < 2 + gates_ * figures_of_gate; i += figures_of_gate)
      report_.gates.push_back({at(i), at(i + 1), at(i + 2), at(i + 3), at(i + 4), at(i + 5), at(i + 6)});
    if constexpr (requires { model_->update_baselines(report_); }) model_->update_baselines(report_);
  }

  static constexpr std::size_t most_gates = 2, figures_of_gate = 7;

  /// The episode of a step where a recorded step reads it.
  struct staged_episode {
    std::uint64_t step;
    episode_inputs<image_side<Model>, Device> inputs;
  };

  Model* model_;
  parameters<float, Device>* weights_;
  Images const* images_;
  class_vectors const* vectors_;
  meta_settings settings_;
  std::vector<std::size_t> per_class_;
  std::size_t per_epoch_ = 1;
  adamw<float, Device> optimizer_;
  tape<Device> tape_;
  replay<Device> replay_;
  std::optional<episode_source<image_side<Model>, Device, Images>> source_;  // of a device with memory of its own
  std::optional<staged_episode> staged_;
  tensor<float, shape<dyn>, Device> figures_, baselines_;
  std::size_t gates_ = 0;
  training_state state_;
  report report_;
};

}  // namespace dvla::inline DVLA_ABI
