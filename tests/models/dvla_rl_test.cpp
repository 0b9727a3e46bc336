// DVLA-RL on a tiny configuration: every option runs, queries stay alone, gates reach their limits, runs repeat to the bit.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <dvla/core/thread_pool.hpp>
#include <dvla/nn/optimizer.hpp>

#include "episode.hpp"
#include "support/poison.hpp"

namespace {

using dvla::gate_kind;
using dvla::gate_scope;
using dvla::padding;
using dvla::semantics_scope;

bool all_finite(auto const& values) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values.data()[i])) return false;
  return true;
}

double norm_of(auto const& p) {
  double total = 0;
  for (std::size_t i = 0; i < p.size(); ++i) total += p.gradient()[i] * p.gradient()[i];
  return std::sqrt(total);
}

std::vector<double> copy_of(auto const& variable) {
  return {variable.value().data, variable.value().data + variable.size()};
}

}  // namespace

TEST_CASE("Every combination of options runs forward and backward on finite numbers") {
  for (auto gate : {gate_kind::policy, gate_kind::fixed, gate_kind::mlp})
    for (auto scope : {gate_scope::episode, gate_scope::image})
      for (auto semantics : {semantics_scope::episode, semantics_scope::own_class})
        for (auto pad : {padding::zero_rows, padding::none})
          for (bool training : {true, false}) {
            tiny_episode e;
            e.model.options.gate = gate, e.model.options.scope = scope, e.model.options.semantics = semantics, e.model.options.pad = pad;
            dvla::tape<> t;
            poison(t);
            t.training(training);
            auto const out = e.run(t);
            t.backward(out.loss);
            CAPTURE(static_cast<int>(gate));
            CAPTURE(static_cast<int>(scope));
            CAPTURE(static_cast<int>(semantics));
            CAPTURE(training);
            CHECK(std::isfinite(out.loss.value()()));
            CHECK(all_finite(e.weights.gradients()));
            CHECK(all_finite(e.weights.statistics()));
            CHECK(norm_of(e.model.backbone.stem.convolution.weight) > 0);
            CHECK(norm_of(e.model.gated.stage2.sem_proj.weight) > 0);
            CHECK(norm_of(e.model.gated.stage3.out.weight) > 0);
            CHECK(norm_of(e.model.align.stage2.weight) > 0);
            CHECK((norm_of(e.model.policy.stage2.fc1.weight) > 0) == (gate != gate_kind::fixed));
            CHECK(norm_of(e.model.backbone.head.weight) == 0);
          }
}

TEST_CASE("The report's numbers belong together") {
  tiny_episode e;
  e.model.baselines[0].restore(0.2, true);
  dvla::tape<> t;
  t.training(true);
  auto const out = e.run(t);
  auto const& o = e.model.options;
  CHECK(std::abs(out.loss.value()() - (out.loss_supervised + o.lambda_rl * out.loss_rl + out.loss_align)) <= 1e-5);
  auto const& [first, second] = out.gates;
  CHECK(std::abs(second.reward - (o.lambda_similarity * second.similarity + o.lambda_improvement * (second.accuracy - first.accuracy))) <= 1e-6);
  double expected = -(first.reward - 0.2) * first.log_density - o.tau_entropy * (first.entropy + second.entropy);
  CHECK(std::abs(out.loss_rl - expected) <= 1e-4);
  for (auto const& gate : out.gates) {
    CHECK(gate.p > 0.05);
    CHECK(gate.p < 0.95);
    CHECK(gate.action > 0);
    CHECK(gate.action < 1);
    CHECK(std::abs(gate.similarity) <= 1);
  }
  e.model.update_baselines(out);
  CHECK(std::abs(e.model.baselines[0].value() - (0.9 * 0.2 + 0.1 * first.reward)) <= 1e-12);
  CHECK(e.model.baselines[1].value() == second.reward);
}

