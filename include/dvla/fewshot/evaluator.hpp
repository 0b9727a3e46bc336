// Accuracy over fixed episodes: the figure that few-shot papers report.
#pragma once

#include <algorithm>
#include <chrono>

#include <dvla/fewshot/accuracy.hpp>
#include <dvla/fewshot/episode_source.hpp>
#include <dvla/kernels/cpu/replay.hpp>

namespace dvla::inline DVLA_ABI {

/// The accuracy of every episode, 0 to 1, in order, and how long it took.
struct evaluation {
  std::vector<double> accuracies{};
  std::size_t images = 0;  ///< that went through the network
  double seconds = 0;
  double waited = 0;  ///< of the seconds, those spent on getting images to a device with memory of its own

  /// Mean and 95 % interval over the episodes.
  [[nodiscard]] interval accuracy() const { return confidence_interval(accuracies); }
  [[nodiscard]] double images_per_second() const { return seconds > 0 ? static_cast<double>(images) / seconds : 0; }
};

namespace detail {

/// What the network makes of an image whatever the episode: `make(context, pixels)` for each image the episodes use, computed
/// once and kept where all of it fits into `limit` bytes, else computed anew at every use.
template <class Model, class Images, class Make>
class image_rows {
 public:
  static constexpr std::size_t limit = std::size_t{1} << 30;

  image_rows(Model const& model, Images const& images, std::span<episode const> episodes, executor* pool, Make make)
      : model_(&model), images_(&images), pool_(pool), make_(make) {
    for (auto const& e : episodes) {
      used_.insert(used_.end(), e.support.begin(), e.support.end());
      used_.insert(used_.end(), e.query.begin(), e.query.end());
    }
    std::sort(used_.begin(), used_.end());
    used_.erase(std::unique(used_.begin(), used_.end()), used_.end());
    if (used_.empty()) return;
    width_ = compute(std::span(used_).first(1)).size();
    if (used_.size() <= limit / sizeof(float) / width_) kept_ = compute(used_);
  }

  [[nodiscard]] bool kept() const { return !kept_.empty(); }
  [[nodiscard]] std::size_t distinct() const { return used_.size(); }

  /// The rows of the wanted images in a tensor of the given shape.
  template <class Shape>
  [[nodiscard]] tensor<float, Shape> gather(std::span<std::uint32_t const> wanted) const {
    tensor<float, Shape> out(wanted.size());
    auto const fresh = kept() ? std::vector<float>{} : compute(wanted);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      auto const place =
          kept() ? std::lower_bound(used_.begin(), used_.end(), wanted[i]) - used_.begin() : static_cast<std::ptrdiff_t>(i);
      std::copy_n((kept() ? kept_ : fresh).data() + place * static_cast<std::ptrdiff_t>(width_), width_, out.data() + i * width_);
    }
    return out;
  }

 private:
  [[nodiscard]] std::vector<float> compute(std::span<std::uint32_t const> wanted) const {
    constexpr std::size_t side = image_side<Model>, batch = 100;
    inference<> context(cpu{pool_});
    std::vector<float> rows;
    for (std::size_t begin = 0; begin < wanted.size(); begin += batch) {
      std::size_t const count = std::min(batch, wanted.size() - begin);
      tensor<float, shape<dyn, side, side, 3>> pixels(count);
      images_->load(wanted.subspan(begin, count), 0, std::span<float>(pixels.data(), pixels.size()));
      auto const made = make_(*model_, context(pixels));
      if (rows.empty()) rows.reserve(made.size() / count * wanted.size());
      rows.insert(rows.end(), made.data_pointer(), made.data_pointer() + made.size());
    }
    return rows;
  }

