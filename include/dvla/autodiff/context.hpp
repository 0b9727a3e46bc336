// Where a computation happens: device, arena, mode and random streams. An inference context computes; a tape also records
// and runs the recording backwards. A model is called with variables of either and cannot tell the difference.
#pragma once

#include <algorithm>
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
  [[nodiscard]] random_stream next_stream(draw what) { return {seed_, what, draws_++, step_}; }

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
};

/// Computes without recording: values are freed as soon as nothing refers to them.
template <class Device = cpu>
class inference : public context<Device> {
 public:
  static constexpr bool records = false;
  explicit inference(Device device = {}) : context<Device>(device) {}

  /// A variable that reads the caller's memory, which must outlive it.
  template <class Tensor>
  [[nodiscard]] auto operator()(Tensor const& t) {
    return make_constant(*this, t);
  }
};

/// Computes and records; backward() runs the recording in reverse. A node is freed as soon as it has run.
template <class Device = cpu>
class tape : public context<Device> {
 public:
  static constexpr bool records = true;
  explicit tape(Device device = {}) : context<Device>(device) { nodes_.reserve(4096); }
  ~tape() { clear(); }

  /// A variable that reads the caller's memory, which must outlive it; no gradient flows to it.
  template <class Tensor>
  [[nodiscard]] auto operator()(Tensor const& t) {
    return make_constant(*this, t);
  }

  /// Whether operations are recorded now.
  [[nodiscard]] bool recording() const { return recording_; }

  /// Nothing is recorded while the guard lives.
  class no_grad_guard {
   public:
    explicit no_grad_guard(tape& t) : tape_(&t), before_(std::exchange(t.recording_, false)) {}
    no_grad_guard(no_grad_guard const&) = delete;
    no_grad_guard& operator=(no_grad_guard const&) = delete;
    ~no_grad_guard() { tape_->recording_ = before_; }

   private:
    tape* tape_;
    bool before_;
  };
  [[nodiscard]] no_grad_guard no_grad() { return no_grad_guard(*this); }

  /// Runs f(gradient of the output) in the backward pass, unless no gradient has reached the output. An f that takes the
  /// output's cell instead may hand its gradient's memory on.
  template <class T, class F>
  void record(detail::cell<T>* output, F f) {
    using callback = callback_node<T, F>;
    output->wants_gradient = true;
    void* const memory = this->bookkeeping().allocate(sizeof(callback));
    auto* const node = new (memory) callback{detail::cell_reference<T, false>(output), std::move(f)};
    nodes_.push_back({node, callback::run, callback::destroy, sizeof(callback)});
  }

  /// Gradients of the sum of a variable's elements, usually the loss alone, with respect to everything recorded.
  template <class T, class S>
  void backward(variable<T, S, tape> const& loss) {
    auto const seed = seed_of(loss);
    fill(this->device(), loss.size(), seed.data, T(1));
    run();
  }

  /// As backward(loss), with the gradient of the final objective by `output` given.
  template <class T, class S>
  void backward(variable<T, S, tape> const& output, view<T const, S, contiguous, Device> gradient) {
    auto const seed = seed_of(output);
    expect(gradient.extents == output.shape(), "backward: a gradient of shape ", gradient.extents, " for an output of shape ",
           output.shape());
    copy(this->device(), output.size(), gradient.data, seed.data);
    run();
  }

  /// Forgets what was recorded.
  void clear() {
    try {
      end_side(0);
    } catch (error const&) {  // the device is lost: nobody works on it any more
      beside_.clear();
    }
    while (!nodes_.empty()) pop();
  }

  /// Keeps what work beside the queue reads until the queue has waited for its mark. Four such works may be under way: with two the
  /// queue waits for them now and then, more than four keep memory that the next operations could have and gain nothing.
  template <class... Kept>
  void keep_beside(std::size_t mark, Kept const&... kept) {
    using holder = std::tuple<Kept...>;
    void* const memory = this->bookkeeping().allocate(sizeof(holder));
    auto const destroy = [](void* p) { static_cast<holder*>(p)->~holder(); };
    beside_.push_back({new (memory) holder(kept...), destroy, sizeof(holder), mark});
    end_side(4);
  }

 private:
  template <class T, class S>
  [[nodiscard]] static auto seed_of(variable<T, S, tape> const& output) {
    expect(output.wants_gradient(), "backward: the loss does not depend on any parameter or watched variable; nothing was recorded for it");
    expect(!output.cell()->spent, "backward: what led to this loss has been run backwards already; compute the loss again first");
    return output.add_gradient();
  }

  /// What was recorded of an operation. Without virtual functions: a class each costs the compiler three more functions and a table.
  template <class T, class F>
  struct callback_node {
    detail::cell_reference<T, false> output;
    F f;

    static void run(void* self) {
      auto& node = *static_cast<callback_node*>(self);
      node.output->spent = true;
      if (!node.output->has_gradient) return;
      if constexpr (std::is_invocable_v<F&, detail::cell<T>&>) node.f(*node.output.get());
      else node.f(static_cast<T const*>(node.output->gradient));
    }
    static void destroy(void* self) { static_cast<callback_node*>(self)->~callback_node(); }
  };

  struct entry {
    void* node;
    void (*run)(void*);
    void (*destroy)(void*);
    std::size_t bytes;
  };

  void pop() {
    auto const last = nodes_.back();
    nodes_.pop_back();
    last.destroy(last.node);
    this->bookkeeping().release(last.node, last.bytes);
  }

  void run() {
    while (!nodes_.empty()) {
      nodes_.back().run(nodes_.back().node);
      pop();
    }
    end_side(0);
  }

  struct beside_entry {
    void* kept;
    void (*destroy)(void*);
    std::size_t bytes, mark;
  };

  /// The queue waits for all works beside it but the last `under_way`.
  void end_side(std::size_t under_way) {
    while (beside_.size() > under_way) {
      auto const first = beside_.front();
      beside_.erase(beside_.begin());
      if constexpr (requires { this->device().queue; }) Device::await_beside(this->device().queue, first.mark);
      first.destroy(first.kept);
      this->bookkeeping().release(first.kept, first.bytes);
    }
  }

  std::vector<entry> nodes_;
  std::vector<beside_entry> beside_;
  bool recording_ = true;
};

}  // namespace dvla::inline DVLA_ABI
