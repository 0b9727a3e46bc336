// RL-gated attention (DVLA-RL, section 4 of arXiv 2602.00795): semantic tokens attend to the image and to each other; a gate
// in (0, 1) mixes the two; the result enriches the image tokens and joins them for one transformer block.
#pragma once

#include <dvla/autodiff/attention.hpp>
#include <dvla/autodiff/convert.hpp>
#include <dvla/autodiff/rearrange.hpp>
#include <dvla/autodiff/reduction.hpp>
#include <dvla/nn/layers.hpp>

namespace dvla::inline DVLA_ABI {

/// How the appended semantic rows fill the last row of the map.
enum class padding {
  zero_rows,  // with zeros that take part in attention and in batch statistics, as published checkpoints were trained
  none        // not at all
};

/// The weights of the two semantic levels in a layer.
struct level_weights {
  double local, global;
};

namespace models {

/// The block's own weights, for image tokens of `Dim` channels and semantic vectors of any width.
template <std::size_t Dim, std::size_t Heads = 8, class T = float>
struct gated_attention {
  static_assert(Dim % Heads == 0, "gated attention: the channels must be divisible by the heads");
  static constexpr std::size_t head_dim = Dim / Heads;
  static inline double const scale = 1 / std::sqrt(static_cast<double>(head_dim));

  nn::projection<dyn, Dim, T> sem_proj;
  nn::projection<Dim, Dim, T> w_q, w_k_img, w_v_img, w_k_txt, w_v_txt, out;
  static constexpr auto members =
      fields("sem_proj", &gated_attention::sem_proj, "w_q", &gated_attention::w_q, "w_k_img", &gated_attention::w_k_img, "w_v_img",
             &gated_attention::w_v_img, "w_k_txt", &gated_attention::w_k_txt, "w_v_txt", &gated_attention::w_v_txt, "out",
             &gated_attention::out);

  explicit gated_attention(std::size_t semantic_width = 512) : sem_proj(semantic_width) {}

  /// The block starts as if it had no semantics, H = 0: a random H disturbs a pre-trained backbone before it can help.
  void finish_initialisation(initialiser& init) { init.constant(out.weight, 0); }

  /// Semantic tokens of local phrases (L, width) and global sentences (G, width): (L + G, Dim), all local ones first.
  auto tokens(auto const& local, auto const& global, level_weights weights) const {
    return concatenate<0>(evaluate(weights.local * sem_proj(local)), evaluate(weights.global * sem_proj(global)));
  }

  /// H = (a V + (1 - a) S) Wo for image tokens z (B, M, Dim), semantic tokens, (P, Dim) for all images or (B, P, Dim) for
  /// each, and gates a (B, 1, 1): (B, P, Dim).
  auto fuse(auto const& z, auto const& semantics, auto const& gates) const {
    auto const words = read(convert<typename std::remove_cvref_t<decltype(z)>::value_type>(semantics));
    return mix(attend(words.queries, look(z)), words.text_guided, gates);
  }

  /// Of fuse(), what no image takes part in: what semantic tokens ask, and what they make of each other (S), both shaped as they are.
  template <class V>
  struct words_read {
    V queries, text_guided;
  };
  template <class V>
  words_read<V> read(V const& semantics) const {
    V const queries = w_q(semantics);
    auto const text = attention(split_heads(queries), split_heads(w_k_txt(semantics)), split_heads(w_v_txt(semantics)), scale);
    return {queries, reshape(text, semantics.shape())};
  }
  /// What images answer with: keys and values (B, M, Heads, Dim / Heads).
  auto look(auto const& z) const { return std::pair(split_heads(w_k_img(z)), split_heads(w_v_img(z))); }
  /// The image-guided tokens V (B, P, Dim).
  auto attend(auto const& queries, auto const& keys_and_values) const {
    return merge_heads(attention(split_heads(queries), keys_and_values.first, keys_and_values.second, scale));
  }
  /// H of image-guided and text-guided tokens, which a gate weighs.
  auto mix(auto const& image_guided, auto const& text_guided, auto const& gates) const {
    return out(evaluate(gates * image_guided + (1 - gates) * text_guided));
  }

  /// Image tokens enriched by the mean of the fused ones: z + 1 mean(H).
  static auto enrich(auto const& z, auto const& fused) {
    return evaluate(z + reshape(mean<1>(fused), shape<dyn, 1, Dim>(z.shape()[0])));
  }

  /// The ordinary block run on image tokens with the fused ones appended as further rows of a map of the given width; only
  /// the image tokens are kept.
  template <class Z, class H, class Block>
  static auto run_block(Z const& z, H const& fused, Block const& block, std::size_t map_width, padding pad) {
    using element = typename Z::value_type;
    auto& context = z.context();
    std::size_t const appended = fused.shape()[1], rest = appended % map_width;
    std::size_t const zeros = pad == padding::zero_rows && rest != 0 ? map_width - rest : 0;
    auto const rows_of_block = [&](auto const& taller) {
      return slice<1, Z::shape_type::statics[1]>(block(taller), 0, z.shape()[1]);
    };
    if (zeros == 0) return rows_of_block(concatenate<1>(z, fused));
    auto const filler = make_variable<element>(context, shape<dyn, dyn, Dim>(z.shape()[0], zeros));
    fill(context.device(), filler.size(), filler.data_pointer(), element(0));
    return rows_of_block(concatenate<1>(z, fused, filler));
  }

 private:
  static auto split_heads(auto const& x) {
    using S = typename std::remove_cvref_t<decltype(x)>::shape_type;
    if constexpr (S::rank == 2) return reshape(x, shape<dyn, Heads, head_dim>(x.shape()[0]));
    else return reshape(x, shape<dyn, S::statics[1], Heads, head_dim>(x.shape()[0], x.shape()[1], Heads, head_dim));
  }
  static auto merge_heads(auto const& x) {
    using S = typename std::remove_cvref_t<decltype(x)>::shape_type;
    return reshape(x, shape<dyn, S::statics[1], Dim>(x.shape()[0], x.shape()[1], Dim));
  }
};

}  // namespace models
}  // namespace dvla::inline DVLA_ABI
