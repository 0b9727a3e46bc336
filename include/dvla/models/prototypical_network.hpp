// The prototypical network (Snell et al., arXiv 1703.05175) over any backbone: the baseline without semantics.
#pragma once

#include <dvla/autodiff/loss.hpp>
#include <dvla/autodiff/rearrange.hpp>
#include <dvla/models/prototypes.hpp>
#include <dvla/nn/module.hpp>

namespace dvla::inline DVLA_ABI {

/// What a prototypical network makes of an episode: logits of the queries (Q, way), class by class.
template <class T, class Context>
struct prototypical_output {
  variable<T, shape<dyn, dyn>, Context> logits;
  variable<T, shape<>, Context> loss;  // what backward() starts from
  double accuracy = 0;
};

/// The same before anything was read from the device.
template <class T, class Context>
struct prototypical_trace {
  variable<T, shape<dyn, dyn>, Context> logits;
  variable<T, shape<>, Context> loss, accuracy;
};

/// One episode of a model with features() and classify(): images (N, side, side, 3), class by class.
template <class T, class Model, class Images>
[[nodiscard]] auto trace_prototypes(Model const& model, Images const& support, Images const& query, std::size_t way) {
  std::size_t const supports = support.shape()[0], queries = query.shape()[0];
  expect(way > 0 && supports % way == 0 && queries % way == 0, "episode: ", supports, " supports and ", queries,
         " queries cannot be shared evenly by ", way, " classes");
  auto const all = model.features(concatenate<0>(support, query));
  auto const logits = model.classify(slice<0>(all, 0, supports), slice<0>(all, supports, queries), way);
  std::vector<std::uint32_t> labels(queries);
  for (std::size_t i = 0; i < queries; ++i) labels[i] = static_cast<std::uint32_t>(i / (queries / way));
  auto const* const at = support.context().constant(labels);
  using context = typename Images::context_type;
  return prototypical_trace<T, context>{logits, cross_entropy(logits, at), accuracy_at(logits, at)};
}

/// The nearest-prototype classifier on the features of a backbone that stays where it is.
template <class Backbone>
struct nearest_prototype {
  static constexpr auto config = Backbone::config;
  static constexpr std::size_t feature_width = Backbone::feature_width;
  static constexpr bool features_stand_alone = true;

  Backbone const& backbone;
  double temperature = 0.2;

  auto features(auto const& images) const { return backbone.features(images); }

  /// cos(query, prototype) / temperature: (Q, way), for features (S, F) and (Q, F), supports class by class.
  template <class S, class Q>
  auto classify(S const& support, Q const& query, std::size_t way) const {
    return cosine_logits(query, prototypes(support, way), temperature);
  }

  /// One episode, as prototypical_network::trace_episode.
  template <class Images>
  auto trace_episode(Images const& support, Images const& query, std::size_t way) const {
    return trace_prototypes<typename Backbone::scalar>(*this, support, query, way);
  }
};

/// A backbone is a module with config.image, feature_width, scalar and features(images).
template <class Backbone>
struct prototypical_network {
  static constexpr auto config = Backbone::config;
  static constexpr std::size_t feature_width = Backbone::feature_width;
  static constexpr bool features_stand_alone = true;  // an image's feature does not depend on its episode
  using scalar = typename Backbone::scalar;

  Backbone backbone;
  static constexpr auto members = fields("backbone", &prototypical_network::backbone);

  double temperature = 0.2;

  /// `classes` counts the outputs of the backbone's pre-training head, which episodes do not use.
  explicit prototypical_network(std::size_t classes) : backbone(classes) {}

  auto features(auto const& images) const { return backbone.features(images); }

  /// As nearest_prototype::classify.
  template <class S, class Q>
  auto classify(S const& support, Q const& query, std::size_t way) const {
    return nearest_prototype<Backbone>{backbone, temperature}.classify(support, query, way);
  }

  /// One episode; images (N, side, side, 3), class by class. Supports and queries pass in one batch: in training they share
  /// the batch's statistics.
  template <class Images>
  auto episode(Images const& support, Images const& query, std::size_t way) const {
    auto const trace = trace_episode(support, query, way);
    using context = typename Images::context_type;
    double const share = static_cast<double>(trace.accuracy.host()[0]);
    return prototypical_output<scalar, context>{trace.logits, trace.loss, exact_share(share, query.shape()[0])};
  }

  /// The same without reading anything back from the device.
  template <class Images>
  auto trace_episode(Images const& support, Images const& query, std::size_t way) const {
    return trace_prototypes<scalar>(*this, support, query, way);
  }
};

}  // namespace dvla::inline DVLA_ABI
