// Which images make up training step n: every epoch a new shuffle, known from the seed alone, so that a run resumes at any step.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include <dvla/core/batch_share.hpp>
#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>

namespace dvla::inline DVLA_ABI {

/// The numbers 0 .. images - 1 in the order of that epoch: a shuffle by the stream (seed, shuffle, 0, epoch).
[[nodiscard]] inline std::vector<std::uint32_t> shuffled_images(std::size_t images, std::uint64_t seed, std::uint64_t epoch) {
  std::vector<std::uint32_t> order(images);
  std::iota(order.begin(), order.end(), 0u);
  random_stream random(seed, draw::shuffle, 0, epoch);
  shuffle(order, random);
  return order;
}

/// The batches of one epoch after the other, numbered by step from 0. Not for use from several threads at once.
class epoch_order {
 public:
  struct settings {
    std::size_t images = 0;
    std::size_t batch = 0;    ///< images of a step, repeats included
    std::size_t repeats = 1;  ///< how often an image occurs in its batch (repeated augmentation): the list of distinct images,
                              ///< one after the other that many times
    bool drop_last = true;    ///< whether the incomplete batch at the end of an epoch is left out
    std::uint64_t seed = 0;
    batch_share share{};      ///< the part of each batch that batch() gives, where several processes share it
  };

  /// Throws if the batch is no multiple of repeats or cannot be shared, or if an epoch would have no batch.
  explicit epoch_order(settings const& s) : settings_(s) {
    expect(s.images > 0 && s.images < 0xffffffffu, "epoch_order: ", s.images, " images; expected 1 to 2^32 - 2");
    expect(s.batch > 0 && s.repeats > 0 && s.batch % s.repeats == 0, "epoch_order: a batch of ", s.batch, " with ", s.repeats,
           " repeats of an image; the batch must be a multiple of the repeats");
    expect(s.share.size == 1 || (s.drop_last && s.batch % (2 * s.share.size) == 0), "epoch_order: a batch of ", s.batch, " for ",
           s.share.size, " processes; it must be a multiple of ", 2 * s.share.size,
           ", since an image and its mirror image in the batch stay together, and incomplete batches must be left out");
    distinct_ = s.batch / s.repeats;
    steps_ = s.drop_last ? s.images / distinct_ : (s.images + distinct_ - 1) / distinct_;
    expect(steps_ > 0, "epoch_order: ", s.images, " images do not fill one batch of ", distinct_,
           " distinct ones; choose a smaller batch or keep incomplete ones");
  }

  [[nodiscard]] std::size_t steps_per_epoch() const { return steps_; }
  [[nodiscard]] std::uint64_t epoch_of(std::uint64_t step) const { return step / steps_; }

  [[nodiscard]] batch_share const& share() const { return settings_.share; }

  /// The images of a step, or this process's share of them, in the order of the batch.
  [[nodiscard]] std::vector<std::uint32_t> batch(std::uint64_t step) {
    if (order_.empty() || epoch_ != epoch_of(step)) {
      epoch_ = epoch_of(step);
      order_ = shuffled_images(settings_.images, settings_.seed, epoch_);
    }
    std::size_t const begin = static_cast<std::size_t>(step % steps_) * distinct_, end = std::min(begin + distinct_, order_.size());
    std::vector<std::uint32_t> out;
    out.reserve((end - begin) * settings_.repeats);
    for (std::size_t copy = 0; copy < settings_.repeats; ++copy)
      out.insert(out.end(), order_.begin() + static_cast<std::ptrdiff_t>(begin), order_.begin() + static_cast<std::ptrdiff_t>(end));
    if (settings_.share.size == 1) return out;
    std::vector<std::uint32_t> mine(out.size() / settings_.share.size);
    for (std::size_t i = 0; i < mine.size(); ++i) mine[i] = out[settings_.share.place(i, mine.size())];
    return mine;
  }

 private:
  settings settings_;
  std::size_t distinct_ = 0, steps_ = 0;
  std::uint64_t epoch_ = 0;
  std::vector<std::uint32_t> order_;
};

}  // namespace dvla::inline DVLA_ABI
