// Residual branches that are dropped at random in training (stochastic depth, Huang et al., arXiv 1603.09382).
#pragma once

#include <dvla/autodiff/matmul_epilogue.hpp>
#include <dvla/kernels/cpu/random.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

/// (samples, 1, 1, ...) of a given rank: broadcasts over everything but the batch.
template <std::size_t Rank>
[[nodiscard]] auto one_a_sample(std::size_t samples) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return shape<dyn, (I * 0 + 1)...>(samples);
  }(std::make_index_sequence<Rank - 1>{});
}

}  // namespace detail

namespace nn {

/// x + branch; in training each sample of the branch is dropped with probability `rate` and divided by 1 - rate otherwise. The
/// branch is join(epilogue): what computes it takes the expression that completes it, x + accumulator or x + accumulator * kept.
template <class X, class Join>
[[nodiscard]] X residual(X const& x, double rate, Join const& join) {
  using T = arithmetic_t<typename X::value_type>;
  auto& context = x.context();
  if (!context.training() || rate <= 0) return join(x + accumulator);
  expect(rate < 1, "drop-path: a rate of ", rate, " would drop every branch; give one below 1");
  auto kept = make_variable<T>(context, detail::one_a_sample<X::rank>(x.shape()[0]));
  drop_samples(context.device(), x.shape()[0], rate, context.next_stream(draw::drop_path), kept.data_pointer(),
               context.share());
  return join(x + accumulator * kept);
}

/// The same of a branch that has been computed.
template <class X, class Branch>
[[nodiscard]] auto residual(X const& x, Branch const& branch, double rate) {
  return residual(x, rate, [&](auto const& epilogue) { return evaluate(detail::substitute(epilogue, branch)); });
}

}  // namespace nn
}  // namespace dvla::inline DVLA_ABI
