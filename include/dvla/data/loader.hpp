// Batches for training: loaded by worker threads ahead of their use, equal whatever the number of workers.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include <dvla/core/batch_share.hpp>
#include <dvla/core/error.hpp>
#include <dvla/core/parallel.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/data/epoch_order.hpp>
#include <dvla/data/image_source.hpp>
#include <dvla/data/pipeline.hpp>

namespace dvla::inline DVLA_ABI {

/// Prepares the images into out (indices.size() x image x image x 3). Image p of the whole batch draws from the stream (seed,
/// augment, p, step), so the result is a function of seed, step, place in the batch and image alone; the indices may be the share
/// of one process. Throws naming the file that cannot be decoded, or if out has the wrong size.
inline void load_batch(image_source const& source, std::span<std::uint32_t const> indices, std::uint64_t step,
                       preprocessing const& how, augmentation const& what, std::uint64_t seed, executor* pool,
                       std::span<float> out, batch_share const& share = {}) {
  expect(out.size() == indices.size() * how.size(), "load_batch: ", out.size(), " floats for ", indices.size(), " images of ",
         how.image, "x", how.image, "x3; give ", indices.size() * how.size());
  parallel_for(pool, indices.size(), 8, [&](std::size_t begin, std::size_t end) {
    image scratch;
    for (std::size_t p = begin; p < end; ++p) {
      random_stream random(seed, draw::augment, static_cast<std::uint32_t>(share.place(p, indices.size())), step);
      image const& picture = source.read(indices[p], scratch);
      auto const drawn = draw_augmentation(what, how, picture.height, picture.width, random);
      apply(picture, how, drawn, out.subspan(p * how.size(), how.size()));
    }
  });
}

/// One prepared batch; `pixels` is indices.size() x image x image x 3.
struct image_batch {
  std::uint64_t step = 0;
  std::vector<std::uint32_t> indices{}, labels{};
  std::vector<float> pixels{};
};

/// How a batch_loader works: how many threads (0: next() loads itself), how many batches they may be ahead, and the first step.
struct loader_settings {
  std::size_t workers = 1;
  std::size_t ahead = 2;
  std::uint64_t first_step = 0;
};

/// The batches of consecutive steps without end. Each worker prepares a whole batch on its own; batches come out in the order
/// of their steps. next() is for one thread. The source must outlive the loader. An Order has batch(step), the images of a step,
/// which is called by one thread at a time, share(), what part of the whole batch they are, and, for steps_per_epoch(), that.
template <class Order = epoch_order>
class batch_loader {
 public:
  batch_loader(image_source const& source, Order order, preprocessing const& how, augmentation const& what,
               std::uint64_t seed, loader_settings const& settings)
      : source_(source),
        order_(std::move(order)),
        how_(how),
        what_(what),
        seed_(seed),
        taken_(settings.first_step),
        claimed_(settings.first_step) {
    expect(settings.workers <= 256, "batch_loader: ", settings.workers, " workers; give at most 256");
    expect(settings.workers == 0 || settings.ahead > 0,
           "batch_loader: workers need at least one batch to be ahead; give ahead >= 1");
    slots_.resize(settings.workers == 0 ? 1 : settings.ahead + 1);
    for (std::size_t i = 0; i < settings.workers; ++i) workers_.emplace_back([this] { work(); });
  }

  batch_loader(batch_loader const&) = delete;
  batch_loader& operator=(batch_loader const&) = delete;

  ~batch_loader() {
    {
      std::lock_guard const lock(mutex_);
      stopping_ = true;
    }
    free_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  [[nodiscard]] std::size_t steps_per_epoch() const { return order_.steps_per_epoch(); }

  /// The batch of the next step; it is valid until the next call. Throws what loading it threw; a further call throws it again.
  [[nodiscard]] image_batch const& next() {
    std::unique_lock lock(mutex_);
    if (holding_) {
      slot_of(taken_).ready = false;
      ++taken_;
      holding_ = false;
      free_.notify_all();
    }
    slot& mine = slot_of(taken_);
    if (workers_.empty()) {
      claim(mine.batch, taken_);
      load(mine.batch);
    } else {
      ready_.wait(lock, [&] { return mine.ready; });
      if (mine.failure) std::rethrow_exception(mine.failure);
    }
    holding_ = true;
    return mine.batch;
  }

 private:
  struct slot {
    image_batch batch{};
    bool ready = false;
    std::exception_ptr failure{};
  };

  [[nodiscard]] slot& slot_of(std::uint64_t step) { return slots_[static_cast<std::size_t>(step % slots_.size())]; }

  void claim(image_batch& batch, std::uint64_t step) {
    batch.step = step;
    batch.indices = order_.batch(step);
  }

  void load(image_batch& batch) const {
    batch.labels.clear();
    for (auto const i : batch.indices) batch.labels.push_back(source_.label(i));
    batch.pixels.resize(batch.indices.size() * how_.size());
    load_batch(source_, batch.indices, batch.step, how_, what_, seed_, nullptr, batch.pixels, order_.share());
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      // The slot that the consumer holds, and those not yet taken, are not free.
      free_.wait(lock, [&] { return stopping_ || claimed_ < taken_ + slots_.size(); });
      if (stopping_) return;
      slot& mine = slot_of(claimed_);
      claim(mine.batch, claimed_++);
      lock.unlock();
      std::exception_ptr failure;
      try {
        load(mine.batch);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      mine.failure = failure;
      mine.ready = true;
      ready_.notify_all();
    }
  }

  image_source const& source_;
  Order order_;
  preprocessing how_;
  augmentation what_;
  std::uint64_t seed_;
  std::mutex mutex_;
  std::condition_variable free_, ready_;
  std::vector<slot> slots_;  // slot step % size: that step's batch; the fields below and `ready` are guarded by mutex_
  std::uint64_t taken_;      // the step that next() returns, or has returned while holding_
  std::uint64_t claimed_;    // the first step that no worker has begun
  bool holding_ = false;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace dvla::inline DVLA_ABI
