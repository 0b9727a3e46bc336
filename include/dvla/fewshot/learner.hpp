// What training and evaluation ask of a few-shot model, and an episode as they hand it over. A model of one's own joins by
// an overload of run_episode beside it.
#pragma once

#include <span>
#include <vector>

#include <dvla/fewshot/episode_sampler.hpp>
#include <dvla/models/dvla_rl.hpp>
#include <dvla/models/prototypical_network.hpp>
#include <dvla/nn/training_state.hpp>
#include <dvla/semantics/class_vectors.hpp>

namespace dvla::inline DVLA_ABI {

/// The side of the images that a model takes.
template <class Model>
inline constexpr std::size_t image_side = Model::config.image;

/// An episode's images, normalised, supports before queries, and the vectors of its classes where the model wants them.
template <std::size_t Side>
struct episode_batch {
  using images = tensor<float, shape<dyn, Side, Side, 3>>;

  std::size_t way, supports, queries;
  images pixels;
  episode_vectors vectors;

  [[nodiscard]] auto support() const { return slice<0>(pixels.view_of(), 0, supports); }
  [[nodiscard]] auto query() const { return slice<0>(pixels.view_of(), supports, queries); }
};

/// The images of an episode in the order of its batch: supports before queries.
[[nodiscard]] inline std::vector<std::uint32_t> images_of(episode const& drawn) {
  std::vector<std::uint32_t> all = drawn.support;
  all.insert(all.end(), drawn.query.begin(), drawn.query.end());
  return all;
}

/// The vectors of an episode's classes; empty where `vectors` is null, for a model without semantics.
[[nodiscard]] inline episode_vectors vectors_of(episode const& drawn, class_vectors const* vectors) {
  return vectors == nullptr ? episode_vectors{tensor<float, shape<dyn, dyn>>(0, 0), tensor<float, shape<dyn, dyn>>(0, 0)}
                            : select_classes(*vectors, drawn.classes);
}

/// Loads an episode. `images` is anything with load(indices, step, floats); vectors is null for a model without semantics.
template <std::size_t Side, class Images>
[[nodiscard]] episode_batch<Side> load_episode(Images const& images, episode const& drawn, class_vectors const* vectors,
                                               std::uint64_t step) {
  auto const all = images_of(drawn);
  episode_batch<Side> out{drawn.classes.size(), drawn.support.size(), drawn.query.size(),
                          typename episode_batch<Side>::images(all.size()), vectors_of(drawn, vectors)};
  images.load(all, step, std::span<float>(out.pixels.data(), out.pixels.size()));
  return out;
}

/// Whether a model's episodes need the vectors of their classes.
template <class Model>
inline constexpr bool uses_semantics = false;
template <visformer_config Config, class T>
inline constexpr bool uses_semantics<dvla_rl<Config, T>> = true;

/// Runs an episode; the result has logits, loss and accuracy.
template <visformer_config Config, class T, class Context, std::size_t Side>
[[nodiscard]] auto run_episode(dvla_rl<Config, T> const& model, Context& context, episode_batch<Side> const& batch) {
  episode_semantics<T, Context> const semantics{context(batch.vectors.local), context(batch.vectors.global)};
  if (model.options.semantics == semantics_scope::episode)
    return model.episode(episode_batch_images<Config, T, Context>{context(batch.pixels), batch.supports, batch.way}, semantics);
  return model.episode(episode_images<Config, T, Context>{context(batch.support()), context(batch.query()), batch.way}, semantics);
}
template <class Backbone, class Context, std::size_t Side>
[[nodiscard]] auto run_episode(prototypical_network<Backbone> const& model, Context& context, episode_batch<Side> const& batch) {
  return model.episode(context(batch.support()), context(batch.query()), batch.way);
}

/// The same on the pixels and vectors of a batch in the device's memory, without reading anything back: {loss, accuracy, ...}.
template <std::size_t Side, class Device>
struct episode_inputs {
  std::size_t way, supports, queries, local, width;
  float const* pixels;
  float const* local_vectors;
  float const* global_vectors;

  using images = view<float const, shape<dyn, Side, Side, 3>, contiguous, Device>;
  using rows = view<float const, shape<dyn, dyn>, contiguous, Device>;
  [[nodiscard]] images all() const { return {pixels, shape<dyn, Side, Side, 3>(supports + queries)}; }
  [[nodiscard]] images support() const { return {pixels, shape<dyn, Side, Side, 3>(supports)}; }
  [[nodiscard]] images query() const { return {pixels + supports * Side * Side * 3, shape<dyn, Side, Side, 3>(queries)}; }
  [[nodiscard]] rows local_rows() const { return {local_vectors, shape<dyn, dyn>(local, width)}; }
  [[nodiscard]] rows global_rows() const { return {global_vectors, shape<dyn, dyn>(way, width)}; }
};

template <visformer_config Config, class T, class Context, std::size_t Side, class Device>
[[nodiscard]] auto trace_episode(dvla_rl<Config, T> const& model, Context& context, episode_inputs<Side, Device> const& in,
                                 T const* baselines) {
  episode_semantics<T, Context> const semantics{context(in.local_rows()), context(in.global_rows())};
  if (model.options.semantics == semantics_scope::episode) {
    episode_batch_images<Config, T, Context> const together{context(in.all()), in.supports, in.way};
    return model.trace_episode(together, semantics, nullptr, baselines);
  }
  if constexpr (!Context::records) {
    if (!context.training()) {  // up to the first gate an image's tokens are its own
      auto const tokens = model.enter(context(in.all()));
      episode_tokens<Config, T, Context> const apart{slice<0>(tokens, 0, in.supports), slice<0>(tokens, in.supports, in.queries), in.way};
      return model.trace_episode(apart, semantics, nullptr, baselines);
    }
  }
  episode_images<Config, T, Context> const images{context(in.support()), context(in.query()), in.way};
  return model.trace_episode(images, semantics, nullptr, baselines);
}
template <class Model, class Context, std::size_t Side, class Device, class T>
  requires(!uses_semantics<Model>)
[[nodiscard]] auto trace_episode(Model const& model, Context& context, episode_inputs<Side, Device> const& in, T const*) {
  return model.trace_episode(context(in.support()), context(in.query()), in.way);
}

/// What a model learns from an episode outside the optimizer, and how that is kept and brought back.
template <class Model, class Output>
void after_step(Model& model, Output const& output) {
  if constexpr (requires { model.update_baselines(output); }) model.update_baselines(output);
}
template <class Model>
void keep_baselines(Model const& model, training_state& state) {
  if constexpr (requires { model.baselines; }) {
    state.baselines.clear();
    for (auto const& b : model.baselines)
      if (b.started()) state.baselines.push_back(b.value());
  }
}
template <class Model>
void restore_baselines(Model& model, training_state const& state) {
  if constexpr (requires { model.baselines; }) {
    for (std::size_t i = 0; i < model.baselines.size(); ++i)
      model.baselines[i].restore(i < state.baselines.size() ? state.baselines[i] : 0, i < state.baselines.size());
  }
}

}  // namespace dvla::inline DVLA_ABI
