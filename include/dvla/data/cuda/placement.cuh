// Where images are prepared for a card: by the card itself from a copy in its memory, or on the host for sets that do not fit there.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <dvla/data/cuda/device_loader.cuh>
#include <dvla/data/cuda/host_loader.cuh>
#include <dvla/data/loader.hpp>

namespace dvla::inline DVLA_ABI {

/// By the card where the images fit into its memory, by the card or not at all, or on the host.
enum class image_place { automatic, card, host };

/// The wish, and whether the host decodes images once and keeps them where it prepares them.
struct image_placement {
  image_place place = image_place::automatic;
  image_storage on_host = image_storage::on_demand;
};

/// The largest share of the card's free memory that images take by themselves; the rest is for the network.
inline constexpr double resident_share = 0.5;

/// What became of the wish: the images on the card, or none, and a sentence about it for people.
template <class X, precision P>
struct placed_images {
  std::optional<resident_images<X, P>> on_card{};
  std::string told{};
};

namespace detail {

inline std::string megabytes(double bytes) { return concat(static_cast<std::size_t>(bytes / 1e6 + 0.5), " MB"); }

/// Why a source's images, if all are as large as the first, shall not lie on the card; empty if they may.
template <precision P>
std::string too_large(basic_cuda<P> const&, image_source const& source) {
  image scratch;
  double const bytes = static_cast<double>(source.size()) * static_cast<double>(source.read(0, scratch).pixels.size());
  std::size_t free = 0, total = 0;
  kernels::cuda_check(cudaMemGetInfo(&free, &total), "asking for the free memory");
  double const room = resident_share * static_cast<double>(free);
  if (bytes <= room) return {};
  return concat("they would take ", megabytes(bytes), " of the card's memory, of which they may have ", megabytes(room));
}

/// How many threads prepare whole batches for a card; 0 where there is one thread alone, which is then that of host_loader.
inline loader_settings host_workers(executor const* pool, std::uint64_t first_step) {
  std::size_t const threads = pool == nullptr ? 1 : std::min<std::size_t>(pool->threads(), 256), workers = threads == 1 ? 0 : threads;
  return {workers, workers + 1, first_step};
}

/// The same source, decoded once if that is wanted: `kept` is where it then lives.
inline image_source const& stored_source(image_source const& source, image_storage storage, executor* pool,
                                         std::unique_ptr<image_source>& kept) {
  if (storage == image_storage::on_demand || source.bytes() > 0) return source;
  kept = std::make_unique<image_source>(source.folder(), storage, pool);
  return *kept;
}

/// Batches from worker threads and host_loader, of images kept as `storage` says. An Order is batch_loader's.
template <class X, precision P, class Order>
class host_batches final : public device_batches<X> {
 public:
  host_batches(basic_cuda<P> const& device, image_source const& source, Order order, preprocessing const& how,
               augmentation const& what, device_batch_settings const& settings, executor* pool, image_storage storage)
      : batches_(stored_source(source, storage, pool, kept_), std::move(order), how, what, settings.seed,
                 host_workers(pool, settings.first_step)),
        loader_(device, batches_, how.image, settings, pool) {}

  [[nodiscard]] std::size_t steps_per_epoch() const override { return batches_.steps_per_epoch(); }
  [[nodiscard]] device_batch<X> const& next() override { return loader_.next(); }
  void next_images(X* to) { loader_.next_images(to); }

 private:
  std::unique_ptr<image_source> kept_;
  batch_loader<Order> batches_;
  host_loader<X, batch_loader<Order>, P> loader_;
};

}  // namespace detail

/// Puts a source's images into the card's memory unless the wish is against it or, if the choice is free, they take more than
/// resident_share of what is free or only the host can prepare them. Throws as resident_images does.
template <class X, precision P>
[[nodiscard]] placed_images<X, P> place_images(basic_cuda<P> const& device, image_source const& source, preprocessing const& how,
                                               augmentation const& what, std::uint64_t seed, executor* pool, image_place wish) {
  placed_images<X, P> out;
  auto const on_host = [&](std::string const& why) {
    out.told = concat(source.size(), " images prepared on the host", why.empty() ? "" : ": ", why);
    return std::move(out);
  };
  expect(source.size() > 0, "images on the card: the source has no images");
  if (wish == image_place::host) return on_host({});
  if (wish == image_place::automatic)
    if (auto const why = detail::too_large(device, source); !why.empty()) return on_host(why);
  try {
    out.on_card.emplace(device, source, how, what, seed, pool);
  } catch (unfit_images const& why) {
    if (wish == image_place::card) throw;
    return on_host(why.what());
  }
  auto const& there = *out.on_card;
  out.told = concat(there.size(), " images of ", there.height(), "x", there.width(), " in the card's memory (",
                    detail::megabytes(static_cast<double>(there.size() * there.height() * there.width() * 3)), "), prepared there");
  return out;
}

/// Batches for pre-training, where place_images puts them; equal but for roundings. `told` becomes a sentence for people. The source
/// must outlive them.
template <class X, precision P>
[[nodiscard]] std::unique_ptr<device_batches<X>> place_batches(basic_cuda<P> const& device, image_source const& source,
                                                               epoch_order order, preprocessing const& how, augmentation const& what,
                                                               device_batch_settings const& settings, executor* pool,
                                                               image_placement const& wish, std::string& told) {
  auto placed = place_images<X>(device, source, how, what, settings.seed, pool, wish.place);
  told = std::move(placed.told);
  if (placed.on_card) return std::make_unique<device_loader<X, P>>(std::move(*placed.on_card), std::move(order), settings);
  detail::expect_labels(source, settings);
  return std::make_unique<detail::host_batches<X, P, epoch_order>>(device, source, std::move(order), how, what, settings, pool,
                                                                   wish.on_host);
}

}  // namespace dvla::inline DVLA_ABI
