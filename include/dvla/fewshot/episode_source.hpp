// Consecutive episodes on their way to a device with memory of its own: the seam between what learns from episodes and where
// their images are prepared, on the host or by the device itself.
#pragma once

#include <chrono>
#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <dvla/fewshot/learner.hpp>
#include <dvla/kernels/staging.hpp>

namespace dvla::inline DVLA_ABI {

/// The episode of a step, one without images behind the last: a function of the step, which several threads may call at once.
using episode_order = std::function<episode(std::uint64_t)>;
/// The images of a step's episode in the order of its batch.
using episode_image_order = std::function<std::vector<std::uint32_t>(std::uint64_t)>;

/// Prepared images of consecutive episodes, wherever they are prepared.
class episode_pixels {
 public:
  episode_pixels() = default;
  episode_pixels(episode_pixels const&) = delete;
  episode_pixels& operator=(episode_pixels const&) = delete;
  virtual ~episode_pixels() = default;
  /// Brings the images of a step to `to` in the device's memory, in the order of its work. The step after the last one may be
  /// prepared ahead; any other is as right, but may have to be waited for.
  virtual void load(std::uint64_t step, float* to) = 0;
};

/// Images that bring themselves to the device: pixels_of(order) gives episode_pixels, for as long as the images live.
template <class Images>
concept self_loading = requires(Images const& images, episode_image_order order) {
  { images.pixels_of(order) } -> std::same_as<std::unique_ptr<episode_pixels>>;
};

/// The episodes of an order in a device's memory, one after the other at the same addresses. Images is self_loading, such as
/// card_images, or has load(indices, step, floats), which is then called as an episode is needed.
template <std::size_t Side, class Device, class Images>
class episode_source {
 public:
  /// Images and vectors, null for a model without semantics, must outlive the source.
  episode_source(Device const& device, Images const& images, class_vectors const* vectors, episode_order order)
      : device_(device), images_(&images), vectors_(vectors), order_(std::move(order)) {
    if constexpr (self_loading<Images>)
      stream_ = images.pixels_of([order = order_](std::uint64_t step) { return images_of(order(step)); });
  }

  /// Issues the copies and the preparation of a step's episode behind the device's work; it takes the place of the one before,
  /// whose shape it must have.
  episode_inputs<Side, Device> load(std::uint64_t step) {
    using clock = std::chrono::steady_clock;
    auto const begin = clock::now();
    auto const drawn = order_(step);
    auto const meanings = vectors_of(drawn, vectors_);
    auto const all = [](auto const& t) { return std::span<float const>(t.data(), t.size()); };
    episode_inputs<Side, Device> const in{drawn.classes.size(),      drawn.support.size(),
                                          drawn.query.size(),        meanings.local.shape()[0],
                                          meanings.local.shape()[1], pixels_of(drawn, step),
                                          local_.put(device_, all(meanings.local)), global_.put(device_, all(meanings.global))};
    waited_ += std::chrono::duration<double>(clock::now() - begin).count();
    return in;
  }

  /// Seconds that the host has spent in load: waiting for images, or preparing what the device needs to make them.
  [[nodiscard]] double waited() const { return waited_; }

 private:
  using tensor_type = tensor<float, shape<dyn, Side, Side, 3>, Device>;

  float const* pixels_of(episode const& drawn, std::uint64_t step) {
    std::size_t const count = drawn.support.size() + drawn.query.size();
    if constexpr (self_loading<Images>) {
      if (!pixels_) pixels_.emplace(count);
      expect(pixels_->shape()[0] == count, "episodes: one of ", pixels_->shape()[0], " images was followed by one of ", count,
             "; every step must have the same shapes");
      stream_->load(step, pixels_->data());
      return pixels_->data();
    } else {
      prepared_.resize(count * Side * Side * 3);
      images_->load(images_of(drawn), step, std::span<float>(prepared_));
      return staged_pixels_.put(device_, prepared_);
    }
  }

  Device device_;
  Images const* images_;
  class_vectors const* vectors_;
  episode_order order_;
  staged<float, Device> local_, global_;
  std::optional<tensor_type> pixels_;       // of images that load themselves
  std::unique_ptr<episode_pixels> stream_;  // destroyed before the memory that it writes to
  std::vector<float> prepared_;             // of others
  staged<float, Device> staged_pixels_;
  double waited_ = 0;
};

}  // namespace dvla::inline DVLA_ABI
