// Batches for training on the GPU that are prepared on the host, for sets that do not fit into the card's memory: copied there on a
// stream of their own while the card works on the batch before.
#pragma once

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <type_traits>

#include <dvla/core/parallel.hpp>
#include <dvla/data/cuda/device_loader.cuh>
#include <dvla/data/cuda/transfer.cuh>
#include <dvla/kernels/cuda/memory.cuh>

namespace dvla::inline DVLA_ABI {

namespace detail {

template <class X>
void store_pixels(float const* from, std::size_t count, X* to) {
  if constexpr (std::is_same_v<X, float>) std::memcpy(to, from, count * sizeof(float));
  else std::transform(from, from + count, to, [](float x) { return X(x); });
}

/// What apply(mix, side, side, ...) makes of an image and its partner, as X.
template <class X>
void store_mixed(batch_mix const& mix, std::size_t side, float const* a, float const* b, X* to_a, X* to_b) {
  std::size_t const size = side * side * 3;
  if (!mix.cuts()) {
    auto const own = static_cast<float>(mix.weight), other = static_cast<float>(1 - mix.weight);
    for (std::size_t k = 0; k < size; ++k) {
      to_a[k] = X(own * a[k] + other * b[k]);
      to_b[k] = X(own * b[k] + other * a[k]);
    }
    return;
  }
  store_pixels(a, size, to_a);
  store_pixels(b, size, to_b);
  for (std::size_t y = mix.box.top; y < mix.box.top + mix.box.height; ++y) {
    std::size_t const at = (y * side + mix.box.left) * 3, count = mix.box.width * 3;
    store_pixels(b + at, count, to_a + at);
    store_pixels(a + at, count, to_b + at);
  }
}

/// Converts a batch of side x side x 3 images to X, mixed: pair by pair, in parallel over the executor.
template <class X>
void store_batch(batch_mix const& mix, std::size_t side, std::span<float const> pixels, executor* pool, X* out) {
  std::size_t const size = side * side * 3, count = pixels.size() / size;
  bool const mixes = mix.cuts() || mix.weight != 1;
  parallel_for(pool, (count + 1) / 2, 4, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      std::size_t const j = count - 1 - i;
      float const* const a = pixels.data() + i * size;
      float const* const b = pixels.data() + j * size;
      if (mixes && i != j) {
        store_mixed(mix, side, a, b, out + i * size, out + j * size);
      } else {
        store_pixels(a, size, out + i * size);
        if (i != j) store_pixels(b, size, out + j * size);
      }
    }
  });
}

}  // namespace detail

