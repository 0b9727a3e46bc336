// Accuracy over fixed episodes: the figure that few-shot papers report.
#pragma once

#include <algorithm>
#include <chrono>

#include <dvla/fewshot/accuracy.hpp>
#include <dvla/fewshot/learner.hpp>

namespace dvla::inline DVLA_ABI {

/// The accuracy of every episode, 0 to 1, in order, and how long it took.
struct evaluation {
  std::vector<double> accuracies{};
  std::size_t images = 0;  ///< that went through the network
  double seconds = 0;

  /// Mean and 95 % interval over the episodes.
  [[nodiscard]] interval accuracy() const { return confidence_interval(accuracies); }
  [[nodiscard]] double images_per_second() const { return seconds > 0 ? static_cast<double>(images) / seconds : 0; }
};

namespace detail {

/// Features of some images by their position, computed in batches: rows of `width` in the order of `wanted`.
template <class Model, class Images>
[[nodiscard]] std::vector<float> features_of(Model const& model, Images const& images, std::span<std::uint32_t const> wanted, executor* pool) {
  constexpr std::size_t side = image_side<Model>, width = Model::feature_width, batch = 100;
  inference<> context(cpu{pool});
  std::vector<float> rows(wanted.size() * width);
  for (std::size_t begin = 0; begin < wanted.size(); begin += batch) {
    std::size_t const count = std::min(batch, wanted.size() - begin);
    tensor<float, shape<dyn, side, side, 3>> pixels(count);
    images.load(wanted.subspan(begin, count), 0, std::span<float>(pixels.data(), pixels.size()));
    auto const features = model.features(context(pixels));
    std::copy_n(features.data_pointer(), features.size(), rows.begin() + static_cast<std::ptrdiff_t>(begin * width));
  }
  return rows;
}

/// Nearest-prototype accuracies where an image's feature does not depend on its episode: each is computed once.
template <class Model, class Images, class Progress>
void evaluate_features(Model const& model, Images const& images, std::span<episode const> episodes, executor* pool, Progress const& progress,
                       evaluation& out) {
  constexpr std::size_t width = Model::feature_width;
  std::vector<std::uint32_t> used;
  for (auto const& e : episodes) {
    used.insert(used.end(), e.support.begin(), e.support.end());
    used.insert(used.end(), e.query.begin(), e.query.end());
  }
  std::sort(used.begin(), used.end());
  used.erase(std::unique(used.begin(), used.end()), used.end());
  out.images = used.size();
  auto const rows = features_of(model, images, used, pool);
  auto const gathered = [&](std::vector<std::uint32_t> const& wanted) {
    tensor<float, shape<dyn, width>> t(wanted.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      auto const place = std::lower_bound(used.begin(), used.end(), wanted[i]) - used.begin();
      std::copy_n(rows.begin() + place * static_cast<std::ptrdiff_t>(width), width, t.data() + i * width);
    }
    return t;
  };
  inference<> context(cpu{pool});
  for (auto const& e : episodes) {
    auto const support = gathered(e.support), query = gathered(e.query);
    auto const logits = model.classify(context(support), context(query), e.classes.size());
    std::vector<std::uint32_t> labels(e.query.size());
    for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::uint32_t>(i / (labels.size() / e.classes.size()));
    out.accuracies.push_back(dvla::accuracy(logits, labels));
    progress(out);
  }
}

}  // namespace detail

/// Evaluates a model in evaluation mode (running statistics, mean gates) on the episodes, in order. `vectors` may be null
/// for a model without semantics; progress(evaluation so far) is called after every episode.
template <class Model, class Images, class Progress>
[[nodiscard]] evaluation evaluate_episodes(Model const& model, Images const& images, class_vectors const* vectors,
                                           std::span<episode const> episodes, executor* pool, Progress const& progress) {
  using clock = std::chrono::steady_clock;
  auto const begin = clock::now();
  evaluation out;
  auto const timed = [&](evaluation& so_far) {
    so_far.seconds = std::chrono::duration<double>(clock::now() - begin).count();
    progress(static_cast<evaluation const&>(so_far));
  };
  if constexpr (requires { Model::features_stand_alone; }) {
    detail::evaluate_features(model, images, episodes, pool, timed, out);
  } else {
    expect(!uses_semantics<Model> || vectors != nullptr, "evaluation: the model needs semantic vectors of the classes; give a bank");
    inference<> context(cpu{pool});
    for (auto const& e : episodes) {
      auto const batch = load_episode<image_side<Model>>(images, e, vectors, 0);
      out.accuracies.push_back(run_episode(model, context, batch).accuracy);
      out.images += batch.supports + batch.queries;
      timed(out);
    }
  }
  return out;
}

template <class Model, class Images>
[[nodiscard]] evaluation evaluate_episodes(Model const& model, Images const& images, class_vectors const* vectors,
                                           std::span<episode const> episodes, executor* pool) {
  return evaluate_episodes(model, images, vectors, episodes, pool, [](evaluation const&) {});
}

}  // namespace dvla::inline DVLA_ABI
