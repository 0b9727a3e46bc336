// The images of a folder as episodes on a card take them, prepared by the card from its memory or ahead of it by the host.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <dvla/data/cuda/placement.cuh>
#include <dvla/fewshot/episode_source.hpp>
#include <dvla/fewshot/folder_images.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// Episodes of images in the card's memory: the host draws what happens to them, the card prepares them.
template <precision P>
class resident_episodes final : public episode_pixels {
 public:
  resident_episodes(resident_images<float, P> const& images, episode_image_order order) : images_(images), order_(std::move(order)) {}

  void load(std::uint64_t step, float* to) override { images_.load(order_(step), step, to); }

 private:
  resident_images<float, P> const& images_;
  episode_image_order order_;
};

/// Episodes of images that worker threads prepare ahead, an episode each, and that are copied to the card while it works.
template <precision P>
class hosted_episodes final : public episode_pixels {
 public:
  hosted_episodes(basic_cuda<P> const& device, folder_images const& images, episode_image_order order)
      : device_(device), images_(images), order_{std::move(order)} {}

  void load(std::uint64_t step, float* to) override {
    if (!batches_ || step != next_) {
      batches_.reset();
      batches_.emplace(device_, *images_.source, order_, images_.how, images_.what,
                       device_batch_settings{.seed = images_.seed, .first_step = step}, images_.pool, image_storage::on_demand);
    }
    batches_->next_images(to);
    next_ = step + 1;
  }

 private:
  /// An episode as a batch of batch_loader.
  struct batch_order {
    episode_image_order images;
    [[nodiscard]] std::vector<std::uint32_t> batch(std::uint64_t step) const { return images(step); }
    [[nodiscard]] std::size_t steps_per_epoch() const { return 1; }  // episodes know no epochs
    [[nodiscard]] batch_share share() const { return {}; }           // and are not shared
  };

  basic_cuda<P> device_;
  folder_images images_;
  batch_order order_;
  std::optional<host_batches<float, P, batch_order>> batches_;
  std::uint64_t next_ = 0;
};

}  // namespace detail

/// A source's images by their position in it, where place_images puts them. What is drawn for them is what folder_images draws: the
/// same but for roundings, wherever they are prepared.
template <precision P = precision::f32>
class card_images {
 public:
  /// Decodes all images where they are kept. The source must outlive this. Throws as place_images does.
  card_images(basic_cuda<P> const& device, image_source const& source, preprocessing const& how, augmentation const& what,
              std::uint64_t seed, executor* pool, image_placement const& wish = {})
      : device_(device),
        placed_(place_images<float>(device, source, how, what, seed, pool, wish.place)),
        on_host_{placed_.on_card ? &source : &detail::stored_source(source, wish.on_host, pool, kept_), how, what, seed, pool} {}

  [[nodiscard]] std::vector<std::size_t> images_per_class() const { return on_host_.images_per_class(); }
  /// Whether the card prepares them.
  [[nodiscard]] bool on_card() const { return placed_.on_card.has_value(); }
  /// A sentence about where they are.
  [[nodiscard]] std::string const& told() const { return placed_.told; }

  /// The images of consecutive episodes, as episode_source takes them.
  [[nodiscard]] std::unique_ptr<episode_pixels> pixels_of(episode_image_order order) const {
    if (on_card()) return std::make_unique<detail::resident_episodes<P>>(*placed_.on_card, std::move(order));
    return std::make_unique<detail::hosted_episodes<P>>(device_, on_host_, std::move(order));
  }

 private:
  basic_cuda<P> device_;
  placed_images<float, P> placed_;
  std::unique_ptr<image_source> kept_;
  folder_images on_host_;
};

}  // namespace dvla::inline DVLA_ABI