/// Batches is anything with next(), which gives {step, indices, labels, pixels} (floats), and steps_per_epoch(), such as
/// batch_loader; it and the device must outlive the loader. A thread of the loader takes them, mixes them into pinned memory and
/// has them copied, two batches ahead of the card at most; next() brings one to its place by a copy within the card's memory. The
/// executor, if given, must bear to be used from that thread.
template <class X, class Batches, precision P = precision::f32>
class host_loader final : public device_batches<X> {
 public:
  /// For images of side x side pixels. Draws the same mixes as device_loader; settings.first_step is the batches' business. Without
  /// classes, batches have no targets and are not mixed: the images of episodes.
  host_loader(basic_cuda<P> const& device, Batches& batches, std::size_t side, device_batch_settings const& settings,
              executor* pool = nullptr)
      : device_(device), batches_(batches), side_(side), settings_(settings), pool_(pool) {
    expect(side > 0, "host_loader: images of 0 pixels a side; give the side of the batches' preprocessing");
    kernels::cuda_check(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking), "creating a stream for copies");
    filler_ = std::thread([this] { fill_slots(); });
  }

  ~host_loader() override {
    {
      std::lock_guard const lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    filler_.join();
    (void)cudaStreamSynchronize(copies_);
    (void)cudaStreamDestroy(copies_);
  }

  [[nodiscard]] std::size_t steps_per_epoch() const override { return batches_.steps_per_epoch(); }

  /// Throws what loading the batch threw; a further call throws it again.
  [[nodiscard]] device_batch<X> const& next() override {
    take([&](slot const& from) {
      batch_ = from.batch;
      batch_.pixels = place(pixels_, from.batch.pixels, from.batch.size() * side_ * side_ * 3);
      batch_.targets = place(targets_, from.batch.targets, from.batch.size() * settings_.classes);
    });
    return batch_;
  }

  /// Brings the images of the next step's batch alone to `to` in the card's memory, in the order of the device's work. Throws as
  /// next().
  void next_images(X* to) {
    take([&](slot const& from) { kernels::copy(device_, from.batch.size() * side_ * side_ * 3, from.batch.pixels, to); });
  }

 private:
  struct slot {
    kernels::pinned_memory pinned{};
    kernels::device_bytes memory{};
    device_batch<X> batch{};
    bool full = false;             // the consumer's, and so is the rest; else the filler's. Guarded by mutex_
    std::exception_ptr failure{};  // instead of a batch
    kernels::cuda_event copied{}, used{};
  };

  /// issue(slot) of the next batch, which may read the slot's memory in the card.
  template <class Issue>
  void take(Issue const& issue) {
    std::unique_lock lock(mutex_);
    slot& mine = slots_[current_];
    changed_.wait(lock, [&] { return mine.full; });
    if (mine.failure) std::rethrow_exception(mine.failure);
    mine.copied.hold(device_.stream());
    issue(mine);
    mine.used.record(device_.stream());
    mine.full = false;
    current_ = 1 - current_;
    changed_.notify_all();
  }

  /// A copy at the memory's address, behind the device's work; null without elements.
  template <class T>
  T const* place(kernels::device_bytes& memory, T const* from, std::size_t count) {
    if (count == 0) return nullptr;
    if (memory.size() < count * sizeof(T)) {
      device_.queue->wait();  // kernels may read what is freed here
      memory = kernels::device_bytes(count * sizeof(T));
    }
    auto* const to = reinterpret_cast<T*>(memory.data());
    kernels::copy(device_, count, from, to);
    return to;
  }

  void fill_slots() {
    bool going = true;
    for (std::size_t n = 0; going; ++n) {
      slot& mine = slots_[n % 2];
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopping_ || !mine.full; });
        if (stopping_) return;
      }
      try {
        if (n == 0) kernels::cuda_check(cudaSetDevice(device_.queue->card()), "choosing the card");
        fill(mine);
      } catch (...) {
        mine.failure = std::current_exception();
        going = false;
      }
      std::lock_guard const lock(mutex_);
      mine.full = true;
      changed_.notify_all();
    }
  }

  void fill(slot& to) {
    auto const& from = batches_.next();
    std::size_t const count = from.labels.size();
    expect(from.pixels.size() == count * side_ * side_ * 3, "host_loader: ", from.pixels.size(), " floats for ", count,
           " images of ", side_, "x", side_, "x3; give the side of the batches' preprocessing");
    // Targets first: their floats keep the pixels behind them aligned to 16 bytes.
    std::size_t const target_bytes = (count * settings_.classes * sizeof(float) + 255) / 256 * 256;
    std::size_t const bytes = target_bytes + from.pixels.size() * sizeof(X);
    make_room(to, bytes);
    batch_mix mix;
    if (settings_.classes > 0) {
      mix = detail::mix_of_step(settings_, side_, from.step);
      soft_targets(from.labels, settings_.classes, settings_.label_smoothing, mix,
                   std::span(reinterpret_cast<float*>(to.pinned.data()), count * settings_.classes));
    }
    detail::store_batch(mix, side_, std::span<float const>(from.pixels), pool_,
                        reinterpret_cast<X*>(to.pinned.data() + target_bytes));
    to.batch = {from.step, from.indices, from.labels, reinterpret_cast<X const*>(to.memory.data() + target_bytes),
                reinterpret_cast<float const*>(to.memory.data())};
    to.used.hold(copies_);
    if (bytes > 0)
      kernels::cuda_check(cudaMemcpyAsync(to.memory.data(), to.pinned.data(), bytes, cudaMemcpyHostToDevice, copies_),
                          "copying a batch");
    to.copied.record(copies_);
  }

  /// Waits until the slot's last batch has left the pinned memory, and for larger ones until nobody uses it.
  void make_room(slot& to, std::size_t bytes) {
    to.copied.wait();
    if (to.pinned.size() >= bytes) return;
    to.used.wait();
    to.pinned = kernels::pinned_memory(bytes);
    to.memory = kernels::device_bytes(bytes);
  }

  basic_cuda<P> device_;
  Batches& batches_;
  std::size_t side_;
  device_batch_settings settings_;
  executor* pool_;
  cudaStream_t copies_ = nullptr;
  std::array<slot, 2> slots_{};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t current_ = 0;  // the slot of the next batch
  bool stopping_ = false;
  kernels::device_bytes pixels_, targets_;
  device_batch<X> batch_{};
  std::thread filler_;
};

}  // namespace dvla::inline DVLA_ABI
