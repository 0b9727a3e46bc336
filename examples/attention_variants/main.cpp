// How long the library's attention variants take: self-attention with its projections, cross-attention from semantic tokens
// to image tokens, and the gated block of both, at the sizes of Visformer-Tiny.
//   attention_variants [repetitions]     prints the best of the repetitions (default 20), batch 16
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include <dvla/dvla.hpp>
#include <dvla/models/gated_attention.hpp>
#include <dvla/models/visformer.hpp>

namespace {

using namespace dvla;

constexpr std::size_t batch = 16;

/// The best time of f in milliseconds.
template <class F>
double best_of(int repetitions, F const& f) {
  double best = 1e300;
  for (int i = 0; i < repetitions; ++i) {
    auto const start = std::chrono::steady_clock::now();
    f();
    std::chrono::duration<double, std::milli> const taken = std::chrono::steady_clock::now() - start;
    best = taken.count() < best ? taken.count() : best;
  }
  return best;
}

template <std::size_t... E>
tensor<float, shape<E...>> random_tensor(std::uint32_t which) {
  tensor<float, shape<E...>> out;
  random_stream random(1, draw::test, which, 0);
  for (std::size_t i = 0; i < out.size(); ++i) out.data()[i] = float(random.uniform(-1, 1));
  return out;
}

/// Cross-attention: queries from the semantic tokens, keys and values from the image's.
template <std::size_t Dim, std::size_t Heads>
struct cross_attention {
  nn::projection<Dim, Dim> query, key, value, out;
  static constexpr auto members =
      fields("query", &cross_attention::query, "key", &cross_attention::key, "value", &cross_attention::value, "out", &cross_attention::out);

  auto operator()(auto const& words, auto const& image) const {
    auto const heads = []<class T, class S, class C>(variable<T, S, C> const& x) {
      return reshape(x, shape<dyn, S::statics[1], Heads, Dim / Heads>(x.shape()[0]));
    };
    auto const y = attention(heads(query(words)), heads(key(image)), heads(value(image)), 1 / std::sqrt(double(Dim / Heads)));
    return out(reshape(y, shape<dyn, decltype(y)::shape_type::statics[1], Dim>(y.shape()[0])));
  }
};

/// One line of the table: forward alone, and forward with backward of a model that `call` runs in a context.
template <class Model, class Call>
void measure(char const* name, std::size_t tokens, std::size_t width, int repetitions, Model& model, Call const& call) {
  parameters weights(model);
  initialise(model, 1);
  inference<> evaluation;
  double const forward = best_of(repetitions, [&] { (void)call(evaluation); });
  tape<> training;
  double const both = best_of(repetitions, [&] {
    weights.zero_gradients();
    training.backward(call(training));
  });
  std::printf("%-36s %6zu %6zu %10zu %12.3f %22.3f\n", name, tokens, width, weights.count(), forward, both);
}

template <std::size_t Tokens, std::size_t Dim, std::size_t Heads>
void measure_stage(int repetitions) {
  constexpr std::size_t words = 10;  // five classes, a phrase and a sentence each
  auto const image = random_tensor<batch, Tokens, Dim>(0);
  auto const semantics = random_tensor<batch, words, Dim>(1);
  auto const gates = random_tensor<batch, 1, 1>(2);

  models::self_attention_layer<Dim, Heads, float> self;
  measure("self-attention", Tokens, Dim, repetitions, self, [&](auto& context) { return self(context(image)); });
  cross_attention<Dim, 8> cross;
  measure("cross-attention, 10 words to image", Tokens, Dim, repetitions, cross,
          [&](auto& context) { return cross(context(semantics), context(image)); });
  models::gated_attention<Dim, 8> gated;
  measure("gated, 10 words to image and words", Tokens, Dim, repetitions, gated,
          [&](auto& context) { return gated.fuse(context(image), context(semantics), context(gates)); });
}

}  // namespace

int main(int count, char** arguments) {
  int const repetitions = count > 1 ? std::atoi(arguments[1]) : 20;
  if (repetitions < 1) return std::fputs("attention_variants [repetitions]: give a whole number of at least 1\n", stderr), 2;
  std::printf("%-36s %6s %6s %10s %12s %22s\n", "", "tokens", "width", "weights", "forward ms", "forward + backward ms");
  measure_stage<196, 192, 3>(repetitions);
  measure_stage<49, 384, 3>(repetitions);
}
