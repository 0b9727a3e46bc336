// The tiny episode's definitions: the one place that instantiates the model.
#include "episode.hpp"

#include <algorithm>

tiny_episode::tiny_episode() {
  dvla::initialise(model, 7);
  // Away from where training starts, a gate of one half and fused tokens of zero, so that every part matters.
  auto const draw = [](auto& parameter, std::uint64_t seed) {
    auto const drawn = uniform_tensor<double>(parameter.shape(), seed, -0.3, 0.3);
    std::copy_n(drawn.data(), drawn.size(), parameter.data());
  };
  draw(model.policy.stage2.head.weight, 5), draw(model.policy.stage3.head.weight, 5);
  draw(model.gated.stage2.out.weight, 6), draw(model.gated.stage3.out.weight, 7);
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

tiny_episode::output tiny_episode::run_together(dvla::tape<>& t, std::array<double, 2> const* actions, std::uint64_t step) {
  t.begin_step(11, step);
  dvla::episode_batch_images<tiny, double, dvla::tape<>> const all{dvla::concatenate<0>(t(support), t(query)), support.shape()[0], way};
  return model.episode(all, dvla::episode_semantics<double, dvla::tape<>>{t(local), t(global)}, actions);
}

tiny_episode::features tiny_episode::plain_features(dvla::tape<>& t) { return model.backbone.features(t(query)); }
