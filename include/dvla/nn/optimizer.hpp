// Optimizers over a model's flat buffer: one loop a group of parameters that lie together.
#pragma once

#include <cmath>

#include <dvla/kernels/cpu/optimizer.hpp>
#include <dvla/kernels/cpu/replay.hpp>
#include <dvla/nn/module.hpp>

namespace dvla::inline DVLA_ABI {

/// The hyper-parameters of some of a model's parameters: those whose name begins with `prefix`. The first group that fits
/// counts; a rate of 0 freezes. Every parameter must be in a group (an empty prefix takes the rest).
struct parameter_group {
  std::string prefix;
  double lr = 5e-4, weight_decay = 0;
};

namespace detail {

/// A stretch of the flat buffer with one set of hyper-parameters.
struct flat_range {
  std::size_t begin, end, group;
};

/// The stretches of the groups, neighbours joined.
template <class T, class D>
[[nodiscard]] std::vector<flat_range> group_ranges(parameters<T, D> const& weights, std::vector<parameter_group> const& groups) {
  expect(weights.learns(), "optimizer: the parameters have no memory for gradients; lay the model out with ",
         "gradient_memory::allocated");
  std::vector<flat_range> ranges;
  std::vector<bool> used(groups.size(), false);
  for (auto const& e : weights.entries()) {
    if (e.kind != role::weight) continue;
    std::size_t g = 0;
    while (g < groups.size() && e.name.compare(0, groups[g].prefix.size(), groups[g].prefix) != 0) ++g;
    expect(g < groups.size(), "optimizer: parameter ", e.name, " is in no group; add a group with an empty prefix for the rest");
    used[g] = true;
    if (!ranges.empty() && ranges.back().group == g) ranges.back().end = e.offset + e.count;
    else ranges.push_back({e.offset, e.offset + e.count, g});
  }
  for (std::size_t g = 0; g < groups.size(); ++g)
    expect(used[g], "optimizer: no parameter's name begins with \"", groups[g].prefix,
           "\", or an earlier group took them all; check the group's prefix and the order of the groups");
  return ranges;
}

}  // namespace detail

/// The constants of AdamW (Loshchilov and Hutter, arXiv 1711.05101).
struct adamw_options {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};

/// AdamW as PyTorch defines it: decoupled weight decay on every parameter of a group.
template <class T = float, class Device = cpu>
class adamw {
 public:
  adamw(parameters<T, Device>& weights, std::vector<parameter_group> groups, adamw_options options = {})
      : weights_(&weights),
        groups_(std::move(groups)),
        options_(options),
        ranges_(detail::group_ranges(weights, groups_)),
        first_(shape<dyn>(weights.weights().size())),
        second_(shape<dyn>(weights.weights().size())),
        state_(static_cast<kernels::adamw_state*>(Device::allocate(sizeof(kernels::adamw_state)))) {}
  /// One group of all parameters.
  adamw(parameters<T, Device>& weights, double lr, double weight_decay = 0, adamw_options options = {})
      : adamw(weights, {{"", lr, weight_decay}}, options) {}

  adamw(adamw const&) = delete;
  adamw& operator=(adamw const&) = delete;
  ~adamw() { Device::deallocate(state_); }

  /// One step with the gradients of the flat buffer; every group's rate is multiplied by `rate_scale` (a schedule's value).
  void step(double rate_scale = 1) {
    begin_step(rate_scale);
    apply_step();
  }
  /// The first half of step(): what changes from one step to the next.
  void begin_step(double rate_scale) {
    ++steps_;
    put(weights_->device(), state_, kernels::adamw_state{rate_scale, steps_});
  }
  /// The second half, the same work at every step: it may be part of a recorded one (kernels/replay.hpp).
  void apply_step() {
    for (auto const& r : ranges_) {
      auto const& g = groups_[r.group];
      if (g.lr == 0) continue;
      auto* const rounded = weights_->rounded();
      adamw_step_at(weights_->device(), r.end - r.begin, weights_->weights().data() + r.begin,
                    static_cast<T const*>(weights_->gradients().data() + r.begin), first_.data() + r.begin, second_.data() + r.begin,
                    g.lr, options_.beta1, options_.beta2, options_.eps, g.weight_decay,
                    static_cast<kernels::adamw_state const*>(state_), rounded == nullptr ? nullptr : rounded + r.begin);
    }
  }

