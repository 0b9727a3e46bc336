// Where a computation happens: device, arena, mode and random streams. An inference context computes; a tape (tape.hpp) also records
// and runs the recording backwards. A model is called with variables of either and cannot tell the difference.
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <new>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include <dvla/autodiff/cell.hpp>
#include <dvla/core/batch_share.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/core/shape.hpp>
#include <dvla/core/tensor.hpp>

namespace dvla::inline DVLA_ABI {

template <class T, class S, class Context>
class variable;

/// What inference and tape share. Not for concurrent use; variables must not outlive it.
template <class Device>
class context {
 public:
  using device_type = Device;

  explicit context(Device device) : device_(device) {}
  context(context const&) = delete;
  context& operator=(context const&) = delete;

  [[nodiscard]] Device const& device() const { return device_; }
  [[nodiscard]] dvla::arena<Device>& memory() { return arena_; }

  /// Training mode: batch statistics in BatchNorm, drop-path and dropout at work. Off at first.
  [[nodiscard]] bool training() const { return training_; }
  void training(bool on) { training_ = on; }

  /// Which part of each batch the samples are, where several processes share it: draws for a sample go by its place in the whole.
  [[nodiscard]] batch_share const& share() const { return share_; }
  void share(batch_share const& part) { share_ = part; }

  /// How many samples at the front of a batch have batch statistics of their own in training, apart from the rest; 0 where all share
  /// one batch's.
  [[nodiscard]] std::size_t apart() const { return apart_; }

  /// The first samples of every batch are normalised apart from the rest while the guard lives: what two batches one after the other
  /// would give, the first of them first.
  class apart_guard {
   public:
    apart_guard(context& owner, std::size_t samples) : owner_(&owner), before_(std::exchange(owner.apart_, samples)) {}
    apart_guard(apart_guard const&) = delete;
    apart_guard& operator=(apart_guard const&) = delete;
    ~apart_guard() { owner_->apart_ = before_; }

   private:
    context* owner_;
    std::size_t before_;
  };
  [[nodiscard]] apart_guard normalise_apart(std::size_t samples) { return {*this, samples}; }

  /// Names the random numbers of what follows: the same seed and step give the same draws, in the order of the calls.
  void begin_step(std::uint64_t seed, std::uint64_t step) {
    seed_ = seed;
    step_ = step;
    draws_ = 0;
  }

  /// The next stream of random numbers of this step.
  [[nodiscard]] random_stream next_stream(draw what) {
    if (follows_ != nullptr) return follows_->next_stream(what);
    return {seed_, what, draws_++, step_};
  }

  /// Uninitialised workspace of the arena, returned to it at the end of the scope.
  template <class T>
  class workspace {
   public:
    workspace(context& owner, std::size_t count)
        : owner_(&owner), count_(count), data_(static_cast<T*>(owner.arena_.allocate(count * sizeof(T)))) {}
    workspace(workspace const&) = delete;
    workspace& operator=(workspace const&) = delete;
    ~workspace() { owner_->arena_.release(data_, count_ * sizeof(T)); }
    [[nodiscard]] T* data() const { return data_; }

   private:
    context* owner_;
    std::size_t count_;
    T* data_;
  };

  /// A cell of `count` elements: its own uninitialised memory, or the caller's.
  template <class T>
  [[nodiscard]] detail::cell<T>* make_cell(std::size_t count, T* external = nullptr) {
    auto* const c = make_gradient_cell<T>(count);
    c->owns_value = external == nullptr;
    c->value = external != nullptr ? external : static_cast<T*>(arena_.allocate(count * sizeof(T)));
    return c;
  }

  /// Numbers that an operation needs at every step, such as the labels of an episode's classes: on the device, written once and
  /// kept as long as the context. Equal numbers share their memory.
  [[nodiscard]] std::uint32_t const* constant(std::span<std::uint32_t const> numbers) {
    for (auto const& c : constants_)
      if (std::equal(c.host.begin(), c.host.end(), numbers.begin(), numbers.end())) return c.device.data();
    constants_.push_back({{numbers.begin(), numbers.end()}, tensor<std::uint32_t, shape<dyn>, Device>(numbers.size())});
    auto& made = constants_.back();
    Device::copy_bytes(made.device.data(), numbers.data(), numbers.size_bytes());
    return made.device.data();
  }

  /// A cell without elements: what stands for a value that nobody reads but that has a gradient.
  template <class T>
  [[nodiscard]] detail::cell<T>* make_gradient_cell(std::size_t count) {
    auto* const c = new (bookkeeping_.allocate(sizeof(detail::cell<T>))) detail::cell<T>{};
    c->count = count;
    c->memory = &arena_;
    c->home = &bookkeeping_;
    return c;
  }

