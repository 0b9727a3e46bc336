// The walk over a model's parameters, and the flat buffer they live in.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <dvla/autodiff/matmul.hpp>
#include <dvla/autodiff/reduction.hpp>
#include <dvla/nn/layers.hpp>

#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::shape;
namespace nn = dvla::nn;

struct block {
  nn::linear<3, 5> fc;
  nn::batch_norm<5> norm;
  static constexpr auto members = dvla::fields("fc", &block::fc, "norm", &block::norm);
};

struct model {
  dvla::parameter<shape<1>> gain;
  std::array<block, 2> blocks;
  std::vector<nn::projection<5, 2>> heads = std::vector<nn::projection<5, 2>>(3);
  nn::linear<2, dyn> last{7};
  static constexpr auto members =
      dvla::fields("gain", &model::gain, "blocks", &model::blocks, "heads", &model::heads, "last", &model::last);
};

std::vector<std::string> names_of(auto& m) {
  std::vector<std::string> names;
  dvla::for_each_parameter(m, [&](std::string const& name, auto&) { names.push_back(name); });
  return names;
}

std::vector<std::string> const expected_names{
    "gain", "blocks.0.fc.weight", "blocks.0.fc.bias", "blocks.0.norm.weight", "blocks.0.norm.bias", "blocks.0.norm.running_mean",
    "blocks.0.norm.running_var", "blocks.1.fc.weight", "blocks.1.fc.bias", "blocks.1.norm.weight", "blocks.1.norm.bias",
    "blocks.1.norm.running_mean", "blocks.1.norm.running_var", "heads.0.weight", "heads.1.weight", "heads.2.weight", "last.weight",
    "last.bias"};

}  // namespace

TEST_CASE("Names are the members' joined by dots, elements of arrays by their number") {
  model m;
  CHECK(names_of(m) == expected_names);
  model const& constant = m;
  CHECK(names_of(constant) == expected_names);
  std::array<nn::projection<5, 2>, 2> bare;
  CHECK(names_of(bare) == std::vector<std::string>{"0.weight", "1.weight"});
  dvla::parameter<shape<2>> single;
  CHECK(names_of(single) == std::vector<std::string>{""});
}

TEST_CASE("Modules are visited outer ones first") {
  model m;
  std::size_t modules = 0, linears = 0;
  dvla::for_each_module(m, [&](auto& module) {
    if (modules++ == 0) CHECK(static_cast<void*>(&module) == &m);
    linears += std::is_same_v<std::remove_cvref_t<decltype(module)>, nn::linear<3, 5>>;
  });
  CHECK(modules == 1 + 2 * 3 + 3 + 1);
  CHECK(linears == 2);
}

TEST_CASE("Parameters lie in one buffer, each on a cache line, zeros between them, statistics apart") {
  model m;
  dvla::parameters weights(m);
  CHECK(weights.entries().size() == expected_names.size());
  CHECK(weights.count() == 1 + 2 * (15 + 5 + 5 + 5) + 3 * 10 + 14 + 7);
  std::size_t end = 0, learned = 0;
  for (std::size_t i = 0; i < weights.entries().size(); ++i) {
    auto const& e = weights.entries()[i];
    CHECK(e.name == expected_names[i]);
    CHECK(reinterpret_cast<std::uintptr_t>(weights.data(e)) % 64 == 0);
    bool const statistic = e.name.find("running") != std::string::npos;
    CHECK((e.kind == dvla::role::statistic) == statistic);
    if (statistic) continue;
    CHECK(e.offset >= end);
    CHECK(e.offset - end < 16);
    end = e.offset + e.count;
    learned += e.count;
  }
  CHECK(learned == weights.count());
  CHECK(weights.weights().size() == weights.gradients().size());
  dvla::initialise(m, 1);
  std::vector<bool> used(weights.weights().size(), false);
  for (auto const& e : weights.entries())
    if (e.kind == dvla::role::weight) std::fill_n(used.begin() + static_cast<std::ptrdiff_t>(e.offset), e.count, true);
  for (std::size_t i = 0; i < used.size(); ++i)
    if (!used[i]) CHECK(weights.weights()(i) == 0);
  CHECK(m.blocks[1].fc.weight.data() == weights.data(weights.entries()[7]));
}