  Model const* model_;
  Images const* images_;
  executor* pool_;
  Make make_;
  std::vector<std::uint32_t> used_;
  std::size_t width_ = 1;
  std::vector<float> kept_;
};

/// Labels of an episode's queries, which come class by class.
[[nodiscard]] inline std::vector<std::uint32_t> query_labels(episode const& e) {
  std::vector<std::uint32_t> labels(e.query.size());
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::uint32_t>(i / (labels.size() / e.classes.size()));
  return labels;
}

/// Nearest-prototype accuracies where an image's feature does not depend on its episode.
template <class Model, class Images, class Progress>
void evaluate_features(Model const& model, Images const& images, std::span<episode const> episodes, executor* pool,
                       Progress const& progress, evaluation& out) {
  using row = shape<dyn, Model::feature_width>;
  image_rows const features(model, images, episodes, pool, [](Model const& m, auto const& pixels) { return m.features(pixels); });
  inference<> context(cpu{pool});
  for (auto const& e : episodes) {
    auto const support = features.template gather<row>(e.support), query = features.template gather<row>(e.query);
    out.accuracies.push_back(dvla::accuracy(model.classify(context(support), context(query), e.classes.size()), query_labels(e)));
    out.images = features.kept() ? features.distinct() : out.images + e.support.size() + e.query.size();
    progress(out);
  }
}

/// DVLA-RL's accuracies: the tokens that enter the first gate are an image's own, the rest is the episode's.
template <class Model, class Images, class Progress>
void evaluate_gated(Model const& model, Images const& images, class_vectors const& vectors, std::span<episode const> episodes,
                    executor* pool, Progress const& progress, evaluation& out) {
  using context_type = inference<>;
  using input = episode_tokens<Model::config, typename Model::scalar, context_type>;
  using row = typename input::tokens::shape_type;
  image_rows const tokens(model, images, episodes, pool, [](Model const& m, auto const& pixels) { return m.enter(pixels); });
  context_type context(cpu{pool});
  for (auto const& e : episodes) {
    auto const support = tokens.template gather<row>(e.support), query = tokens.template gather<row>(e.query);
    auto const meanings = select_classes(vectors, e.classes);
    auto const result =
        model.episode(input{context(support), context(query), e.classes.size()},
                      episode_semantics<typename Model::scalar, context_type>{context(meanings.local), context(meanings.global)});
    out.accuracies.push_back(result.accuracy);
    out.images += e.support.size() + e.query.size();
    progress(out);
  }
}

/// Accuracies of whole episodes on a device with memory of its own: a recorded episode is replayed, and the next one issued
/// before the accuracy of the last is read, so that the device does not wait for the host.
template <class Model, class Images, class Device, class Progress>
void evaluate_on(Device const& device, Model const& model, Images const& images, class_vectors const* vectors,
                 std::span<episode const> episodes, Progress const& progress, evaluation& out) {
  inference<Device> context(device);
  replay<Device> recorded_episode;
  episode_source<image_side<Model>, Device, Images> source(
      device, images, vectors, [episodes](std::uint64_t i) { return i < episodes.size() ? episodes[i] : episode{}; });
  tensor<float, shape<1>, Device> accuracy;
  returned<float, Device> shares;
  auto const take = [&](episode const& e) {
    out.accuracies.push_back(exact_share(static_cast<double>(shares.get()), e.query.size()));
    out.images += e.support.size() + e.query.size();
    out.waited = source.waited();
    progress(out);
  };
  for (std::size_t i = 0; i < episodes.size(); ++i) {
    auto const in = source.load(i);
    recorded_episode.run(device, 0, [&] {
      auto const traced = trace_episode(model, context, in, static_cast<float const*>(nullptr));
      copy(device, 1, static_cast<float const*>(traced.accuracy.data_pointer()), accuracy.data());
    });
    shares.send(device, accuracy.data());
    if (i > 0) take(episodes[i - 1]);
  }
  if (!episodes.empty()) take(episodes.back());
}

}  // namespace detail

/// Evaluates a model in evaluation mode (running statistics, mean gates) on the episodes, in order. `vectors` may be null
/// for a model without semantics; progress(evaluation so far) is called after every episode.
template <class Model, class Images, class Device, class Progress>
[[nodiscard]] evaluation evaluate_episodes(Model const& model, Images const& images, class_vectors const* vectors,
                                           std::span<episode const> episodes, Device const& device, Progress const& progress) {
  using clock = std::chrono::steady_clock;
  auto const begin = clock::now();
  evaluation out;
  auto const timed = [&](evaluation& so_far) {
    so_far.seconds = std::chrono::duration<double>(clock::now() - begin).count();
    progress(static_cast<evaluation const&>(so_far));
  };
  if constexpr (uses_semantics<Model>)
    expect(vectors != nullptr, "evaluation: the model needs semantic vectors of the classes; give a bank");
  if constexpr (!Device::is_host) {
    detail::evaluate_on(device, model, images, vectors, episodes, timed, out);
  } else if constexpr (requires { Model::features_stand_alone; }) {
    detail::evaluate_features(model, images, episodes, device.pool, timed, out);
  } else if constexpr (uses_semantics<Model>) {
    detail::evaluate_gated(model, images, *vectors, episodes, device.pool, timed, out);
  } else {
    inference<Device> context(device);
    for (auto const& e : episodes) {
      auto const batch = load_episode<image_side<Model>>(images, e, vectors, 0);
      out.accuracies.push_back(run_episode(model, context, batch).accuracy);
      out.images += batch.supports + batch.queries;
      timed(out);
    }
  }
  return out;
}

template <class Model, class Images, class Device>
[[nodiscard]] evaluation evaluate_episodes(Model const& model, Images const& images, class_vectors const* vectors,
                                           std::span<episode const> episodes, Device const& device) {
  return evaluate_episodes(model, images, vectors, episodes, device, [](evaluation const&) {});
}

}  // namespace dvla::inline DVLA_ABI