 protected:
  /// Takes the mode of another context from now on and shares its random streams: a branch's, of the context that it leaves.
  void follow(context& other) {
    follows_ = &other;
    training_ = other.training_;
    apart_ = other.apart_;
    share_ = other.share_;
  }

  /// Host memory for what the library keeps about variables and operations.
  [[nodiscard]] dvla::arena<cpu>& bookkeeping() { return bookkeeping_; }

 private:
  struct stored_constant {
    std::vector<std::uint32_t> host;
    tensor<std::uint32_t, shape<dyn>, Device> device;
  };

  Device device_;
  std::vector<stored_constant> constants_;
  dvla::arena<Device> arena_;
  dvla::arena<cpu> bookkeeping_{std::size_t{1} << 20};
  std::uint64_t seed_ = 0, step_ = 0;
  std::uint32_t draws_ = 0;
  bool training_ = false;
  std::size_t apart_ = 0;
  batch_share share_;
  context* follows_ = nullptr;
};

/// What runs beside a queue and may still read memory that others would give back: it is kept until the work has come to a mark.
class kept_beside {
 public:
  explicit kept_beside(arena<cpu>& home) : home_(&home) {}
  kept_beside(kept_beside const&) = delete;
  kept_beside& operator=(kept_beside const&) = delete;

  /// Without giving memory back: the device is lost, and nobody works on it any more.
  void forget() { entries_.clear(); }

  template <class... Kept>
  void keep(std::size_t mark, Kept const&... kept) {
    using holder = std::tuple<Kept...>;
    void* const memory = home_->allocate(sizeof(holder));
    auto const destroy = [](void* p) { static_cast<holder*>(p)->~holder(); };
    entries_.push_back({new (memory) holder(kept...), destroy, sizeof(holder), mark});
  }
  /// Waits by await(mark) for all works but the last `under_way`, and lets go of what they read.
  template <class Await>
  void release(std::size_t under_way, Await const& await) {
    while (entries_.size() > under_way) {
      auto const first = entries_.front();
      entries_.pop_front();
      await(first.mark);
      first.destroy(first.kept);
      home_->release(first.kept, first.bytes);
    }
  }

 private:
  struct entry {
    void* kept;
    void (*destroy)(void*);
    std::size_t bytes, mark;
  };

  arena<cpu>* home_;
  std::deque<entry> entries_;
};

/// A context whose computation may branch (branch.hpp): Self, on the device's own queue, has another Self for its branches.
template <class Self, class Device>
class branching_context : public context<Device> {
 public:
  using context<Device>::context;

  /// Where branches compute; made at the first one.
  [[nodiscard]] Self& aside() {
    if (!aside_) aside_ = std::make_unique<Self>(this->device().branch());
    aside_->follow(*this);
    return *aside_;
  }
  /// Keeps what a branch reads until it has been waited for and let go of.
  template <class... Kept>
  void keep_for_branch(Kept const&... kept) {
    kept_.keep(0, kept...);
  }
  /// A branch begins, which no other is in the way of; the host has given it all; it is gone.
  void branch_begins() {
    expect(!branch_open_, "branch: another one of this context is open; close it first");
    branch_open_ = true;
    ++branches_;
  }
  void branch_ended(std::size_t mark) {
    branch_open_ = false;
    branch_mark_ = mark;
  }
  void branch_gone() { --branches_; }
  [[nodiscard]] bool has_branches() const { return branches_ > 0; }
  /// What the context is given from now on begins after all branches that have ended.
  void await_branches() {
    if constexpr (requires(Device const& device) { device.branch(); }) Device::await_branch(this->device().queue, branch_mark_);
  }
  /// The same, and what they read is let go of: where no branch will run backwards any more.
  void join_branches() {
    await_branches();
    kept_.release(0, [](std::size_t) {});
  }

 protected:
  /// Without waiting for anybody: the device is lost.
  void forget_branches() {
    kept_.forget();
    branch_mark_ = 0;
  }
  [[nodiscard]] Self* aside_if_made() { return aside_.get(); }

 private:
  std::unique_ptr<Self> aside_;
  kept_beside kept_{this->bookkeeping()};
  std::size_t branch_mark_ = 0, branches_ = 0;
  bool branch_open_ = false;
};

/// Computes without recording: values are freed as soon as nothing refers to them.
template <class Device = cpu>
class inference : public branching_context<inference<Device>, Device> {
 public:
  static constexpr bool records = false;
  explicit inference(Device device = {}) : branching_context<inference, Device>(device) {}

  /// Nothing is recorded, so nothing of a branch is left.
  [[nodiscard]] bool recording() const { return false; }
  [[nodiscard]] std::size_t recorded_nodes() const { return 0; }

  /// A variable that reads the caller's memory, which must outlive it.
  template <class Tensor>
  [[nodiscard]] auto operator()(Tensor const& t) {
    return make_constant(*this, t);
  }
};

}  // namespace dvla::inline DVLA_ABI
