// How a card gets its images: from its own memory where they fit, else from worker threads of the host.
#pragma once

#include <dvla/cuda.hpp>
#include <dvla/data/cuda/placement.cuh>
#include <dvla/fewshot/cuda/card_images.cuh>

#include "../../image_supply.hpp"

namespace cli {

template <dvla::precision P>
class image_supply<dvla::basic_cuda<P>> {
 public:
  using device = dvla::basic_cuda<P>;
  using images = dvla::card_images<P>;

  image_supply(device const& card, data_options const& data, compute_options const& compute, dvla::executor* pool)
      : card_(card), pool_(pool) {
    std::string const word = compute.images_on.value_or("auto");
    wish_.place = word == "card"   ? dvla::image_place::card
                  : word == "host" ? dvla::image_place::host
                                   : dvla::image_place::automatic;
    wish_.on_host = data.in_memory ? dvla::image_storage::in_memory : dvla::image_storage::on_demand;
  }

  [[nodiscard]] images episodes(dvla::image_source const& source, dvla::preprocessing const& how, dvla::augmentation const& what,
                                std::uint64_t seed) const {
    images out(card_, source, how, what, seed, pool_, wish_);
    tell(source, out.told());
    return out;
  }

  [[nodiscard]] auto batches(dvla::image_source const& source, dvla::epoch_order order, dvla::preprocessing const& how,
                             dvla::augmentation const& what, std::size_t classes, dvla::pretrain_settings const& settings,
                             std::uint64_t first_step) const {
    using pixel = typename device::template stored<float>;
    std::string told;
    auto out = dvla::place_batches<pixel>(card_, source, std::move(order), how, what,
                                          {classes, settings.mix, settings.label_smoothing, settings.seed, first_step}, pool_, wish_, told);
    tell(source, told);
    return out;
  }

 private:
  static void tell(dvla::image_source const& source, std::string const& told) {
    progress_line().note(source.folder().root.filename().string() + ": " + told);
  }

  device card_;
  dvla::executor* pool_;
  dvla::image_placement wish_{};
};

}  // namespace cli
