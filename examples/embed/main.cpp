#include <cstdio>
#include <dvla/dvla.hpp>
using namespace dvla;

struct xor_net {  // a model is a struct with named members
  nn::linear<2, 16> hidden;
  nn::linear<16, 2> head;
  static constexpr auto members = fields("hidden", &xor_net::hidden, "head", &xor_net::head);
  auto operator()(auto const& x) const { return head(tanh(hidden(x))); }
};

int main() {
  tensor<float, shape<dyn, 2>> x(4);  // the batch is known at run time, the width to the compiler
  for (std::size_t i = 0; i < 4; ++i) x(i, 0) = float(i / 2), x(i, 1) = float(i % 2);
  std::uint32_t const labels[] = {0, 1, 1, 0};

  xor_net net;
  parameters weights(net);
  initialise(net, 1);
  adamw optimizer(weights, 0.05);
  tape<> t;
  for (int step = 0; step < 200; ++step) {
    weights.zero_gradients();
    auto const loss = cross_entropy(net(t(x)), labels);
    if (step % 50 == 49) std::printf("step %3d  loss %.4f\n", step + 1, loss.value()());
    t.backward(loss);
    optimizer.step();
  }
}
