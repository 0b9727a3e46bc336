// A run of the small Visformer in one precision.
#pragma once

#include <dvla/cuda.hpp>
#include <dvla/fewshot/pretrainer.hpp>

#include "curves.hpp"

namespace curves {

template <class Device>
std::vector<double> train(pictures const& all, std::uint64_t seed) {
  using namespace dvla;
  static_assert(visformer_small_32.image == side);
  batches source(all);
  pretrain_settings settings;
  settings.epochs = static_cast<double>(steps) / static_cast<double>(source.steps_per_epoch());
  settings.warmup_epochs = 0.4;
  settings.lr = 2e-3;
  settings.weight_decay = 0.2;
  settings.label_smoothing = 0;
  settings.mix.probability = 0;
  settings.seed = seed;
  visformer<visformer_small_32> net(classes);
  parameters<float, Device> weights(net, Device{});
  initialise(net, seed);
  net.drop_path(0.1);
  pretrainer<visformer<visformer_small_32>, batches, Device> trainer(net, weights, source, classes, settings, Device{});
  std::vector<double> losses;
  while (losses.size() < steps) losses.push_back(trainer.step().loss);
  return losses;
}

}  // namespace curves
