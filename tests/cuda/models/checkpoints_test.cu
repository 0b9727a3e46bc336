// Checkpoints move between the CPU and a card, with all that training needs, and give the same logits there.
#include <doctest/doctest.h>

#include <fstream>
#include <iterator>

#include <dvla/cuda.hpp>

#include "device_buffer.hpp"
#include "on_cpu.hpp"
#include "small_model.hpp"

namespace {

using namespace dvla;
using network = visformer<small::config>;

std::vector<float> logits_of(network const& net) {
  auto const numbers = on_cpu::test_images();
  tensor<float, shape<dyn, tiny::side, tiny::side, 3>, cuda> images(on_cpu::test_count);
  images.write(numbers);
  inference<cuda> context;
  return net(context(images)).host();
}

std::vector<double> doubles(std::vector<float> const& x) { return {x.begin(), x.end()}; }

std::string bytes_of(std::filesystem::path const& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("A model trained on the CPU gives the same logits on a card") {
  small::temporary_file const file("from_cpu");
  auto const expected = on_cpu::train(file.path);
  network net(tiny::classes);
  parameters weights(net, cuda{});
  (void)load_weights(weights, open_tensors(file.path));
  CHECK(relative_error(logits_of(net), doubles(expected)) <= 5e-5);
}

TEST_CASE("A model written by a card gives the same logits on the CPU") {
  small::temporary_file const file("from_card");
  network net(tiny::classes);
  parameters weights(net, cuda{});
  initialise(net, 4);
  save_model(file.path, weights, 0, {});
  CHECK(relative_error(on_cpu::logits(file.path), doubles(logits_of(net))) <= 5e-5);
}

TEST_CASE("A training checkpoint comes back from a card byte by byte, and through the CPU again") {
  small::temporary_file const file("there"), back("back"), again("again");
  (void)on_cpu::train(file.path);
  network net(tiny::classes);
  parameters weights(net, cuda{});
  adamw optimizer(weights, 1e-3);
  auto const state = load_training(open_tensors(file.path), weights, optimizer);
  CHECK(state.step == 6);
  CHECK(optimizer.steps() == 6);
  save_training(back.path, weights, optimizer, state, {});
  CHECK(bytes_of(back.path) == bytes_of(file.path));
  on_cpu::copy_training(back.path, again.path);
  CHECK(bytes_of(again.path) == bytes_of(file.path));
}
