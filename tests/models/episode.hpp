// A tiny DVLA-RL episode that the models' tests share. What runs the model is compiled once, in episode.cpp.
#pragma once

#include <array>

#include <dvla/models/dvla_rl.hpp>

#include "support/tensors.hpp"

constexpr dvla::visformer_config tiny{
    .image = 16, .stem_channels = 4, .stem_kernel = 3, .stem_stride = 1, .patch = {2, 2, 2}, .dim = 16, .depth = {1, 1, 1}, .heads = 2, .groups = 2};

/// Two classes of two supports and three queries; two local phrases a class, semantics of six elements.
struct tiny_episode {
  using images = dvla::shape<dvla::dyn, 16, 16, 3>;
  using vectors = dvla::shape<dvla::dyn, dvla::dyn>;
  using output = dvla::episode_output<tiny.features(), double, dvla::tape<>>;
  using features = dvla::variable<double, dvla::shape<dvla::dyn, tiny.features()>, dvla::tape<>>;
  static constexpr std::size_t way = 2;

  dvla::dvla_rl<tiny, double> model{1, 6};
  dvla::parameters<double> weights{model};
  dvla::tensor<double, images> support = uniform_tensor<double>(images(4), 1, -2, 2), query = uniform_tensor<double>(images(6), 2, -2, 2);
  dvla::tensor<double, vectors> local = uniform_tensor<double>(vectors(4, 6), 3), global = uniform_tensor<double>(vectors(2, 6), 4);

  tiny_episode();
  /// The episode with its own semantics, or with others and another number of classes.
  output run(dvla::tape<>& t, std::array<double, 2> const* actions = nullptr, std::uint64_t step = 0);
  output run(dvla::tape<>& t, std::size_t classes, dvla::tensor<double, vectors> const& local_vectors,
             dvla::tensor<double, vectors> const& global_vectors, std::array<double, 2> const* actions = nullptr);
  /// The episode's supports and queries in one batch.
  output run_together(dvla::tape<>& t, std::array<double, 2> const* actions = nullptr, std::uint64_t step = 0);
  /// The queries' features of the backbone alone.
  features plain_features(dvla::tape<>& t);
};
