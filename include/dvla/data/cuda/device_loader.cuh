// Batches for training on the GPU from a set that lies in its memory: the host draws, the card does the rest.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <dvla/data/cuda/resident_images.cuh>
#include <dvla/data/epoch_order.hpp>

namespace dvla::inline DVLA_ABI {

/// One batch on the card: pixels (size, side, side, 3) and soft targets (size, classes).
template <class X>
struct device_batch {
  std::uint64_t step = 0;
  std::vector<std::uint32_t> indices{}, labels{};
  X const* pixels = nullptr;
  float const* targets = nullptr;

  [[nodiscard]] std::size_t size() const { return labels.size(); }
};

/// Batches of consecutive steps in the card's memory, whoever prepares them: what a pretrainer takes.
template <class X>
class device_batches {
 public:
  device_batches() = default;
  device_batches(device_batches const&) = delete;
  device_batches& operator=(device_batches const&) = delete;
  virtual ~device_batches() = default;
  [[nodiscard]] virtual std::size_t steps_per_epoch() const = 0;
  /// The batch of the next step: work that is issued from now on finds it, until the next call. All lie at the same addresses.
  [[nodiscard]] virtual device_batch<X> const& next() = 0;
};

/// What is done with whole batches: how they are mixed, how labels are smoothed over `classes`, and the first step.
struct device_batch_settings {
  std::size_t classes = 0;
  mix_settings mix{};
  double label_smoothing = 0.1;
  std::uint64_t seed = 0;
  std::uint64_t first_step = 0;
};

namespace detail {

/// Throws unless all labels are below settings.classes.
template <class Source>
void expect_labels(Source const& source, device_batch_settings const& settings) {
  for (std::size_t i = 0; i < source.size(); ++i)
    if (source.label(i) >= settings.classes)
      fail("loader: ", name_of_image(source, i), " has label ", source.label(i), ", but there are ", settings.classes,
           " classes; give settings.classes");
}

/// What happens to the batch of a step: drawn from the stream (seed, mix, 0, step).
inline batch_mix mix_of_step(device_batch_settings const& settings, std::size_t side, std::uint64_t step) {
  random_stream random(settings.seed, draw::mix, 0, step);
  return draw_mix(settings.mix, side, side, random);
}

}  // namespace detail

/// The batches of consecutive steps without end, equal to those of batch_loader, apply(batch_mix) and soft_targets with the same
/// order and seed but where a rounding falls on an edge. Pixels and targets stay at their addresses; the host waits at most for
/// the upload of two steps ago.
template <class X, precision P = precision::f32>
class device_loader final : public device_batches<X> {
 public:
  /// Throws as resident_images does, and for a label that is not below settings.classes.
  template <class Source>
  device_loader(basic_cuda<P> const& device, Source const& source, epoch_order order, preprocessing const& how,
                augmentation const& what, device_batch_settings const& settings, executor* pool = nullptr)
      : device_loader(resident_images<X, P>(device, source, how, what, settings.seed, pool), std::move(order), settings) {}

  /// Of images that were made with settings.seed.
  device_loader(resident_images<X, P> images, epoch_order order, device_batch_settings const& settings)
      : images_(std::move(images)), order_(std::move(order)), settings_(settings) {
    detail::expect_labels(images_, settings);
    std::size_t const largest = order_.batch(0).size();
    pixels_ = kernels::device_bytes(largest * images_.how().size() * sizeof(X));
    targets_ = kernels::device_bytes(largest * settings.classes * sizeof(float));
    batch_.step = settings.first_step;
    batch_.pixels = pixels();
    batch_.targets = targets();
  }

  [[nodiscard]] std::size_t steps_per_epoch() const override { return order_.steps_per_epoch(); }
  [[nodiscard]] resident_images<X, P> const& images() const { return images_; }
  /// Where every batch lies.
  [[nodiscard]] X* pixels() const { return reinterpret_cast<X*>(pixels_.data()); }
  [[nodiscard]] float* targets() const { return reinterpret_cast<float*>(targets_.data()); }

  /// Issues the batch of the next step behind the device's work; it takes the place of the last one.
  [[nodiscard]] device_batch<X> const& next() override {
    if (started_) ++batch_.step;
    started_ = true;
    batch_.indices = order_.batch(batch_.step);
    batch_.labels.clear();
    for (auto const i : batch_.indices) batch_.labels.push_back(images_.label(i));
    auto const mix = detail::mix_of_step(settings_, images_.how().image, batch_.step);
    auto const there = images_.upload(batch_.indices, batch_.step, mix, order_.share());
    images_.make(there, batch_.size(), pixels());
    kernels::soft_targets(images_.device(), batch_.size(), there.labels, settings_.classes, settings_.label_smoothing, there.mix,
                          targets());
    return batch_;
  }

  /// Prepares any list of images as resident_images::load does.
  void load(std::span<std::uint32_t const> indices, std::uint64_t step, X* out) const { images_.load(indices, step, out); }

 private:
  resident_images<X, P> images_;
  epoch_order order_;
  device_batch_settings settings_;
  kernels::device_bytes pixels_, targets_;
  device_batch<X> batch_;
  bool started_ = false;
};

}  // namespace dvla::inline DVLA_ABI
