// Pre-training: whole-class classification of the base classes with Mixup, CutMix, label smoothing, AdamW and a cosine.
#pragma once

#include <chrono>
#include <optional>

#include <dvla/autodiff/loss.hpp>
#include <dvla/data/augment/mix.hpp>
#include <dvla/distributed/communicator.hpp>
#include <dvla/kernels/staging.hpp>
#include <dvla/nn/optimizer.hpp>
#include <dvla/nn/schedule.hpp>
#include <dvla/nn/training_state.hpp>

namespace dvla::inline DVLA_ABI {

/// The recipe, with the published constants but for k_decay (published: 0.1).
struct pretrain_settings {
  double epochs = 800, warmup_epochs = 5;
  double lr = 5e-4, warmup_lr = 1e-6, weight_decay = 0.05, k_decay = 1;
  double label_smoothing = 0.1;
  mix_settings mix{};
  double clip = 0;         ///< largest gradient norm; 0 does not clip
  double average = 0;      ///< decay of the moving average of the weights; 0 keeps none
  double max_seconds = 0;  ///< 0 for no limit; a limit compresses the schedule, it does not cut it off
  std::uint64_t seed = 0;
};

/// What a process would like to have after a step; with several, all get to know what any of them asked for.
struct pretrain_wishes {
  bool save = false, stop = false;
};

/// What a step did. With several processes all numbers but `waited` are the same for all.
struct pretrain_report {
  std::uint64_t step = 0;
  double epoch = 0, progress = 0, rate = 0, loss = 0, seconds = 0;
  double waited = 0;  ///< of the run's seconds in this process, those spent waiting for batches
  pretrain_wishes wishes{};  ///< of all processes
};

namespace detail {

/// What processes tell each other in a step: the mean of each number over them.
struct step_message {
  double loss = 0, seconds = 0, save = 0, stop = 0;
};

}  // namespace detail

/// Trains a classifier step by step. Batches is anything with next(), which gives {step, labels, pixels}, and
/// steps_per_epoch(), such as batch_loader; or whose next() gives {step, pixels, targets} in the device's memory, always at the
/// same addresses and mixed already, such as device_batches. Results are equal for any number of threads; with a time limit they
/// depend on the clock.
///
/// Several processes train one model where a communicator joins them (distributed/communicator.hpp): each takes its share of every
/// batch (share_of(communicator), for the order of the batches), gradients are averaged over the processes before they are clipped,
/// and all take the same optimizer step with the same weights. Images, draws and the loss are those of one process with the whole
/// batch, but for rounding. BatchNorm normalises by the statistics of a process's own share, as it does in PyTorch without
/// SyncBatchNorm; see average_statistics() for the running ones. All processes must call the same functions in the same order.
template <class Model, class Batches, class Device = cpu, communicator<Device> Communicator = single_process>
class pretrainer {
 public:
  /// The model must be laid out in `weights` and initialised; `classes` is the width of its head.
  pretrainer(Model& model, parameters<float, Device>& weights, Batches& batches, std::size_t classes,
             pretrain_settings const& settings, Device device, Communicator ranks = {})
      : model_(&model),
        weights_(&weights),
        batches_(&batches),
        classes_(classes),
        settings_(settings),
        schedule_{settings.epochs, settings.warmup_epochs, settings.lr, settings.warmup_lr, 0, settings.k_decay},
        ranks_(std::move(ranks)),
        optimizer_(weights, settings.lr, settings.weight_decay),
        tape_(device) {
    expect(settings.lr > 0 && settings.epochs > 0, "pre-training: lr is ", settings.lr, " and epochs ", settings.epochs,
           "; both must be positive");
    (void)schedule_(0);
    state_.seed = settings.seed;
    if (settings.average > 0) average_.emplace(weights, settings.average);
    tape_.training(true);
    tape_.share(share_of(ranks_));
  }

