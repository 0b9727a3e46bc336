// The gradients of a whole episode in double against difference quotients: of the supervised loss for what the features go
// through, of the calibration for U, of the REINFORCE loss for the policy.
#include <doctest/doctest.h>

#include <cmath>

#include "episode.hpp"
#include "support/poison.hpp"

namespace {

/// Checks one element of every parameter whose name `counts`.
void check_gradients(tiny_episode& e, std::array<double, 2> const* actions, auto const& counts) {
  dvla::tape<> t;
  poison(t);
  t.training(true);
  t.backward(e.run(t, actions).loss);
  auto const guard = t.no_grad();
  auto const part = [&](std::string const& name) {
    auto const out = e.run(t, actions);
    return name.rfind("align", 0) == 0 ? out.loss_align
                                       : name.rfind("policy", 0) == 0 && e.model.options.gate == dvla::gate_kind::policy
                                             ? e.model.options.lambda_rl * out.loss_rl
                                             : out.loss_supervised;
  };
  dvla::random_stream random(5, dvla::draw::test, 0, 0);
  for (auto const& entry : e.weights.entries()) {
    if (entry.kind != dvla::role::weight || !counts(entry.name)) continue;
    double* const element = e.weights.data(entry) + random.below(static_cast<std::uint32_t>(entry.count));
    double const kept = *element, h = 1e-5 * (1 + std::abs(kept));
    *element = kept + h;
    double const above = part(entry.name);
    *element = kept - h;
    double const below = part(entry.name);
    *element = kept;
    double const expected = (above - below) / (2 * h);
    double const found = e.weights.gradients()(static_cast<std::size_t>(element - e.weights.weights().data()));
    CAPTURE(entry.name);
    CHECK(std::abs(found - expected) <= 1e-7 * (1 + std::abs(expected)));
  }
}

}  // namespace

TEST_CASE("An episode with given actions has the gradients of difference quotients") {
  tiny_episode e;
  e.model.baselines[0].restore(-1, true), e.model.baselines[1].restore(1, true);
  std::array<double, 2> const actions{0.3, 0.8};
  check_gradients(e, &actions, [](std::string const&) { return true; });
}

TEST_CASE("A gate that is trained by back-propagation, one an image too, has the gradients of difference quotients") {
  tiny_episode e;
  e.model.options.gate = dvla::gate_kind::mlp;
  e.model.options.scope = dvla::gate_scope::image;
  e.model.options.pad = dvla::padding::none;
  // A gate's state is detached, so a difference quotient tells the truth only behind the last of them.
  check_gradients(e, nullptr, [](std::string const& name) {
    return name.find("stage3") != std::string::npos && name.find("sem_proj") == std::string::npos;
  });
}