TEST_CASE("In evaluation a query's logits do not depend on the other queries") {
  for (auto semantics : {semantics_scope::episode, semantics_scope::own_class})
    for (auto scope : {gate_scope::episode, gate_scope::image}) {
      tiny_episode e;
      e.model.options.semantics = semantics, e.model.options.scope = scope;
      dvla::tape<> t;
      auto const before = copy_of(e.run(t).logits);
      t.clear();
      for (std::size_t i = 0; i < 16 * 16 * 3; ++i)
        for (std::size_t q : {0u, 1u, 3u, 4u, 5u}) e.query.data()[q * 768 + i] *= -1.7;
      auto const after = copy_of(e.run(t).logits);
      CHECK(after[4] == before[4]);
      CHECK(after[5] == before[5]);
      CHECK(after[0] != before[0]);
      CHECK(after[11] != before[11]);
    }
}

TEST_CASE("In evaluation the gate is the policy's mean, in training a draw that belongs to the step") {
  tiny_episode e;
  dvla::tape<> t;
  auto const evaluated = e.run(t);
  for (auto const& gate : evaluated.gates) CHECK(gate.action == gate.p);
  t.training(true);
  auto const first = e.run(t, nullptr, 3), again = e.run(t, nullptr, 3), other = e.run(t, nullptr, 4);
  CHECK(first.gates[0].action == again.gates[0].action);
  CHECK(first.gates[0].action != other.gates[0].action);
  CHECK(first.gates[0].action != first.gates[0].p);
  std::array<double, 2> const actions{0.25, 0.75};
  auto const given = e.run(t, &actions);
  CHECK(given.gates[0].action == 0.25);
  CHECK(given.gates[1].action == 0.75);
}

TEST_CASE("The policy's limits are those of the model's options") {
  tiny_episode e;
  e.model.options.policy.eps = 0.5;  // leaves no choice but one half
  dvla::tape<> t;
  auto const out = e.run(t);
  CHECK(out.gates[0].p == 0.5);
  CHECK(out.gates[1].p == 0.5);
}

TEST_CASE("At gate one the text-guided weights take no part, at gate zero the image-guided ones") {
  for (double gate : {1.0, 0.0}) {
    tiny_episode e;
    e.model.options.gate = gate_kind::fixed;
    e.model.options.fixed_gate = gate;
    dvla::tape<> t;
    t.training(true);
    t.backward(e.run(t).loss);
    for (bool stage2 : {true, false}) {
      auto const check = [&](auto const& layer) {
        CHECK((norm_of(layer.w_v_img.weight) > 0) == (gate == 1));
        CHECK((norm_of(layer.w_v_txt.weight) > 0) == (gate == 0));
        CHECK((norm_of(layer.w_k_txt.weight) > 0) == (gate == 0));
      };
      if (stage2) check(e.model.gated.stage2);
      else check(e.model.gated.stage3);
    }
  }
}

TEST_CASE("A gate between the limits gives the mixture of their fused tokens") {
  tiny_episode e;
  dvla::tape<> t;
  auto const guard = t.no_grad();
  auto const z = uniform_tensor<double>(dvla::shape<dvla::dyn, 16, 16>(3), 1);
  auto const semantics = uniform_tensor<double>(dvla::shape<dvla::dyn, 16>(6), 2);
  auto const& layer = e.model.gated.stage2;
  auto const fused = [&](double gate) {
    dvla::tensor<double, dvla::shape<dvla::dyn, 1, 1>> gates(3);
    gates.fill(gate);
    return copy_of(layer.fuse(t(z), t(semantics), t(gates)));
  };
  auto const one = fused(1), zero = fused(0), between = fused(0.3);
  CHECK(one != zero);
  for (std::size_t i = 0; i < between.size(); ++i) CHECK(std::abs(between[i] - (0.3 * one[i] + 0.7 * zero[i])) <= 1e-6);
  for (std::size_t i = 0; i < 6 * 16; ++i) CHECK(std::abs(zero[i] - zero[6 * 16 + i]) <= 1e-7);  // text alone: the same for every image
}

