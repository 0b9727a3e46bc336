// A few-shot model of one's own from the library's primitives: support images as sets of noisy tokens, a word for each class,
// attention from the word to the tokens, a learned gate between what is seen and what is said, and nearest prototypes.
//
// A class has a hidden prototype; one token in four of an image shows it, the others show something else. The word is the
// prototype through a fixed unknown map, so a model that learns to read it finds the tokens that count.
#include <cstdio>
#include <vector>

#include <dvla/dvla.hpp>
#include <dvla/models/prototypes.hpp>
#include <dvla/rl/policy.hpp>

namespace {

using namespace dvla;

constexpr std::size_t way = 5, shot = 1, queries = 6, tokens = 8, width = 16, heads = 2;
constexpr std::size_t images = way * (shot + queries);

/// A word looks at an image's tokens; the gate mixes what it finds with the mean token.
struct word_reader {
  nn::projection<width, width> query, key, value, out;
  rl::gate_policy<2 * width, 16> gate;
  static constexpr auto members = fields("query", &word_reader::query, "key", &word_reader::key, "value", &word_reader::value, "out",
                                         &word_reader::out, "gate", &word_reader::gate);

  /// Tokens z (B, N, width) and words w (B, 1, width): features (B, width) and the gates (B, 1).
  auto operator()(auto const& z, auto const& w) const {
    std::size_t const batch = z.shape()[0];
    auto const split = [&](auto const& x) {
      using S = typename std::remove_cvref_t<decltype(x)>::shape_type;
      return reshape(x, shape<dyn, S::statics[1], heads, width / heads>(batch));
    };
    auto const seen = attention(split(query(w)), split(key(z)), split(value(z)), 1 / std::sqrt(double(width / heads)));
    auto const told = out(reshape(seen, shape<dyn, width>(batch)));
    auto const pooled = mean<1>(z);
    auto const p = gate(concatenate<1>(pooled, told));
    return std::pair{evaluate(p * told + (1 - p) * pooled), p};
  }
};

/// One episode's data, images class by class: supports first, then queries. A query's word is the mean of all words, for its
/// class is what has to be found.
struct episode {
  tensor<float, shape<images, tokens, width>> pictures;
  tensor<float, shape<images, 1, width>> words;
  std::vector<std::uint32_t> labels;

  episode(tensor<float, shape<width, width>> const& language, std::uint64_t number) {
    random_stream random(7, draw::test, 1, number);
    tensor<float, shape<way, width>> prototypes, spoken;
    for (std::size_t i = 0; i < prototypes.size(); ++i) prototypes.data()[i] = float(random.normal());
    for (std::size_t c = 0; c < way; ++c)
      for (std::size_t i = 0; i < width; ++i)
        for (std::size_t j = 0; j < width; ++j) spoken(c, i) += language(i, j) * prototypes(c, j);

    for (std::size_t n = 0; n < images; ++n) {
      bool const is_query = n >= way * shot;
      std::size_t const c = is_query ? (n - way * shot) / queries : n / shot;
      if (is_query) labels.push_back(std::uint32_t(c));
      for (std::size_t t = 0; t < tokens; ++t)
        for (std::size_t i = 0; i < width; ++i)
          pictures(n, t, i) = (t % 4 == 0 ? prototypes(c, i) : 1.5f * float(random.normal())) + 0.5f * float(random.normal());
      for (std::size_t i = 0; i < width; ++i)
        for (std::size_t k = 0; k < way; ++k)
          words(n, 0, i) += is_query ? spoken(k, i) / float(way) : k == c ? spoken(k, i) : 0;
    }
  }
};

/// Logits of the queries (Q, way) in any context, and the gates.
auto classify(word_reader const& model, auto& context, episode const& e) {
  auto const [features, gates] = model(context(e.pictures), context(e.words));
  auto const support = slice<0>(features, 0, way * shot), query = slice<0>(features, way * shot, way * queries);
  return std::pair{cosine_logits(query, prototypes(support, way), 0.2), gates};
}

double mean_accuracy(word_reader const& model, tensor<float, shape<width, width>> const& language) {
  double total = 0;
  for (std::uint64_t number = 0; number < 100; ++number) {
    inference<> context;
    episode const e(language, 1'000'000 + number);
    total += accuracy(classify(model, context, e).first, e.labels) / 100;
  }
  return total;
}

}  // namespace

int main() {
  tensor<float, shape<width, width>> language;
  random_stream random(3, draw::test, 0, 0);
  for (std::size_t i = 0; i < language.size(); ++i) language.data()[i] = float(random.normal() / std::sqrt(double(width)));

  word_reader model;
  parameters weights(model);
  initialise(model, 1);
  adamw optimizer(weights, 3e-3);
  double const before = mean_accuracy(model, language);

  tape<> t;
  t.training(true);
  for (std::uint64_t step = 0; step < 600; ++step) {
    episode const e(language, step);
    weights.zero_gradients();
    auto const [logits, gates] = classify(model, t, e);
    t.backward(cross_entropy(logits, e.labels));
    optimizer.step();
    if (step % 200 == 0) std::printf("step %3zu  gate of the first support %.2f\n", std::size_t(step), double(gates.value()(0, 0)));
  }

  double const after = mean_accuracy(model, language);
  std::printf("%zu-way %zu-shot accuracy on new episodes: %.1f %% before training, %.1f %% after\n", way, shot, 100 * before, 100 * after);
  return after > before + 0.05 ? 0 : 1;
}
