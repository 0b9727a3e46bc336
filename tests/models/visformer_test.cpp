// The backbone: names and shapes of published checkpoints, shapes of features, gradients of a small configuration.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <dvla/autodiff/loss.hpp>
#include <dvla/models/visformer.hpp>

#include "support/poison.hpp"
#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::shape;
using dvla::tensor;

constexpr dvla::visformer_config small{
    .image = 16, .stem_channels = 4, .stem_kernel = 3, .stem_stride = 1, .patch = {2, 2, 2}, .dim = 8, .depth = {2, 1, 1}, .heads = 2, .groups = 2};

using images = shape<dyn, 16, 16, 3>;

}  // namespace

TEST_CASE("Names and shapes of the published model are those of its checkpoints") {
  std::ifstream file(std::filesystem::path(__FILE__).parent_path().parent_path() / "golden" / "state_dict.txt");
  std::vector<std::string> published, own;
  for (std::string line; std::getline(file, line);)
    if (!line.empty() && line.find("num_batches_tracked") == std::string::npos) published.push_back(line);
  REQUIRE(published.size() > 100);
  dvla::visformer<dvla::visformer_tiny_224> net(64);
  dvla::for_each_parameter(net, [&](std::string const& name, auto const& p) {
    auto const layout = p.published_layout();
    std::string line = name + " [";
    std::size_t elements = 1;
    for (std::size_t i = 0; i < layout.rank; ++i) {
      line += (i ? ", " : "") + std::to_string(layout.extents[i]);
      elements *= layout.extents[i];
    }
    own.push_back(line + "]");
    CHECK(elements == p.size());
  });
  std::sort(published.begin(), published.end());
  std::sort(own.begin(), own.end());
  CHECK(own == published);
}

TEST_CASE("The published model has 9,961,008 parameters") {
  dvla::visformer<dvla::visformer_tiny_224> net(64);
  dvla::parameters weights(net);
  CHECK(weights.count() == 9961008);
}

TEST_CASE("A configuration knows the sides of its maps") {
  CHECK(dvla::visformer_tiny_224.side(0) == 28);
  CHECK(dvla::visformer_tiny_224.side(2) == 7);
  CHECK(dvla::visformer_tiny_84.side(0) == 10);
  CHECK(dvla::visformer_tiny_84.side(1) == 5);
  CHECK(dvla::visformer_tiny_84.side(2) == 2);
  CHECK(dvla::visformer_tiny_224.blocks() == 15);
  CHECK(dvla::visformer_tiny_224.features() == 384);
}

TEST_CASE("Archive layouts visit every element once") {
  dvla::visformer<small> net(5);
  dvla::for_each_parameter(net, [&](std::string const& name, auto const& p) {
    auto const layout = p.published_layout();
    std::vector<int> visits(p.size(), 0);
    std::array<std::size_t, 4> at{};
    for (std::size_t i = 0; i < p.size(); ++i) {
      std::size_t place = 0;
      for (std::size_t k = 0; k < layout.rank; ++k) place += at[k] * layout.strides[k];
      REQUIRE(place < p.size());
      ++visits[place];
      for (std::size_t k = layout.rank; k-- > 0;) {
        if (++at[k] < layout.extents[k]) break;
        at[k] = 0;
      }
    }
    CAPTURE(name);
    CHECK(std::all_of(visits.begin(), visits.end(), [](int n) { return n == 1; }));
  });
}

TEST_CASE("Drop-path rates rise from zero to the last over all blocks") {
  dvla::visformer<small> net(5);
  net.drop_path(0.6);
  CHECK(net.stage1[0].drop_path == 0);
  CHECK(std::abs(net.stage1[1].drop_path - 0.2) <= 1e-15);
  CHECK(std::abs(net.stage2[0].drop_path - 0.4) <= 1e-15);
  CHECK(std::abs(net.stage3[0].drop_path - 0.6) <= 1e-15);
}

TEST_CASE("The head starts with a deviation of 0.02 and no bias") {
  dvla::visformer<small, double> net(400);
  dvla::parameters weights(net);
  dvla::initialise(net, 1);
  double squares = 0;
  for (std::size_t i = 0; i < net.head.weight.size(); ++i) squares += net.head.weight.data()[i] * net.head.weight.data()[i];
  CHECK(std::abs(std::sqrt(squares / static_cast<double>(net.head.weight.size())) - 0.02) <= 0.001);
  for (std::size_t i = 0; i < 400; ++i) CHECK(net.head.bias.data()[i] == 0);
}

TEST_CASE("A small configuration has the shapes it should, and gradients of difference quotients, in training with drop-path") {
  dvla::visformer<small, double> net(5);
  dvla::parameters weights(net);
  dvla::initialise(net, 1);
  net.drop_path(0.5);
  auto const x = uniform_tensor<double>(images(6), 1, -2, 2);
  std::vector<std::uint32_t> const labels{0, 1, 2, 3, 4, 0};
  dvla::tape<> t;
  poison(t);
  t.training(true);
  auto const loss_of = [&] {
    t.begin_step(1, 1);
    return cross_entropy(net(t(x)), labels, 0.1);
  };
  {
    auto const guard = t.no_grad();
    auto const features = net.features(t(x));
    CHECK(features.shape() == shape<6, 16>{});
    CHECK(net(t(x)).shape() == shape<6, 5>{});
  }
  t.backward(loss_of());
  auto const guard = t.no_grad();
  dvla::random_stream random(5, dvla::draw::test, 0, 0);
  for (auto const& e : weights.entries()) {
    if (e.kind != dvla::role::weight) continue;
    double* const element = weights.data(e) + random.below(static_cast<std::uint32_t>(e.count));
    double const kept = *element, h = 1e-5 * (1 + std::abs(kept));
    *element = kept + h;
    double const above = loss_of().value()();
    *element = kept - h;
    double const below = loss_of().value()();
    *element = kept;
    double const expected = (above - below) / (2 * h), found = weights.gradients()(static_cast<std::size_t>(element - weights.weights().data()));
    CAPTURE(e.name);
    CHECK(std::abs(found - expected) <= 1e-7 * (1 + std::abs(expected)));
  }
}
