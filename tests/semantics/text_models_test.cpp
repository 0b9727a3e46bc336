// The text towers against transformers: CLIP with weights from a formula, MiniLM with its own.
#include <doctest/doctest.h>

#include <cstdlib>

#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/core/thread_pool.hpp>
#include <dvla/semantics/open_text_encoder.hpp>

#include "semantics/formula_models.hpp"
#include "semantics/tokenizer_cases.hpp"
#include "support/tensors.hpp"

namespace {

using dvla::text_activation;

/// The largest difference of a model's vectors from the fixture's, relative to the largest number there.
template <class T>
double worst_difference(dvla::text_transformer_config const& config, std::string const& size, std::string const& reference) {
  dvla::clip_text<T> model(config);
  dvla::parameters<T> weights(model, dvla::cpu{}, dvla::gradient_memory::none);
  fill_by_formula(weights);
  auto const archive = dvla::open_tensors(fixture_folder() / "clip_vectors.safetensors");
  auto const expected = dvla::read_as<double>(archive.find(size + "." + reference));
  auto const ids = tokenizer_cases().ids("clip." + size + ".openai");
  double worst = 0, largest = 0;
  std::size_t at = 0;
  for (auto const text : dvla::read_as<std::uint32_t>(archive.find(size + ".texts"))) {
    dvla::token_sequence sequence{static_cast<std::uint32_t>(config.vocabulary - 2)};
    sequence.insert(sequence.end(), ids[text].begin(), ids[text].end());
    sequence.push_back(static_cast<std::uint32_t>(config.vocabulary - 1));
    dvla::inference<> context;
    for (T const x : model.pooled(context, sequence, sequence.size()).host()) {
      worst = std::max(worst, std::abs(static_cast<double>(x) - expected.at(at)));
      largest = std::max(largest, std::abs(expected.at(at++)));
    }
  }
  CHECK(at == expected.size());
  return worst / largest;
}

double largest_difference(std::span<float const> a, std::span<float const> b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return worst;
}

}  // namespace

TEST_CASE("A small CLIP text tower with odd sizes gives the vectors of transformers") {
  auto config = small_clip_config();
  CHECK(worst_difference<float>(config, "small", "quick_gelu") <= 1e-5);
  CHECK(worst_difference<double>(config, "small", "quick_gelu") <= 1e-5);
  config.activation = text_activation::gelu;
  CHECK(worst_difference<float>(config, "small", "gelu") <= 1e-5);
}

TEST_CASE("CLIP ViT-B/16's text tower in full size gives the vectors of transformers") {
  CHECK(worst_difference<float>(dvla::clip_vit_b_text, "full", "quick_gelu") <= 1e-5);
}

TEST_CASE("The text towers have the gradients of difference quotients") {
  dvla::text_transformer_config const config{
      .vocabulary = 11, .positions = 5, .width = 6, .layers = 1, .heads = 2, .hidden = 7, .projection = 3,
      .activation = text_activation::quick_gelu};
  std::vector<std::uint32_t> const ids{9, 3, 4, 10, 9, 4, 4, 10};
  dvla::clip_text<double> clip(config);
  dvla::parameters weights(clip);
  dvla::initialise(clip, 1);
  // Central differences in a few elements of every parameter.
  auto const loss_of = [&](auto& context) { return sum<0>(reshape(sum(square(clip.pooled(context, ids, 4))), dvla::shape<dvla::dyn>(2))); };
  dvla::tape<> t;
  t.backward(loss_of(t));
  for (auto const& e : weights.entries()) {
    auto const gradient = weights.read_gradient(e);
    for (std::size_t i = 0; i < e.count; i += 1 + e.count / 5) {
      double* const x = weights.data(e) + i;
      double const kept = *x, step = 1e-5;
      double values[2];
      for (int side = 0; side < 2; ++side) {
        *x = kept + (side == 0 ? step : -step);
        dvla::inference<> context;
        values[side] = loss_of(context).host()[0];
      }
      *x = kept;
      CAPTURE(e.name);
      CHECK((values[0] - values[1]) / (2 * step) == doctest::Approx(gradient[i]).epsilon(1e-6).scale(1));
    }
  }
}

TEST_CASE("MiniLM with its own weights gives the vectors of transformers") {
  char const* const folder = std::getenv("DVLA_MINILM");
  if (folder == nullptr) {
    MESSAGE("skipped: set DVLA_MINILM to the folder of scripts/fetch_minilm.sh");
    return;
  }
  auto const archive = dvla::open_tensors(fixture_folder() / "minilm_vectors.safetensors");
  auto const expected = dvla::read_as<float>(archive.find("vectors"));
  auto const all = tokenizer_cases().texts();
  std::vector<std::string> texts;
  for (auto const i : dvla::read_as<std::uint32_t>(archive.find("texts"))) texts.push_back(all[i]);
  auto const long_text = dvla::read_as<std::uint8_t>(archive.find("long_text"));
  texts.emplace_back(long_text.begin(), long_text.end());
  auto const encoder = dvla::open_text_encoder(std::string("minilm:") + folder);
  CHECK(encoder.width() == 384);
  auto const rows = encoder.encode(texts);
  CHECK(largest_difference(rows, expected) <= 1e-5);

  // The same row whatever stands beside it, on any number of threads.
  dvla::thread_pool pool(3);
  auto const threaded = dvla::open_text_encoder(std::string("minilm:") + folder, {.pool = &pool});
  CHECK(threaded.encode(texts) == rows);
  CHECK(threaded.identity() == encoder.identity());
  for (std::size_t i = 0; i < texts.size(); i += 7) {
    auto const alone = encoder.encode(std::span(&texts[i], 1));
    CHECK(std::equal(alone.begin(), alone.end(), rows.begin() + static_cast<std::ptrdiff_t>(i * 384)));
  }
}
