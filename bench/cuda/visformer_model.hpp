// Visformer-Tiny 224 on a card in one precision: forward passes, training steps, and DVLA-RL's episodes.
#pragma once

#include <cstdio>
#include <cstring>

#include <dvla/cuda.hpp>
#include <dvla/fewshot/learner.hpp>
#include <dvla/models/dvla_rl.hpp>

#include "timing.hpp"

namespace bench {

using namespace dvla;

/// Normal numbers on the device.
template <class Device, class S>
tensor<float, S, Device> random_tensor(S const& s, std::uint64_t seed) {
  tensor<float, S, Device> out(s);
  std::vector<float> host(s.size());
  random_stream random(seed, draw::test, 0, 0);
  for (float& x : host) x = static_cast<float>(random.normal());
  out.write(host);
  return out;
}

using images_224 = shape<dyn, 224, 224, 3>;

/// What is measured by one name, such as "forward 80".
template <class Device>
class visformer_model {
 public:
  visformer_model() { initialise(net_, 1); }

  double forward(std::size_t batch) {
    auto const images = random_tensor<Device>(images_224(batch), 2);
    inference<Device> context(device_);
    return timing::median_ms(device_, [&] { (void)net_(context(images.view_of())); });
  }

  double training_step(std::size_t batch) {
    auto const images = random_tensor<Device>(images_224(batch), 2);
    std::vector<std::uint32_t> labels(batch);
    for (std::size_t i = 0; i < batch; ++i) labels[i] = static_cast<std::uint32_t>(i % 64);
    tape<Device> t(device_);
    t.training(true);
    auto const* const at = t.constant(labels);
    adamw optimizer(weights_, 5e-4, 0.05);
    optimizer.begin_step(1);
    return timing::median_ms(device_, [&] {
      weights_.zero_gradients();
      t.backward(cross_entropy(net_(t(images.view_of())), at, 0.1));
      optimizer.apply_step();
    });
  }

 private:
  Device device_{};
  visformer<visformer_tiny_224> net_{64};
  parameters<float, Device> weights_{net_, device_};
};

/// 5-way 1-shot, 15 queries a class, eight phrases and a sentence a class.
template <class Device>
class episode_model {
 public:
  episode_model() { initialise(model_, 1); }

  double evaluation() {
    inference<Device> context(device_);
    return timing::median_ms(device_, [&] { (void)trace(context); });
  }

  double training_step() {
    tape<Device> t(device_);
    t.training(true);
    adamw optimizer(weights_, {{"backbone.", 1e-6, 1e-4}, {"", 5e-4, 1e-4}});
    optimizer.begin_step(1);
    return timing::median_ms(device_, [&] {
      t.begin_step(1, 0);
      weights_.zero_gradients();
      t.backward(trace(t).loss);
      optimizer.apply_step();
    });
  }

 private:
  template <class Context>
  auto trace(Context& context) {
    episode_inputs<224, Device> const in{5, 5, 75, 40, 512, images_.data(), local_.data(), global_.data()};
    return trace_episode(model_, context, in, static_cast<float const*>(nullptr));
  }

  using rows = shape<dyn, dyn>;
  Device device_{};
  dvla_rl<visformer_tiny_224> model_{1};
  parameters<float, Device> weights_{model_, device_};
  tensor<float, images_224, Device> images_ = random_tensor<Device>(images_224(80), 3);
  tensor<float, rows, Device> local_ = random_tensor<Device>(rows(40, 512), 5), global_ = random_tensor<Device>(rows(5, 512), 6);
};

/// Everything in one precision; `only` picks what contains it.
template <class Device>
void run(char const* precision, char const* only) {
  auto const row = [&](char const* name, auto const& measure) {
    if (std::strstr(name, only) == nullptr) return;
    std::printf("%-34s %-5s %8.3f ms\n", name, precision, measure());
    std::fflush(stdout);
  };
  {
    visformer_model<Device> model;
    row("forward, batch 1", [&] { return model.forward(1); });
    row("forward, batch 80", [&] { return model.forward(80); });
    row("forward, batch 512", [&] { return model.forward(512); });
    row("training step, batch 80", [&] { return model.training_step(80); });
    row("training step, batch 512", [&] { return model.training_step(512); });
  }
  episode_model<Device> episodes;
  row("evaluation episode 5-way 1-shot", [&] { return episodes.evaluation(); });
  row("meta-training step 5-way 1-shot", [&] { return episodes.training_step(); });
}

void run_f32(char const* only);
void run_tf32(char const* only);
void run_bf16(char const* only);

}  // namespace bench
