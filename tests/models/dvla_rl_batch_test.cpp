// Supports and queries of an episode in one batch give what they give one after the other, in training and outside it.
#include <doctest/doctest.h>

#include <cmath>

#include "models/episode.hpp"
#include "support/poison.hpp"

using namespace dvla;

TEST_CASE("An episode in one batch has the logits, features and gates of supports and queries passed apart") {
  for (auto const scope : {gate_scope::episode, gate_scope::image})
    for (auto const pad : {padding::zero_rows, padding::none}) {
      tiny_episode e;
      e.model.options.scope = scope;
      e.model.options.pad = pad;
      inference<> context;
      episode_semantics<double, inference<>> const semantics{context(e.local), context(e.global)};
      episode_images<tiny, double, inference<>> const apart{context(e.support), context(e.query), tiny_episode::way};
      auto const expected = e.model.trace_episode(apart, semantics);

      auto const all = concatenate<0>(context(e.support), context(e.query));
      episode_batch_images<tiny, double, inference<>> const together{all, 4, tiny_episode::way};
      auto const found = e.model.trace_episode(together, semantics);

      auto const check = [](auto const& a, auto const& b) {
        REQUIRE(a.size() == b.size());
        for (std::size_t i = 0; i < a.size(); ++i) CHECK(std::abs(a.data_pointer()[i] - b.data_pointer()[i]) <= 1e-12);
      };
      check(found.logits, expected.logits);
      check(found.prototypes, expected.prototypes);
      check(found.support_features, expected.support_features);
      for (std::size_t i = 0; i < 2; ++i) check(found.gates[i].p, expected.gates[i].p);
      CHECK(*found.accuracy.data_pointer() == *expected.accuracy.data_pointer());
    }
}

TEST_CASE("A training episode in one batch has the loss, gradients and statistics of supports and queries passed apart") {
  std::array<double, 2> const given{0.3, 0.8};
  for (auto const gate : {gate_kind::policy, gate_kind::mlp})
    for (auto const scope : {gate_scope::episode, gate_scope::image})
      for (auto const pad : {padding::zero_rows, padding::none})
        for (auto const* actions : {static_cast<std::array<double, 2> const*>(nullptr), &given}) {
          auto const run = [&](tiny_episode& e, auto const& pass) {
            e.model.options.gate = gate, e.model.options.scope = scope, e.model.options.pad = pad;
            e.model.baselines[0].restore(-1, true), e.model.baselines[1].restore(1, true);
            tape<> t;
            poison(t);
            t.training(true);
            auto const out = pass(t);
            double const loss = out.loss.value()();
            t.backward(out.loss);
            return std::pair(loss, out.gates);
          };
          tiny_episode apart, together;
          auto const expected = run(apart, [&](tape<>& t) { return apart.run(t, actions); });
          auto const found = run(together, [&](tape<>& t) { return together.run_together(t, actions); });
          CHECK(std::abs(found.first - expected.first) <= 1e-12);
          for (std::size_t i = 0; i < 2; ++i) {
            CHECK(std::abs(found.second[i].action - expected.second[i].action) <= 1e-12);
            CHECK(std::abs(found.second[i].reward - expected.second[i].reward) <= 1e-12);
            CHECK(found.second[i].accuracy == expected.second[i].accuracy);
          }
          auto const same = [](auto const& a, auto const& b) { return distance(a.size(), a.data(), b.data()) <= 1e-11; };
          CHECK(same(together.weights.gradients(), apart.weights.gradients()));
          CHECK(same(together.weights.statistics(), apart.weights.statistics()));
        }
}

TEST_CASE("An episode in one batch is refused where images see different semantics") {
  tiny_episode e;
  e.model.options.semantics = semantics_scope::own_class;
  inference<> context;
  episode_semantics<double, inference<>> const semantics{context(e.local), context(e.global)};
  episode_batch_images<tiny, double, inference<>> const together{context(e.support), 2, tiny_episode::way};
  CHECK_THROWS_WITH_AS((void)e.model.trace_episode(together, semantics), doctest::Contains("only with semantics of the whole episode"), error);
}
