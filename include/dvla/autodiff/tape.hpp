// A context that records what it computes and runs the recording backwards.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include <dvla/autodiff/context.hpp>

namespace dvla::inline DVLA_ABI {

/// Computes and records; backward() runs the recording in reverse. A node is freed as soon as it has run.
template <class Device = cpu>
class tape : public branching_context<tape<Device>, Device> {
 public:
  static constexpr bool records = true;
  explicit tape(Device device = {}) : branching_context<tape, Device>(device) { nodes_.reserve(4096); }
  ~tape() { clear(); }

  /// A variable that reads the caller's memory, which must outlive it; no gradient flows to it.
  template <class Tensor>
  [[nodiscard]] auto operator()(Tensor const& t) {
    return make_constant(*this, t);
  }

  /// Whether operations are recorded now.
  [[nodiscard]] bool recording() const { return recording_; }
  void recording(bool on) { recording_ = on; }

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

  /// Runs f at this place of the backward pass, whatever gradients have arrived.
  template <class F>
  void record_moment(F f) {
    using moment = moment_node<F>;
    void* const memory = this->bookkeeping().allocate(sizeof(moment));
    nodes_.push_back({new (memory) moment{std::move(f)}, moment::run, moment::destroy, sizeof(moment)});
  }
  /// What a branch has recorded so far, and its backward pass down to there.
  [[nodiscard]] std::size_t recorded_nodes() const { return nodes_.size(); }
  void run_down_to(std::size_t count) {
    while (nodes_.size() > count) {
      nodes_.back().run(nodes_.back().node);
      pop();
    }
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
      this->await_branches();
    } catch (error const&) {  // the device is lost: nobody works on it any more
      beside_.forget();
      this->forget_branches();
    }
    while (!nodes_.empty()) pop();
    if (auto* const aside = this->aside_if_made()) aside->clear();
    this->join_branches();
  }

  /// Keeps what work beside the queue reads until the queue has waited for its mark. Four such works may be under way: with two the
  /// queue waits for them now and then, more than four keep memory that the next operations could have and gain nothing.
  template <class... Kept>
  void keep_beside(std::size_t mark, Kept const&... kept) {
    beside_.keep(mark, kept...);
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

  template <class F>
  struct moment_node {
    F f;
    static void run(void* self) { static_cast<moment_node*>(self)->f(); }
    static void destroy(void* self) { static_cast<moment_node*>(self)->~moment_node(); }
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
    run_down_to(0);
    end_side(0);
    this->join_branches();
  }

  /// The queue waits for all works beside it but the last `under_way`.
  void end_side(std::size_t under_way) {
    Device const& on = this->device();
    beside_.release(under_way, [&on](std::size_t mark) {
      if constexpr (requires(Device const& device) { device.queue; }) Device::await_beside(on.queue, mark);
      else static_cast<void>(on), static_cast<void>(mark);
    });
  }

  std::vector<entry> nodes_;
  kept_beside beside_{this->bookkeeping()};
  bool recording_ = true;
};

}  // namespace dvla::inline DVLA_ABI
