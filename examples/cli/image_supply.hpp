// How a command's device gets its images.
#pragma once

#include <dvla/data/loader.hpp>
#include <dvla/fewshot/folder_images.hpp>
#include <dvla/fewshot/pretrainer.hpp>

#include "run_support.hpp"

namespace cli {

/// The CPU prepares what it reads. A card's specialisation is in models/cuda/image_supply.cuh, which only the models on a card
/// include.
template <class Device>
class image_supply {
 public:
  using images = dvla::folder_images;

  image_supply(Device const&, data_options const&, compute_options const&, dvla::executor* pool) : pool_(pool) {}

  /// Images for episodes.
  [[nodiscard]] images episodes(dvla::image_source const& source, dvla::preprocessing const& how, dvla::augmentation const& what,
                                std::uint64_t seed) const {
    return {&source, how, what, seed, pool_};
  }

  /// Batches for pre-training from a step on.
  [[nodiscard]] auto batches(dvla::image_source const& source, dvla::epoch_order order, dvla::preprocessing const& how,
                             dvla::augmentation const& what, std::size_t, dvla::pretrain_settings const& settings,
                             std::uint64_t first_step) const {
    std::size_t const workers = pool_->threads() == 1 ? 0 : std::max<std::size_t>(1, pool_->threads() / 4);
    return std::make_unique<dvla::batch_loader<>>(source, std::move(order), how, what, settings.seed,
                                                  dvla::loader_settings{workers, workers + 1, first_step});
  }

 private:
  dvla::executor* pool_;
};

}  // namespace cli
