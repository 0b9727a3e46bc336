// Visformer-Tiny, forward and backward.
#include <dvla/dvla.hpp>
#include <dvla/models/visformer.hpp>

using namespace dvla;

void train(tensor<float, shape<dyn, 224, 224, 3>> const& images, std::span<std::uint32_t const> labels) {
  visformer<visformer_tiny_224> net(64);
  parameters weights(net);
  initialise(net, 1);
  adamw optimizer(weights, 5e-4);
  tape<> t;
  t.training(true);
  t.backward(cross_entropy(net(t(images)), labels));
  optimizer.step();
}
