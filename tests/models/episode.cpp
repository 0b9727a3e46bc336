// The tiny episode's definitions: the one place that instantiates the model.
#include "episode.hpp"

#include <algorithm>

tiny_episode::tiny_episode() {
  dvla::initialise(model, 7);
  // Away from the first answer of one half, so that every part of the policy matters.
  auto const drawn = uniform_tensor<double>(dvla::shape<128>{}, 5, -0.3, 0.3);
  std::copy_n(drawn.data(), 128, model.policy.stage2.head.weight.data());
  std::copy_n(drawn.data(), 128, model.policy.stage3.head.weight.data());
}

tiny_episode::output tiny_episode::run(dvla::tape<>& t, std::array<double, 2> const* actions, std::uint64_t step) {
  t.begin_step(11, step);
  return run(t, way, local, global, actions);
}

tiny_episode::output tiny_episode::run(dvla::tape<>& t, std::size_t classes, dvla::tensor<double, vectors> const& local_vectors,
                                       dvla::tensor<double, vectors> const& global_vectors, std::array<double, 2> const* actions) {
  return model.episode(dvla::episode_images<tiny, double, dvla::tape<>>{t(support), t(query), classes},
                       dvla::episode_semantics<double, dvla::tape<>>{t(local_vectors), t(global_vectors)}, actions);
}

tiny_episode::features tiny_episode::plain_features(dvla::tape<>& t) { return model.backbone.features(t(query)); }