  /// What an exact resume needs besides the weights.
  [[nodiscard]] tensor<T, shape<dyn>, Device>& first_moments() { return first_; }
  [[nodiscard]] tensor<T, shape<dyn>, Device>& second_moments() { return second_; }
  [[nodiscard]] std::uint64_t steps() const { return steps_; }
  void steps(std::uint64_t taken) { steps_ = taken; }

 private:
  parameters<T, Device>* weights_;
  std::vector<parameter_group> groups_;
  adamw_options options_;
  std::vector<detail::flat_range> ranges_;
  tensor<T, shape<dyn>, Device> first_, second_;
  kernels::adamw_state* state_;
  std::uint64_t steps_ = 0;
};

/// Stochastic gradient descent with momentum, as PyTorch defines it: coupled weight decay, optional Nesterov momentum.
template <class T = float, class Device = cpu>
class sgd {
 public:
  sgd(parameters<T, Device>& weights, std::vector<parameter_group> groups, double momentum = 0.9, bool nesterov = false)
      : weights_(&weights),
        groups_(std::move(groups)),
        ranges_(detail::group_ranges(weights, groups_)),
        buffer_(shape<dyn>(weights.weights().size())),
        momentum_(momentum),
        nesterov_(nesterov) {}
  sgd(parameters<T, Device>& weights, double lr, double momentum = 0.9, double weight_decay = 0, bool nesterov = false)
      : sgd(weights, {{"", lr, weight_decay}}, momentum, nesterov) {}

  void step(double rate_scale = 1) {
    for (auto const& r : ranges_) {
      auto const& g = groups_[r.group];
      if (g.lr == 0) continue;
      sgd_step(weights_->device(), r.end - r.begin, weights_->weights().data() + r.begin,
               static_cast<T const*>(weights_->gradients().data() + r.begin), buffer_.data() + r.begin, g.lr * rate_scale, momentum_, nesterov_,
               g.weight_decay);
    }
    weights_->weights_changed();
  }

  [[nodiscard]] tensor<T, shape<dyn>, Device>& momenta() { return buffer_; }

 private:
  parameters<T, Device>* weights_;
  std::vector<parameter_group> groups_;
  std::vector<detail::flat_range> ranges_;
  tensor<T, shape<dyn>, Device> buffer_;
  double momentum_;
  bool nesterov_;
};

/// Scales all gradients so that their joint L2 norm is at most `most`; returns the norm before. A norm that is not finite
/// throws: the step would destroy the weights.
template <class T, class Device>
double clip_gradients(parameters<T, Device>& weights, double most) {
  auto& g = weights.gradients();
  double const norm = std::sqrt(squared_norm(weights.device(), g.size(), static_cast<T const*>(g.data())));
  expect(std::isfinite(norm), "clip_gradients: the gradient norm is not finite; lower the learning rate or check the input for NaN");
  if (norm > most) scale(weights.device(), g.size(), g.data(), static_cast<T>(most / norm));
  return norm;
}

/// The same without the norm coming back: a part of a step that may be recorded (kernels/replay.hpp).
template <class T, class Device>
void limit_gradients(parameters<T, Device>& weights, double most) {
  if constexpr (Device::is_host) (void)clip_gradients(weights, most);
  else clip_norm(weights.device(), weights.gradients().size(), weights.gradients().data(), most);
}

/// An exponential moving average of a model's weights.
template <class T = float, class Device = cpu>
class weight_average {
 public:
  explicit weight_average(parameters<T, Device> const& weights, double decay = 0.999)
      : weights_(&weights), decay_(decay), average_(weights.weights().clone()) {}

  void update() { lerp(weights_->device(), average_.size(), average_.data(), weights_->weights().data(), decay_); }
  [[nodiscard]] tensor<T, shape<dyn>, Device>& average() { return average_; }

 private:
  parameters<T, Device> const* weights_;
  double decay_;
  tensor<T, shape<dyn>, Device> average_;
};

}  // namespace dvla::inline DVLA_ABI
