// Gradients of broadcast leaves on the GPU: the loop writes a leaf's contributions in full, one an element of the loop, and sums
// over the broadcast axes follow. No two threads add to one number, and the order of addition is fixed.
#pragma once

#include <utility>

#include <dvla/kernels/cuda/axis.cuh>
#include <dvla/kernels/cuda/elementwise.cuh>
#include <dvla/kernels/gradient_sums.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

template <class Context, precision P, class T, std::size_t R, std::size_t Leaves>
class gradient_sums<Context, basic_cuda<P>, T, R, Leaves> {
 public:
  gradient_sums(Context& context, std::array<std::size_t, R> const& extents) : context_(context), extents_(extents) {}

  template <bound::inner>
  static constexpr bound::inner walk = bound::inner::unit;

  template <class Target>
  [[nodiscard]] gradient_collector<T, R> open(std::array<std::ptrdiff_t, R> const& strides, std::size_t, Target target) {
    auto& c = collected_[opened_++];
    c.contributions = static_cast<T*>(context_.memory().allocate(size() * sizeof(T)));
    c.total = target.data;
    c.accumulate = target.accumulate;
    c.narrow = !std::is_same_v<std::remove_pointer_t<decltype(target.data)>, T>;
    for (std::size_t i = 0; i < R; ++i) c.summed[i] = strides[i] == 0;
    std::array<std::ptrdiff_t, R> full{};
    std::ptrdiff_t step = 1;
    for (std::size_t i = R; i-- > 0; step *= static_cast<std::ptrdiff_t>(extents_[i])) full[i] = step;
    return {c.contributions, full, bound::sink::write};
  }

  template <class Expression, class Adjoint>
  void run(Expression const& expression, Adjoint const& adjoint) {
    evaluate_backward<T>(context_.device(), extents_, expression, adjoint);
  }

  void finish() {
    for (std::size_t i = 0; i < opened_; ++i) {
      if (collected_[i].narrow)
        add_up<bfloat16>(collected_[i]);
      else
        add_up<T>(collected_[i]);
      context_.memory().release(collected_[i].contributions, size() * sizeof(T));
    }
  }

 private:
  struct collected {
    T* contributions = nullptr;
    void* total = nullptr;
    bool accumulate = false, narrow = false;
    std::array<bool, R> summed{};
  };

  [[nodiscard]] std::size_t size() const {
    std::size_t product = 1;
    for (std::size_t const extent : extents_) product *= extent;
    return product;
  }

  /// Sums over one run of neighbouring broadcast axes after another, the last one into the gradient.
  template <class G>
  void add_up(collected const& c) {
    if (size() == 0) return;
    std::array<std::size_t, R> extents = extents_;
    T const* from = c.contributions;
    T* between = nullptr;
    std::size_t between_size = 0;
    for (;;) {
      std::size_t end = R;  // the innermost run of axes that are still to be summed: [begin, end)
      while (end > 0 && !(c.summed[end - 1] && extents[end - 1] > 1)) --end;
      std::size_t begin = end;
      while (begin > 0 && (c.summed[begin - 1] || extents[begin - 1] == 1)) --begin;
      std::size_t outer = 1, count = 1, inner = 1;
      for (std::size_t i = 0; i < R; ++i) (i < begin ? outer : i < end ? count : inner) *= extents[i];
      for (std::size_t i = begin; i < end; ++i) extents[i] = 1;
      bool last = true;
      for (std::size_t i = 0; i < R; ++i) last = last && !(c.summed[i] && extents[i] > 1);
      if (last) {
        axis_sum_into(context_.device(), outer, count, inner, from, T(1), static_cast<G*>(c.total), c.accumulate);
        if (between != nullptr) context_.memory().release(between, between_size);
        return;
      }
      std::size_t const next_size = outer * inner * sizeof(T);
      auto* const next = static_cast<T*>(context_.memory().allocate(next_size));
      axis_sum(context_.device(), outer, count, inner, from, T(1), next);
      if (between != nullptr) context_.memory().release(between, between_size);
      from = between = next;
      between_size = next_size;
    }
  }

  Context& context_;
  std::array<std::size_t, R> extents_;
  std::array<collected, Leaves> collected_{};
  std::size_t opened_ = 0;
};

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
