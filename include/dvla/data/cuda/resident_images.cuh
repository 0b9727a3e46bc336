// A set of images of one size in the card's memory, from which batches and episodes are prepared without the host touching a pixel.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <dvla/core/batch_share.hpp>
#include <dvla/core/parallel.hpp>
#include <dvla/data/cuda/augment.cuh>
#include <dvla/data/cuda/transfer.cuh>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// Image i of the source, for an error.
template <class Source>
std::string name_of_image(Source const& source, std::size_t i) {
  if constexpr (requires { source.folder().images[i].file.string(); }) return source.folder().images[i].file.string();
  else return concat("image ", i);
}

}  // namespace detail

/// The images of a source (an image_source, or anything with its size(), label(i) and read(i, scratch)) as bytes on the card, and
/// what is drawn for them as folder_images does it: functions of (seed, step, place). X is what inputs are stored as.
template <class X, precision P = precision::f32>
class resident_images {
 public:
  /// What the kernels of one batch read on the card; there until the next upload.
  struct batch_plan {
    image_plan const* plans;
    mix_plan const* mix;
    std::uint32_t const* labels;
  };

  /// Decodes and uploads all images. Throws unfit_images, naming the first one, if one has another size than image 0, or if they are
  /// too large; and for a file that cannot be decoded.
  template <class Source>
  resident_images(basic_cuda<P> const& device, Source const& source, preprocessing const& how, augmentation const& what,
                  std::uint64_t seed, executor* pool = nullptr)
      : device_(device), how_(how), what_(what), seed_(seed), pool_(pool) {
    expect(source.size() > 0, "resident_images: the source has no images");
    image scratch;
    image const& first = source.read(0, scratch);
    set_ = {nullptr, source.size(), first.height, first.width};
    (void)kernels::augmenting::plan_launch(set_, how.image, kernels::augmenting::shared_room(*device.queue));
    for (std::size_t i = 0; i < source.size(); ++i) labels_.push_back(source.label(i));
    memory_ = kernels::device_bytes(set_.count * set_.bytes_each());
    set_.pixels = reinterpret_cast<std::uint8_t const*>(memory_.data());
    upload_all(source);
  }

  [[nodiscard]] std::size_t size() const { return set_.count; }
  [[nodiscard]] std::size_t height() const { return set_.height; }
  [[nodiscard]] std::size_t width() const { return set_.width; }
  [[nodiscard]] std::uint32_t label(std::size_t i) const { return labels_[i]; }
  [[nodiscard]] preprocessing const& how() const { return how_; }
  [[nodiscard]] basic_cuda<P> const& device() const { return device_; }

  /// How many images each label has, from label 0 to the largest.
  [[nodiscard]] std::vector<std::size_t> images_per_class() const {
    std::vector<std::size_t> out(1 + std::size_t{*std::max_element(labels_.begin(), labels_.end())});
    for (auto const label : labels_) ++out[label];
    return out;
  }

  /// The prepared images (indices.size(), side, side, 3), one after the other in the card's memory at `out`, in the order of the
  /// device's work. Image p draws from the stream (seed, augment, p, step). The host waits at most for the load before the last.
  void load(std::span<std::uint32_t const> indices, std::uint64_t step, X* out) const {
    make(upload(indices, step, {}), indices.size(), out);
  }

  /// Draws for a batch, or one process's share of it, and uploads what was drawn, the mix and the labels.
  [[nodiscard]] batch_plan upload(std::span<std::uint32_t const> indices, std::uint64_t step, batch_mix const& mix,
                                  batch_share const& share = {}) const {
    std::size_t const count = indices.size(), labels_at = sizeof(mix_plan) + count * sizeof(image_plan);
    std::size_t const bytes = labels_at + count * sizeof(std::uint32_t);
    static_assert(sizeof(mix_plan) % alignof(image_plan) == 0 && alignof(image_plan) >= alignof(std::uint32_t));
    static_assert(std::is_trivially_copyable_v<mix_plan> && std::is_trivially_copyable_v<image_plan>);
    std::byte* const host = ring_->reserve(bytes);
    new (host) mix_plan(mix);
    parallel_for(pool_, count, 64, [&](std::size_t begin, std::size_t end) {
      for (std::size_t p = begin; p < end; ++p) {
        auto const place = static_cast<std::uint32_t>(share.place(p, count));
        new (host + sizeof(mix_plan) + p * sizeof(image_plan)) image_plan(drawn(indices[p], place, step));
        std::memcpy(host + labels_at + p * sizeof(std::uint32_t), &labels_[indices[p]], sizeof(std::uint32_t));
      }
    });
    std::byte const* const there = ring_->commit(device_.stream(), bytes);
    return {reinterpret_cast<image_plan const*>(there + sizeof(mix_plan)), reinterpret_cast<mix_plan const*>(there),
            reinterpret_cast<std::uint32_t const*>(there + labels_at)};
  }

  /// The images of an uploaded batch.
  void make(batch_plan const& batch, std::size_t count, X* out) const {
    kernels::augment_images(device_, set_, how_, count, batch.plans, batch.mix, out);
  }

 private:
  [[nodiscard]] image_plan drawn(std::uint32_t i, std::uint32_t p, std::uint64_t step) const {
    expect(i < set_.count, "resident_images: image ", i, " asked for, there are ", set_.count);
    random_stream random(seed_, draw::augment, p, step);
    return plan_of(i, set_.height, set_.width, how_, draw_augmentation(what_, how_, set_.height, set_.width, random));
  }

  template <class Source>
  void upload_all(Source const& source) {
    std::size_t const each = set_.bytes_each(), at_once = std::max<std::size_t>(1, (std::size_t{64} << 20) / each);
    std::vector<std::uint8_t> chunk(std::min(at_once, set_.count) * each);
    for (std::size_t begin = 0; begin < set_.count; begin += at_once) {
      std::size_t const count = std::min(at_once, set_.count - begin);
      parallel_for(pool_, count, 64, [&](std::size_t from, std::size_t to) {
        image scratch;
        for (std::size_t i = from; i < to; ++i) {
          image const& picture = source.read(begin + i, scratch);
          if (picture.height != set_.height || picture.width != set_.width)
            throw unfit_images(concat(
                detail::name_of_image(source, begin + i), ": the image has ", picture.height, "x", picture.width,
                " pixels, but the first one ", set_.height, "x", set_.width,
                "; images kept on the device must have one size: prepare these on the host (host_loader) or resize them first"));
          std::memcpy(chunk.data() + i * each, picture.pixels.data(), each);
        }
      });
      kernels::cuda_memory::copy_bytes(memory_.data() + begin * each, chunk.data(), count * each);
    }
  }

  basic_cuda<P> device_;
  preprocessing how_;
  augmentation what_;
  std::uint64_t seed_;
  executor* pool_;
  kernels::device_images set_;
  std::vector<std::uint32_t> labels_;
  kernels::device_bytes memory_;
  std::unique_ptr<kernels::upload_ring> ring_ = std::make_unique<kernels::upload_ring>();
};

}  // namespace dvla::inline DVLA_ABI
