// Branches: parts of a computation that run beside the rest, forward and backward, on a device with more than one queue. Small
// operations in a row, such as a policy's, then cost the rest nothing but the wait for their result.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <dvla/autodiff/evaluate.hpp>
#include <dvla/autodiff/variable.hpp>
#include <dvla/kernels/cpu/memory.hpp>

namespace dvla::inline DVLA_ABI {

/// While a branch is open, what is computed in context() runs beside the context it left, after all that this was given before. Elsewhere
/// than on such a device, or where `beside` is false, context() is that context itself and nothing changes.
///
/// Its inputs are parameters and what take() takes; result() and sum() lead back. The backward pass branches at the same places, so
/// gradients of parameters that the branch uses are added beside, too. Nothing else is to be given to the context that was left
/// before close(), the first result() or sum(), or the end of the scope, and nothing to the branch after it. One branch of a context is
/// open at a time; several may be under way.
template <class Context>
class branch {
  using device = typename Context::device_type;
  static constexpr bool possible = requires(device const& d) { d.branch(); };

 public:
  explicit branch(Context& left, bool beside = true) : left_(&left), in_(&left) {
    if constexpr (possible) {
      if (!beside || left.device().queue->is_side()) return;
      left.branch_begins();
      in_ = &left.aside();
      if constexpr (Context::records) {
        in_->recording(left.recording());
        record_ = std::make_shared<record>(record{in_->recorded_nodes(), {}});
        if (left.recording()) left.record_moment([&left, r = record_] { run_backward(left, *r); });
      }
      left.device().begin_branch();
    }
  }
  branch(branch const&) = delete;
  branch& operator=(branch const&) = delete;
  ~branch() {
    try {
      close();
      if (!beside()) return;
      left_->branch_gone();
      if (left_->recording()) return;
      left_->await_branches();
      if (!left_->has_branches() && left_->recorded_nodes() == 0) left_->join_branches();
    } catch (error const&) {  // the device is lost, which the next call to it tells
    }
  }

  /// Where the branch computes.
  [[nodiscard]] Context& context() const { return *in_; }
  [[nodiscard]] bool beside() const { return in_ != left_; }

  /// A value of the context that was left, as the branch reads it; no gradient flows back.
  template <class T, class S>
  [[nodiscard]] variable<T, S, Context> take(variable<T, S, Context> const& x) const {
    if (!beside()) return stop_gradient(x);
    left_->keep_for_branch(x);
    return shared(*in_, x);
  }

  /// No more is given to the branch.
  void close() {
    if constexpr (possible) {
      if (!beside() || mark_ != 0) return;
      mark_ = left_->device().end_branch();
      left_->branch_ended(mark_);
    }
  }

  /// A value of the branch for the context that was left, which waits for it.
  template <class T, class S>
  [[nodiscard]] variable<T, S, Context> result(variable<T, S, Context> const& x) {
    if (!beside()) return x;
    close();
    if constexpr (possible) device::await_branch(left_->device().queue, mark_);
    auto const out = shared(*left_, x);
    if constexpr (Context::records)
      if (recorded(*left_, x)) left_->record(out.cell(), [r = record_, x](detail::cell<T>& own) { send_gradient(*r, own, x); });
    return out;
  }

  /// a + b for a scalar of the context that was left and one of the branch, without waiting: a loss of two parts, with which the branch
  /// closes. Its value is there after backward(), or when host() asks for it.
  template <class T>
  [[nodiscard]] variable<T, shape<>, Context> sum(variable<T, shape<>, Context> const& a, variable<T, shape<>, Context> const& b) {
    if (!beside()) return evaluate(a + b);
    if constexpr (possible) left_->device().begin_branch();  // a may have been computed since it began
    variable<T, shape<>, Context> const total = evaluate(take(stop_gradient(a)) + stop_gradient(b));
    close();
    auto const out = shared(*left_, total);
    if constexpr (Context::records)
      if (recorded(*left_, a, b))
        left_->record(out.cell(), [left = left_, r = record_, a = a.gradient_only(), b](detail::cell<T>& own) {
          if (auto const da = a.add_gradient()) copy_blocks(left->device(), 1, 1, own.gradient, 1, da.data, 1, da.accumulate);
          send_gradient(*r, own, b);
        });
    return out;
  }

 private:
  /// A branch as the backward pass finds it: where its recording begins, and the gradients that have arrived for its results.
  struct record {
    std::size_t first;
    std::vector<std::function<void()>> arrived;
  };

  /// The elements of a variable as one of the other context, without its history.
  template <class T, class S>
  [[nodiscard]] static variable<T, S, Context> shared(Context& to, variable<T, S, Context> const& x) {
    auto* const c = to.template make_cell<T>(x.size(), x.data_pointer());
    c->shares = detail::cell_reference<T, true>(x.cell());
    return {to, c, x.shape()};
  }

  template <class T, class S>
  static void send_gradient(record& r, detail::cell<T>& own, variable<T, S, Context> const& x) {
    if (!x.wants_gradient()) return;
    r.arrived.push_back([own = detail::cell_reference<T, false>(&own), x] {
      auto const target = x.add_gradient();
      copy_blocks(x.context().device(), 1, x.size(), static_cast<T const*>(own->gradient), x.size(), target.data, x.size(),
                  target.accumulate);
    });
  }

  /// A branch that runs backwards, to its end whatever happens.
  struct backward_scope {
    Context& left;
    record& r;

    backward_scope(Context& of, record& branch) : left(of), r(branch) {
      left.device().begin_branch();
      detail::branch_at_work = {left.device().queue, device::await_branch, left.device().next_branch_mark()};
    }
    backward_scope(backward_scope const&) = delete;
    backward_scope& operator=(backward_scope const&) = delete;
    ~backward_scope() {
      detail::branch_at_work = {};
      try {
        left.keep_for_branch(r.arrived);  // the gradients that were read
        left.branch_ended(left.device().end_branch());
      } catch (error const&) {  // the device is lost, which the next call to it tells
      }
    }
  };

  static void run_backward(Context& left, record& r) {
    backward_scope const scope(left, r);
    for (auto const& add : r.arrived) add();
    left.aside().run_down_to(r.first);
  }

  Context* left_;
  Context* in_;
  std::shared_ptr<record> record_;
  std::size_t mark_ = 0;  // of its end, once it has been closed
};

}  // namespace dvla::inline DVLA_ABI
