// Branches on a card: beside the queue they leave the values and gradients that they leave in it, to the bit, issued or replayed.
#include <doctest/doctest.h>

#include <vector>

#include <dvla/autodiff/branch.hpp>
#include <dvla/cuda.hpp>
#include <dvla/nn/layers.hpp>

#include "device_buffer.hpp"
#include "support/tensors.hpp"

using namespace dvla;

namespace {

constexpr std::size_t width = 96;

/// Weights of which some are used in the branch alone and some on both sides.
struct two_sided {
  nn::linear<width, width> both;
  nn::projection<width, width> aside;
  nn::linear<width, width> here;
  static constexpr auto members = fields("both", &two_sided::both, "aside", &two_sided::aside, "here", &two_sided::here);
};

/// A loss with two branches: one whose result is used on the way, and one that nothing waits for.
template <class Context, class Images, class Words>
auto loss_of(two_sided const& model, Images const& x, Words const& words, bool beside) {
  using rows = variable<float, shape<dyn, width>, Context>;
  auto& context = x.context();
  branch reading(context, beside);
  CHECK(reading.beside() == beside);
  rows read = reading.take(words);
  for (int i = 0; i < 6; ++i) read = evaluate(tanh(model.both(read) + model.aside(read)));
  auto const mean_read = mean<0>(read);
  reading.close();
  rows y = x;
  for (int i = 0; i < 3; ++i) y = evaluate(gelu(model.here(y)) + model.both(y));
  rows const mixed = evaluate(y * reading.result(mean_read));
  branch judging(context, beside);
  rows judged = judging.take(stop_gradient(mixed));
  for (int i = 0; i < 4; ++i) judged = evaluate(sigmoid(model.aside(judged)) * judged + model.both(judged));
  auto const mean_of = [](rows const& v) {
    return variable<float, shape<>, Context>(reshape(mean<0>(reshape(v, shape<dyn>(v.size()))), shape<>{}));
  };
  return judging.sum(mean_of(evaluate(mixed * mixed)), mean_of(evaluate(judged * judged)));
}

/// Inputs and weights on the card, the same for every object.
struct setting {
  cuda device{};
  two_sided model;
  parameters<float, cuda> weights{model, device};
  tensor<float, shape<dyn, width>, cuda> x{1000}, words{45};

  setting() {
    initialise(model, 3);
    auto const fill = [](auto& t, std::uint64_t seed) {
      auto const host = uniform_tensor<float>(shape<dyn>(t.size()), seed);
      t.write(std::vector<float>(host.data(), host.data() + host.size()));
    };
    fill(x, 1), fill(words, 2);
  }
  std::vector<float> gradients() const {
    std::vector<float> out(weights.gradients().size());
    device.queue->wait();
    cuda::copy_bytes(out.data(), weights.gradients().data(), out.size() * sizeof(float));
    return out;
  }
};

}  // namespace

TEST_CASE("A branch beside the queue has the loss and gradients of one in it, to the bit, in every replay") {
  auto const run = [](bool beside, std::size_t rounds) {
    setting s;
    tape<cuda> t(s.device);
    tensor<float, shape<1>, cuda> kept;
    replay<cuda> recorded;
    std::vector<std::vector<float>> found;
    for (std::size_t i = 0; i < rounds; ++i) {
      recorded.run(s.device, i, [&] {
        s.weights.zero_gradients();
        auto const loss = loss_of<tape<cuda>>(s.model, t(s.x.view_of()), t(s.words.view_of()), beside);
        t.backward(loss);
        copy(s.device, 1, static_cast<float const*>(loss.data_pointer()), kept.data());
      });
      found.push_back(s.gradients());
      found.back().push_back(kept.read()[0]);
    }
    return found;
  };
  auto const expected = run(false, 2);
  CHECK(expected[0] == expected[1]);
  std::size_t different = 0;
  for (auto const& found : run(true, small_tests() ? 3 : 200)) different += found == expected[0] ? 0 : 1;
  CHECK(different == 0);
}

TEST_CASE("A loss of two parts can be read before the backward pass, and a branch takes no memory after the first step") {
  setting s;
  tape<cuda> t(s.device);
  double first = 0;
  std::size_t taken = 0;
  for (int i = 0; i < 3; ++i) {
    s.weights.zero_gradients();
    auto const loss = loss_of<tape<cuda>>(s.model, t(s.x.view_of()), t(s.words.view_of()), true);
    double const value = static_cast<double>(loss.host()[0]);
    t.backward(loss);
    CHECK(static_cast<double>(loss.host()[0]) == value);
    if (i == 0) first = value, taken = cuda::allocations();
    CHECK(value == first);
  }
  CHECK(cuda::allocations() == taken);
}

TEST_CASE("Without a recording branches give the same values, and a tape that is cleared forgets them") {
  setting s;
  inference<cuda> in_queue(s.device), beside(s.device);
  auto const value = [&](auto& context, bool aside) {
    using Context = std::remove_reference_t<decltype(context)>;
    return loss_of<Context>(s.model, context(s.x.view_of()), context(s.words.view_of()), aside).host();
  };
  auto const expected = value(in_queue, false);
  for (int i = 0; i < 20; ++i) CHECK(value(beside, true) == expected);
  tape<cuda> t(s.device);
  for (int i = 0; i < 3; ++i) {
    CHECK(value(t, true) == expected);
    t.clear();
  }
  auto const guard = t.no_grad();
  CHECK(value(t, true) == expected);
}
