// What the text models share: sizes, attention of several heads, the two maps of a block. Unlike the image models their sizes are
// values: which text model it is, a file says when it is opened.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include <dvla/autodiff/attention.hpp>
#include <dvla/autodiff/embedding.hpp>
#include <dvla/autodiff/rearrange.hpp>
#include <dvla/autodiff/reduction.hpp>
#include <dvla/nn/layers.hpp>

namespace dvla::inline DVLA_ABI {

/// What stands between the two maps of a block.
enum class text_activation { gelu, quick_gelu };

/// The sizes of a text transformer.
struct text_transformer_config {
  std::size_t vocabulary = 0, positions = 0, width = 0, layers = 0, heads = 0, hidden = 0;
  std::size_t projection = 0;  ///< width of what follows the tower; 0 for nothing
  text_activation activation = text_activation::gelu;
  double eps = 1e-5;  ///< of LayerNorm
};

namespace models {

/// Attention of all heads, before the output map. x (B, N, W), heads must divide W; (B, N, W).
template <attention_mask Mask, class X, class Linear>
[[nodiscard]] auto attend_heads(X const& x, Linear const& query, Linear const& key, Linear const& value, std::size_t heads) {
  auto const& s = x.shape();
  std::size_t const head_dim = s[2] / heads;
  auto const split = [&](Linear const& map) { return reshape(evaluate(map(x)), shape<dyn, dyn, dyn, dyn>(s[0], s[1], heads, head_dim)); };
  auto const attended = attention<Mask>(split(query), split(key), split(value), 1 / std::sqrt(static_cast<double>(head_dim)));
  return reshape(attended, shape<dyn, dyn, dyn>(s[0], s[1], s[2]));
}

/// The map up, its activation, the map down: (B, N, W) -> (B, N, W), an expression.
template <class X, class Linear>
[[nodiscard]] auto feed_forward(X const& x, Linear const& up, Linear const& down, text_activation activation) {
  if (activation == text_activation::quick_gelu) return down(matmul(x, transpose(up.weight), quick_gelu(accumulator + up.bias)));
  return down(matmul(x, transpose(up.weight), gelu(accumulator + up.bias)));
}

/// The vectors of positions 0 .. length - 1: (N, W).
template <class Context, class Table>
[[nodiscard]] auto first_positions(Context& context, Table const& table, std::size_t length) {
  std::vector<std::uint32_t> places(length);
  std::iota(places.begin(), places.end(), 0u);
  return embedding(context, table, places);
}

/// How many sequences of `length` ids there are; throws where they do not fit.
[[nodiscard]] inline std::size_t sequence_count(std::size_t ids, std::size_t length, std::size_t positions, char const* model) {
  expect(length > 0 && length <= positions, model, ": sequences of ", length, " tokens, but the model has ", positions,
         " positions; cut the texts");
  expect(ids % length == 0, model, ": ", ids, " ids are no whole number of sequences of ", length);
  return ids / length;
}

/// Throws unless the sizes make a model.
inline void check(text_transformer_config const& c, char const* model) {
  expect(c.vocabulary > 0 && c.positions > 0 && c.width > 0 && c.layers > 0 && c.hidden > 0 && c.heads > 0 && c.width % c.heads == 0, model,
         ": a model of ", c.layers, " layers of width ", c.width, " with ", c.heads, " heads, ", c.hidden, " hidden units, ", c.positions,
         " positions and ", c.vocabulary, " tokens cannot be; none may be 0 and the heads must divide the width");
}

}  // namespace models
}  // namespace dvla::inline DVLA_ABI
