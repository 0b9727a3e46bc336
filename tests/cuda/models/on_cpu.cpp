#include "on_cpu.hpp"

#include <dvla/fewshot/pretrainer.hpp>

#include "small_model.hpp"

namespace {

using namespace dvla;
using network = visformer<small::config>;

std::vector<float> logits_of(network const& net) {
  auto const numbers = on_cpu::test_images();
  tensor<float, shape<dyn, tiny::side, tiny::side, 3>> images(on_cpu::test_count);
  images.write(numbers);
  inference<> context;
  return net(context(images)).host();
}

}  // namespace

std::vector<float> on_cpu::test_images() {
  std::vector<float> out(test_count * tiny::pixels);
  for (std::size_t i = 0; i < test_count; ++i)
    tiny::paint(static_cast<std::uint32_t>(3 * i), 0, std::span(out).subspan(i * tiny::pixels, tiny::pixels));
  return out;
}

std::vector<float> on_cpu::train(std::filesystem::path const& file) {
  network net(tiny::classes);
  parameters weights(net);
  initialise(net, 1);
  tiny::batches source(0);
  pretrain_settings settings;
  settings.epochs = 4;
  settings.warmup_epochs = 1;
  settings.lr = 2e-3;
  pretrainer trainer(net, weights, source, tiny::classes, settings, cpu{});
  for (int i = 0; i < 6; ++i) (void)trainer.step();
  save_training(file, weights, trainer.optimizer(), trainer.state(), {});
  return logits_of(net);
}

std::vector<float> on_cpu::logits(std::filesystem::path const& file) {
  network net(tiny::classes);
  parameters weights(net);
  (void)load_weights(weights, open_tensors(file));
  return logits_of(net);
}

void on_cpu::copy_training(std::filesystem::path const& from, std::filesystem::path const& to) {
  network net(tiny::classes);
  parameters weights(net);
  adamw optimizer(weights, 1e-3);
  auto const state = load_training(open_tensors(from), weights, optimizer);
  save_training(to, weights, optimizer, state, {});
}