TEST_CASE("A moved model and a moved buffer still belong together") {
  model first;
  dvla::parameters buffer(first);
  dvla::initialise(first, 3);
  float const* const place = first.blocks[1].norm.weight.data();
  model second = std::move(first);
  auto const kept = std::move(buffer);
  CHECK(second.blocks[1].norm.weight.data() == place);
  CHECK(place[4] == 1);
  CHECK(names_of(second) == expected_names);
  std::vector<model> models;
  models.push_back(std::move(second));
  models.emplace_back();
  CHECK(models[0].blocks[1].norm.weight.data() == place);
}

TEST_CASE("A parameter that was never bound says so when it is used or initialised") {
  model m;
  dvla::inference<> context;
  auto const x = uniform_tensor<float>(shape<dyn, 3>(2), 1);
  std::string const message = message_of([&] { (void)evaluate(m.blocks[0].fc(context(x))); });
  CHECK(contains(message, "a parameter of shape (5, 3) has no memory yet; construct parameters(model)"));
  CHECK(contains(message_of([&] { dvla::initialise(m, 1); }), "parameter gain has no memory yet"));
  auto const tokens = uniform_tensor<float>(shape<dyn, 5>(2), 1);
  CHECK(contains(message_of([&] { (void)m.blocks[0].norm(context(tokens)); }), "has no memory yet"));
}

TEST_CASE("Initial numbers depend on the seed alone, and each parameter has its own") {
  model a, b, c;
  dvla::parameters pa(a), pb(b), pc(c);
  dvla::initialise(a, 5), dvla::initialise(b, 5), dvla::initialise(c, 6);
  CHECK(same_bits(pa.weights().size(), pa.weights().data(), pb.weights().data()));
  CHECK_FALSE(same_bits(pa.weights().size(), pa.weights().data(), pc.weights().data()));
  CHECK_FALSE(same_bits(15, a.blocks[0].fc.weight.data(), a.blocks[1].fc.weight.data()));
  dvla::initialise(a, 5);
  CHECK(same_bits(pa.weights().size(), pa.weights().data(), pb.weights().data()));
}

TEST_CASE("Checkpoint layouts name extents in file order and steps in memory") {
  nn::conv2d<4, 6, 3, dvla::convolution_options{.groups = 2}> conv;
  auto const layout = conv.weight.published_layout();
  CHECK(layout.rank == 4);
  CHECK(layout.extents == std::array<std::size_t, 4>{6, 2, 3, 3});
  CHECK(layout.strides == std::array<std::size_t, 4>{18, 1, 6, 2});
  nn::pointwise<4, 6> point;
  CHECK(point.weight.published_layout().extents == std::array<std::size_t, 4>{6, 4, 1, 1});
  CHECK(point.weight.published_layout().strides[0] == 4);
  dvla::parameter<shape<6, 5>, float, dvla::archive_map<2, 3>> map;
  CHECK(map.published_layout().extents == std::array<std::size_t, 4>{1, 5, 2, 3});
  CHECK(map.published_layout().strides == std::array<std::size_t, 4>{0, 1, 15, 5});
  nn::linear<3, 5> plain;
  CHECK(plain.weight.published_layout().rank == 2);
  CHECK(plain.weight.published_layout().strides[0] == 3);
}

TEST_CASE("A model that is only read has no memory for gradients and wants none") {
  nn::linear<dyn, dyn, double> layer(3, 5);
  dvla::parameters weights(layer, dvla::cpu{}, dvla::gradient_memory::none);
  CHECK(weights.count() == 3 * 5 + 5);
  CHECK(weights.gradients().size() == 0);
  CHECK(!layer.weight.trainable());
  weights.zero_gradients();
  dvla::initialise(layer, 1);
  CHECK(std::abs(layer.weight.read()[0]) <= 1 / std::sqrt(3.0));
  CHECK(contains(message_of([&] { (void)weights.read_gradient(weights.entries()[0]); }), "without memory for gradients"));
}

TEST_CASE("A model in double has its buffer in double") {
  nn::linear<3, 5, double> layer;
  dvla::parameters weights(layer);
  CHECK(std::is_same_v<decltype(weights), dvla::parameters<double>>);
  CHECK(reinterpret_cast<std::uintptr_t>(layer.bias.data()) % 64 == 0);
}
