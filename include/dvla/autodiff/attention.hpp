// Scaled dot-product attention (Vaswani et al., arXiv 1706.03762) as one node with its own backward pass, which recomputes
// the scores of one head at a time from the log-sum-exp of each row.
#pragma once

#include <dvla/autodiff/operand.hpp>
#include <dvla/kernels/cpu/attention.hpp>
#include <dvla/kernels/cpu/attention_backward.hpp>
#include <dvla/kernels/cpu/memory.hpp>

namespace dvla::inline DVLA_ABI {
namespace op {
struct attention {};
}  // namespace op

namespace detail {

/// The operand for a tensor (B, N, H, D), or (N, H, D) shared by the batch.
template <class T, class Source>
[[nodiscard]] kernels::attention_operand<T> head_operand(Source const& x, T* data) {
  constexpr std::size_t r = Source::shape_type::rank;
  auto const& s = x.shape();
  std::size_t const token = s[r - 2] * s[r - 1];
  return {data, {r == 4 ? s[r - 3] * token : 0, s[r - 1], token}};
}

/// The q, k or v part of a packed projection (B, N, 3, H, D).
template <class T, class S>
[[nodiscard]] kernels::attention_operand<T> packed_operand(S const& s, std::size_t part, T* data) {
  std::size_t const width = s[3] * s[4], token = 3 * width;
  return {data == nullptr ? nullptr : data + part * width, {s[1] * token, s[4], token}};
}

/// The kernels of a mask on a device, found by the device. One that has none for causal attention is named by the compiler: an
/// unmasked kernel in its place would compile and be wrong.
template <attention_mask Mask, class Device, class... Arguments>
void forward_attention(Device const& device, Arguments const&... arguments) {
  if constexpr (Mask == attention_mask::none) {
    attention_forward(device, arguments...);
  } else {
    constexpr bool exists = requires { causal_attention_forward(device, arguments...); };
    static_assert(exists, "causal attention has no kernel on this device; compute it on the CPU");
    if constexpr (exists) causal_attention_forward(device, arguments...);
  }
}
template <attention_mask Mask, class Device, class... Arguments>
void backward_attention(Device const& device, Arguments const&... arguments) {
  if constexpr (Mask == attention_mask::none) attention_backward(device, arguments...);
  else if constexpr (requires { causal_attention_backward(device, arguments...); }) causal_attention_backward(device, arguments...);
}

}  // namespace detail

/// softmax(scale q k^T) v head by head. q (B, Nq, H, D), k and v (B, Nk, H, D) give (B, Nq, H, D). An operand of shape
/// (N, H, D) is shared by all images. Scale 1/sqrt(D) is the usual one. attention<attention_mask::causal> hides from query i the keys
/// behind i; it takes as many keys as queries and is for the CPU.
template <attention_mask Mask = attention_mask::none, class Q, class K, class V>
  requires detail::one_element_type<Q, K, V>
[[nodiscard]] auto attention(Q const& queries, K const& keys, V const& values, double scale) {
  auto const q = detail::input(queries);
  auto const k = detail::input(keys);
  auto const v = detail::input(values);
  using SQ = typename std::remove_cvref_t<decltype(q)>::shape_type;
  using SK = typename std::remove_cvref_t<decltype(k)>::shape_type;
  using SV = typename std::remove_cvref_t<decltype(v)>::shape_type;
  using T = typename std::remove_cvref_t<decltype(q)>::value_type;
  static_assert(std::is_same_v<detail::element_of<K>, T> && std::is_same_v<detail::element_of<V>, T>,
                "attention mixes float and bfloat16 operands; bring one to the other's with convert<T>(x)");
  constexpr auto last = [](auto s, std::size_t back) { return decltype(s)::statics[decltype(s)::rank - back]; };
  static_assert((SQ::rank == 3 || SQ::rank == 4) && (SK::rank == 3 || SK::rank == 4) && SV::rank == SK::rank,
                "attention: operands are (B, N, heads, head_dim) or, shared by the batch, (N, heads, head_dim)");
  detail::require_fit<detail::may_equal(last(SQ{}, 1), last(SK{}, 1)) && detail::may_equal(last(SQ{}, 2), last(SK{}, 2)), op::attention, SQ,
                      SK>();
  detail::require_fit<detail::may_equal(last(SK{}, 1), last(SV{}, 1)) && detail::may_equal(last(SK{}, 2), last(SV{}, 2)) &&
                          detail::may_equal(last(SK{}, 3), last(SV{}, 3)), op::attention, SK, SV>();
  constexpr std::size_t rq = SQ::rank, rk = SK::rank;
  for (std::size_t back = 1; back <= 2; ++back) detail::expect_extent("attention", q.shape(), rq - back, k.shape(), rk - back);
  for (std::size_t back = 1; back <= rk; ++back) detail::expect_extent("attention", k.shape(), rk - back, v.shape(), rk - back);
  if constexpr (rq == 4 && rk == 4) detail::expect_extent("attention", q.shape(), 0, k.shape(), 0);
  std::size_t const batch = rq == 4 ? q.shape()[0] : rk == 4 ? k.shape()[0] : 1;
  kernels::attention_shape const sizes{batch, q.shape()[rq - 2], q.shape()[rq - 3], k.shape()[rk - 3], q.shape()[rq - 1]};
  if constexpr (Mask == attention_mask::causal) detail::expect_extent("causal attention", q.shape(), rq - 3, k.shape(), rk - 3);

  auto& context = detail::context_among(q, k, v);
  constexpr std::size_t static_batch = rq == 4 ? SQ::statics[0] : rk == 4 ? SK::statics[0] : 1;
  using result = shape<static_batch, SQ::statics[rq - 3], SQ::statics[rq - 2], SQ::statics[rq - 1]>;
  auto y = make_variable<T>(context, result(batch, sizes.queries, sizes.heads, sizes.head_dim));
  bool const keep = recorded(context, q, k, v);
  auto lse = make_variable<arithmetic_t<T>>(context, shape<dyn>(keep ? batch * sizes.heads * sizes.queries : 1));
  auto const factor = static_cast<arithmetic_t<T>>(scale);
  detail::forward_attention<Mask>(context.device(), sizes, factor, detail::head_operand<T const>(q, q.data_pointer()),
                    detail::head_operand<T const>(k, k.data_pointer()), detail::head_operand<T const>(v, v.data_pointer()),
                    detail::head_operand<T>(y, y.data_pointer()), keep ? lse.data_pointer() : nullptr);
  if constexpr (std::remove_reference_t<decltype(context)>::records) {
    if (keep)
      context.record(y.cell(), [&context, sizes, factor, q, k, v, y, lse](T const* dy) {
        auto const dq = q.add_gradient(), dk = k.add_gradient(), dv = v.add_gradient();
        for (auto const& [target, count] : {std::pair{dq, q.size()}, std::pair{dk, k.size()}, std::pair{dv, v.size()}})
          if (target && !target.accumulate) fill(context.device(), count, target.data, T(0));
        detail::backward_attention<Mask>(context.device(), sizes, factor, detail::head_operand<T const>(q, q.data_pointer()),
                           detail::head_operand<T const>(k, k.data_pointer()), detail::head_operand<T const>(v, v.data_pointer()),
                           detail::head_operand<T const>(y, y.data_pointer()), static_cast<arithmetic_t<T> const*>(lse.data_pointer()),
                           detail::head_operand<T const>(y, dy), detail::head_operand<T>(q, dq.data), detail::head_operand<T>(k, dk.data),
                           detail::head_operand<T>(v, dv.data), true);
      });
  }
  return y;
}

/// Self-attention of a packed projection (B, N, 3, H, D), parts in the order q, k, v: (B, N, H, D). The mask is attention()'s.
template <attention_mask Mask = attention_mask::none, class X>
[[nodiscard]] auto self_attention(X const& packed, double scale) {
  auto const x = detail::input(packed);
  using S = typename std::remove_cvref_t<decltype(x)>::shape_type;
  using T = typename std::remove_cvref_t<decltype(x)>::value_type;
  static_assert(S::rank == 5 && S::statics[2] == 3, "self_attention: the packed projection is (B, N, 3, heads, head_dim)");
  auto const& s = x.shape();
  kernels::attention_shape const sizes{s[0], s[3], s[1], s[1], s[4]};
  auto& context = x.context();
  auto y = make_variable<T>(context, shape<S::statics[0], S::statics[1], S::statics[3], S::statics[4]>(s[0], s[1], s[3], s[4]));
  bool const keep = recorded(context, x);
  auto lse = make_variable<arithmetic_t<T>>(context, shape<dyn>(keep ? s[0] * s[3] * s[1] : 1));
  auto const factor = static_cast<arithmetic_t<T>>(scale);
  T const* const data = x.data_pointer();
  detail::forward_attention<Mask>(context.device(), sizes, factor, detail::packed_operand(s, 0, data), detail::packed_operand(s, 1, data),
                    detail::packed_operand(s, 2, data), detail::head_operand<T>(y, y.data_pointer()),
                    keep ? lse.data_pointer() : nullptr);
  if constexpr (std::remove_reference_t<decltype(context)>::records) {
    if (keep)
      context.record(y.cell(), [&context, sizes, factor, x, y, lse](T const* dy) {
        auto const dx = x.add_gradient();
        auto const& extents = x.shape();
        T const* const values = x.data_pointer();
        detail::backward_attention<Mask>(context.device(), sizes, factor, detail::packed_operand(extents, 0, values),
                           detail::packed_operand(extents, 1, values), detail::packed_operand(extents, 2, values),
                           detail::head_operand<T const>(y, y.data_pointer()), static_cast<arithmetic_t<T> const*>(lse.data_pointer()),
                           detail::head_operand<T const>(y, dy), detail::packed_operand(extents, 0, dx.data),
                           detail::packed_operand(extents, 1, dx.data), detail::packed_operand(extents, 2, dx.data), dx.accumulate);
      });
  }
  return y;
}

}  // namespace dvla::inline DVLA_ABI