TEST_CASE("Before training the fused tokens are zero, whatever the semantics say") {
  tiny_episode fresh;
  dvla::initialise(fresh.model, 7);
  auto const other = uniform_tensor<double>(fresh.local.shape(), 9);
  dvla::tape<> t;
  auto const a = fresh.run(t), b = fresh.run(t, fresh.way, other, fresh.global);
  for (std::size_t i = 0; i < a.logits.size(); ++i) CHECK(a.logits.data_pointer()[i] == b.logits.data_pointer()[i]);
}

TEST_CASE("With own_class semantics queries are those of the plain backbone") {
  tiny_episode e;
  e.model.options.semantics = semantics_scope::own_class;
  dvla::tape<> t;
  auto const out = e.run(t);
  auto const expected = cosine_logits(e.plain_features(t), out.prototypes, e.model.options.temperature_class);
  CHECK(distance(out.logits.size(), out.logits.value().data, expected.value().data) <= 1e-6);
  t.clear();
}

TEST_CASE("With own_class semantics a support does not see the semantics of another class") {
  tiny_episode e;
  e.model.options.semantics = semantics_scope::own_class, e.model.options.gate = gate_kind::fixed;
  dvla::tape<> t;
  auto const before = copy_of(e.run(t).support_features);
  for (std::size_t i = 0; i < 6; ++i) e.local(2, i) = 1, e.local(3, i) = -1, e.global(1, i) = 0.5;
  auto const after = copy_of(e.run(t).support_features);
  std::size_t const half = before.size() / 2;
  CHECK(std::equal(before.begin(), before.begin() + static_cast<std::ptrdiff_t>(half), after.begin()));
  CHECK_FALSE(std::equal(before.begin() + static_cast<std::ptrdiff_t>(half), before.end(), after.begin() + static_cast<std::ptrdiff_t>(half)));
  t.clear();
}

TEST_CASE("Training steps are bit-equal for any number of threads and take the same memory each time") {
  auto const train = [](dvla::executor* pool) {
    tiny_episode e;
    e.model.backbone.drop_path(0.5);
    dvla::adamw<double> optimizer(e.weights, {{"backbone.", 1e-4, 1e-4}, {"", 5e-4, 1e-4}});
    dvla::tape<> t(dvla::cpu{pool});
    t.training(true);
    std::size_t peak = 0;
    for (std::uint64_t step = 0; step < 4; ++step) {
      e.weights.zero_gradients();
      {
        auto const out = e.run(t, nullptr, step);
        t.backward(out.loss);
        e.model.update_baselines(out);
      }
      optimizer.step();
      CHECK(t.memory().bytes_in_use() == 0);
      if (step == 0) peak = t.memory().peak_bytes();
      CHECK(t.memory().peak_bytes() == peak);
    }
    CHECK(t.memory().slab_count() == 1);
    return std::vector<double>(e.weights.weights().data(), e.weights.weights().data() + e.weights.weights().size());
  };
  dvla::thread_pool pool(3);
  auto const alone = train(nullptr);
  CHECK(train(nullptr) == alone);
  CHECK(train(&pool) == alone);
}

TEST_CASE("Episodes whose parts do not fit are refused with the numbers") {
  tiny_episode e;
  dvla::tape<> t;
  auto const run = [&](std::size_t way, auto const& local, auto const& global) {
    return message_of([&] { (void)e.run(t, way, local, global); });
  };
  CHECK(contains(run(3, e.local, e.global), "4 supports and 6 queries cannot be shared evenly by 3 classes"));
  auto const few = uniform_tensor<double>(dvla::shape<dvla::dyn, dvla::dyn>(3, 6), 1);
  CHECK(contains(run(2, few, e.global), "3 local vectors"));
  auto const wide = uniform_tensor<double>(dvla::shape<dvla::dyn, dvla::dyn>(4, 7), 1);
  CHECK(contains(run(2, wide, e.global), "have 7 elements, but the model was made for 6"));
}