  [[nodiscard]] std::uint64_t total_steps() const {
    return static_cast<std::uint64_t>(settings_.epochs * static_cast<double>(batches_->steps_per_epoch()) + 0.5);
  }

  /// How far the run is, 0 to 1: the larger share of the steps done and of the time spent.
  [[nodiscard]] double progress() const {
    double const steps = static_cast<double>(state_.step) / static_cast<double>(total_steps());
    double const time = settings_.max_seconds > 0 ? state_.seconds / settings_.max_seconds : 0;
    return std::min(1.0, std::max(steps, time));
  }
  [[nodiscard]] bool done() const { return progress() >= 1; }

  /// One optimizer step with the next batch. The rate is the schedule at `progress` of its length, so a run that the time
  /// limit ends early has gone through the whole schedule. Of several processes, the first step gives all of them the weights and
  /// moments of rank 0.
  pretrain_report step(pretrain_wishes const& wishes = {}) {
    using clock = std::chrono::steady_clock;
    auto const begin = clock::now();
    if (ranks_.size() > 1 && !together_) begin_together();
    pretrain_report report;
    report.progress = progress();
    report.rate = schedule_(report.progress * settings_.epochs);
    auto const common = learn(report.rate, wishes);
    report.loss = common.loss;
    report.wishes = ranks_.size() > 1 ? pretrain_wishes{common.save > 0, common.stop > 0} : wishes;
    ++state_.step;
    double const own_seconds = std::chrono::duration<double>(clock::now() - begin).count();
    // The schedule may go by the time, so all processes count the same: their mean, of the step before.
    state_.seconds += ranks_.size() > 1 ? common.seconds : own_seconds;
    last_seconds_ = own_seconds;
    report.step = state_.step;
    report.epoch = static_cast<double>(state_.step) / static_cast<double>(batches_->steps_per_epoch());
    report.seconds = state_.seconds;
    report.waited = waited_;
    return report;
  }

  /// Makes the running statistics of every process their mean over all processes: to be called before evaluation and before a
  /// checkpoint. Training does not read them and they move linearly, so this gives what averaging after every step would give.
  /// The variances are those within a share, a little smaller than the whole batch's.
  void average_statistics() {
    auto& statistics = weights_->statistics();
    ranks_.all_reduce_mean(tape_.device(), statistics.size(), statistics.data());
  }

  [[nodiscard]] training_state const& state() const { return state_; }
  [[nodiscard]] training_state& state() { return state_; }
  [[nodiscard]] adamw<float, Device>& optimizer() { return optimizer_; }
  /// The averaged weights, or null if none are kept.
  [[nodiscard]] tensor<float, shape<dyn>, Device>* average() { return average_ ? &average_->average() : nullptr; }

 private:
  /// A batch in the device's memory.
  template <class Pixel>
  struct inputs {
    std::size_t count;
    Pixel const* pixels;
    float const* targets;
  };

  detail::step_message learn(double rate, pretrain_wishes const& wishes) {
    auto const begin = std::chrono::steady_clock::now();
    auto const in = next_inputs();
    waited_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    detail::step_message message{0, last_seconds_, wishes.save ? 1.0 : 0.0, wishes.stop ? 1.0 : 0.0};
    if (ranks_.size() > 1) put(tape_.device(), message_.data(), message);
    optimizer_.begin_step(rate / settings_.lr);
    replay_.run(tape_.device(), state_.step, [&] { learn_from(in); });
    download(tape_.device(), 1, static_cast<detail::step_message const*>(message_.data()), &message);
    check_loss(message.loss);
    return message;
  }

