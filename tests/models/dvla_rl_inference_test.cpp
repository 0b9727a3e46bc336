// Episodes outside training: supports and queries in one batch give what they give one after the other.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "models/episode.hpp"

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

      tensor<double, tiny_episode::images> all(10);
      std::copy_n(e.support.data(), e.support.size(), all.data());
      std::copy_n(e.query.data(), e.query.size(), all.data() + e.support.size());
      episode_batch_tokens<tiny, double, inference<>> const together{e.model.enter(context(all)), 4, tiny_episode::way};
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

TEST_CASE("An episode in one batch is refused where images see different semantics") {
  tiny_episode e;
  e.model.options.semantics = semantics_scope::own_class;
  inference<> context;
  episode_semantics<double, inference<>> const semantics{context(e.local), context(e.global)};
  episode_batch_tokens<tiny, double, inference<>> const together{e.model.enter(context(e.support)), 2, tiny_episode::way};
  CHECK_THROWS_WITH_AS((void)e.model.trace_episode(together, semantics), doctest::Contains("only outside training"), error);
}
