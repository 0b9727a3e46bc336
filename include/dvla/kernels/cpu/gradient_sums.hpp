// Gradients of broadcast leaves on the CPU: partial sums of each chunk of the loop, added up in order afterwards.
#pragma once

#include <utility>

#include <dvla/kernels/cpu/elementwise.hpp>
#include <dvla/kernels/cpu/memory.hpp>
#include <dvla/kernels/cpu/reduce.hpp>
#include <dvla/kernels/gradient_sums.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

template <class Context, class T, std::size_t R, std::size_t Leaves>
class gradient_sums<Context, cpu, T, R, Leaves> {
 public:
  gradient_sums(Context& context, std::array<std::size_t, R> const& extents)
      : context_(context), extents_(extents), chunks_(extents, most_chunks), copies_(std::max<std::size_t>(chunks_.count, 1)) {}

  template <bound::inner Walk>
  static constexpr bound::inner walk = Walk;

  template <class Target>
  [[nodiscard]] gradient_collector<T, R> open(std::array<std::ptrdiff_t, R> const& strides, std::size_t count, Target target) {
    auto& p = partials_[opened_++];
    p.count = count;
    p.total = target.data;
    // The sum comes last, and another leaf of this loop may write to the same gradient before: it starts at zero.
    if (!target.accumulate) fill(context_.device(), count, target.data, T(0));
    p.memory = static_cast<T*>(context_.memory().allocate(copies_ * count * sizeof(T)));
    fill(context_.device(), copies_ * count, p.memory, T(0));
    return {p.memory, strides, bound::sink::add};
  }

  template <class Expression, class Adjoint>
  void run(Expression const& expression, Adjoint const& adjoint) {
    evaluate_backward<T>(context_.device(), extents_, chunks_, expression, adjoint,
                         [&](std::size_t chunk, auto& e) { move_to_chunk(e, chunk); });
  }

  void finish() {
    for (std::size_t i = 0; i < opened_; ++i) {
      auto const& p = partials_[i];
      column_sum(context_.device(), copies_, p.count, static_cast<T const*>(p.memory), p.total, true);
      context_.memory().release(p.memory, copies_ * p.count * sizeof(T));
    }
  }

 private:
  static constexpr std::size_t most_chunks = 16;  // partial sums of a leaf; fixed, so the order of addition is too

  struct partial_sums {
    T* total = nullptr;
    T* memory = nullptr;
    std::size_t count = 0;
  };

  /// Points the sinks of broadcast leaves to a chunk's own partial sums.
  template <class E>
  void move_to_chunk(E& e, std::size_t chunk) const {
    if constexpr (requires { e.children; }) {
      dvla::detail::for_each(e.children, [&](auto& child) { move_to_chunk(child, chunk); });
    } else if constexpr (requires { e.gradient; }) {
      for (std::size_t i = 0; i < opened_; ++i)
        if (e.gradient.data == partials_[i].memory) {
          e.gradient.data += chunk * partials_[i].count;
          break;
        }
    }
  }

  Context& context_;
  std::array<std::size_t, R> extents_;
  loop_chunks chunks_;
  std::size_t copies_, opened_ = 0;
  std::array<partial_sums, Leaves> partials_{};
};

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