  /// Gives all processes what rank 0 has. Throws where they are not at the same step.
  void begin_together() {
    auto const& device = tape_.device();
    auto const take = [&](auto& t) { ranks_.broadcast(device, t.size(), t.data()); };
    tensor<double, shape<1>, Device> step_of_first;
    put(device, step_of_first.data(), static_cast<double>(state_.step));
    take(step_of_first);
    double first = 0;
    download(device, 1, static_cast<double const*>(step_of_first.data()), &first);
    expect(first == static_cast<double>(state_.step), "pre-training: rank ", ranks_.rank(), " is at step ", state_.step,
           " but rank 0 at ", first, "; all processes must continue from the same checkpoint");
    take(weights_->weights());
    take(weights_->statistics());
    take(optimizer_.first_moments());
    take(optimizer_.second_moments());
    if (average_) take(average_->average());
    weights_->weights_changed();
    together_ = true;
  }

  void check_loss(double value) const {
    expect(std::isfinite(value), "pre-training: the loss is not finite at step ", state_.step,
           "; lower the rate or clip gradients, and continue from the last checkpoint");
  }

  /// The work of a step, the same on the same memory at every step.
  template <class Pixel>
  void learn_from(inputs<Pixel> const& in) {
    constexpr std::size_t side = Model::config.image;
    using images = view<Pixel const, shape<dyn, side, side, 3>, contiguous, Device>;
    using rows = view<float const, shape<dyn, dyn>, contiguous, Device>;
    tape_.begin_step(settings_.seed, state_.step);
    weights_->zero_gradients();
    auto const loss = cross_entropy((*model_)(tape_(images(in.pixels, shape<dyn, side, side, 3>(in.count)))),
                                    rows(in.targets, shape<dyn, dyn>(in.count, classes_)));
    double* const numbers = &message_.data()->loss;
    convert(tape_.device(), 1, static_cast<float const*>(loss.data_pointer()), numbers, false);
    ranks_.all_reduce_mean(tape_.device(), sizeof(detail::step_message) / sizeof(double), numbers);
    if constexpr (Device::is_host) check_loss(*numbers);  // before the weights are touched
    tape_.backward(loss);
    ranks_.all_reduce_mean(tape_.device(), weights_->gradients().size(), weights_->gradients().data());
    if (settings_.clip > 0) limit_gradients(*weights_, settings_.clip);
    optimizer_.apply_step();
    if (average_) average_->update();
  }

  auto next_inputs() {
    auto const check = [&](std::uint64_t step) {
      expect(step == state_.step, "pre-training: the loader is at step ", step, " but the run at ", state_.step,
             "; begin the loader at the run's step");
    };
    if constexpr (requires { batches_->next().targets; }) {
      auto const& batch = batches_->next();
      check(batch.step);
      return inputs<std::remove_cvref_t<decltype(*batch.pixels)>>{batch.size(), batch.pixels, batch.targets};
    } else {
      constexpr std::size_t side = Model::config.image;
      auto const& batch = batches_->next();
      check(batch.step);
      random_stream random(settings_.seed, draw::mix, 0, state_.step);
      batch_mix const mix = draw_mix(settings_.mix, side, side, random);
      pixels_.assign(batch.pixels.begin(), batch.pixels.end());
      apply(mix, side, side, pixels_);
      targets_.resize(batch.labels.size() * classes_);
      soft_targets(batch.labels, classes_, settings_.label_smoothing, mix, targets_);
      return inputs<float>{batch.labels.size(), staged_pixels_.put(tape_.device(), pixels_), staged_targets_.put(tape_.device(), targets_)};
    }
  }

  Model* model_;
  parameters<float, Device>* weights_;
  Batches* batches_;
  std::size_t classes_;
  pretrain_settings settings_;
  cosine_schedule schedule_;
  Communicator ranks_;
  adamw<float, Device> optimizer_;
  std::optional<weight_average<float, Device>> average_;
  tape<Device> tape_;
  tensor<detail::step_message, shape<1>, Device> message_;
  replay<Device> replay_;
  staged<float, Device> staged_pixels_, staged_targets_;
  training_state state_;
  double waited_ = 0, last_seconds_ = 0;
  bool together_ = false;
  std::vector<float> pixels_, targets_;
};

}  // namespace dvla::inline DVLA_ABI
