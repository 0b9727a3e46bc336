// A small network, forward and backward, in 20 lines.
#include <dvla/dvla.hpp>

using namespace dvla;

struct network {
  nn::linear<784, 128> fc1;
  nn::linear<128, 10> fc2;
  static constexpr auto members = fields("fc1", &network::fc1, "fc2", &network::fc2);
  auto operator()(auto const& x) const { return fc2(relu(fc1(x))); }
};

void train(tensor<float, shape<dyn, 784>> const& images, std::span<std::uint32_t const> labels) {
  network net;
  parameters weights(net);
  initialise(net, 1);
  adamw optimizer(weights, 1e-3);
  tape<> t;
  t.backward(cross_entropy(net(t(images)), labels));
  optimizer.step();
}
