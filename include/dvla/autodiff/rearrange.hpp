// Operations that move elements: slices, concatenation, rows by index. Results are copies; gradients flow back in place.
#pragma once

#include <array>
#include <span>
#include <tuple>

#include <dvla/autodiff/operand.hpp>

namespace dvla::inline DVLA_ABI {
namespace op {
struct concatenate {};
}  // namespace op

namespace detail {

/// Elements before and after an axis.
template <class S>
[[nodiscard]] std::pair<std::size_t, std::size_t> around_axis(S const& s, std::size_t axis) {
  std::size_t outer = 1, inner = 1;
  for (std::size_t i = 0; i < axis; ++i) outer *= s[i];
  for (std::size_t i = axis + 1; i < S::rank; ++i) inner *= s[i];
  return {outer, inner};
}

/// Two shapes that agree everywhere but at Axis.
template <class A, class B, std::size_t Axis>
[[nodiscard]] constexpr bool fit_but_at() {
  if constexpr (A::rank != B::rank) return false;
  for (std::size_t i = 0; i < A::rank; ++i)
    if (i != Axis && !may_equal(A::statics[i], B::statics[i])) return false;
  return true;
}

}  // namespace detail

/// Elements [begin, begin + count) of an axis, as a new tensor. Count may be in the type.
template <std::size_t Axis, std::size_t Count = dyn, detail::differentiable X>
[[nodiscard]] auto slice(X const& input_x, std::size_t begin, std::size_t count = Count) {
  auto const x = detail::input(input_x);
  using S = typename std::remove_cvref_t<decltype(x)>::shape_type;
  using T = typename std::remove_cvref_t<decltype(x)>::value_type;
  static_assert(Axis < S::rank, "slice: the tensor has no such axis");
  auto const& s = x.shape();
  expect(begin <= s[Axis] && count <= s[Axis] - begin, "slice: elements ", begin, " to ", begin + count, " of axis ", Axis,
         " were asked for, but the shape is ", s);
  auto extents = s.extents();
  extents[Axis] = count;
  auto const [outer, inner] = detail::around_axis(s, Axis);
  std::size_t const block = count * inner, step = s[Axis] * inner, offset = begin * inner;
  auto& context = x.context();
  auto y = make_variable<T>(context, detail::make_shape<replace_extent<S, Axis, Count>>(extents));
  copy_blocks(context.device(), outer, block, static_cast<T const*>(x.data_pointer()) + offset, step, y.data_pointer(), block, false);
  if (recorded(context, x)) {
    if constexpr (std::remove_reference_t<decltype(context)>::records)
      context.record(y.cell(), [&context, outer = outer, block, step, offset, to = x.gradient_only()](T const* dy) {
        auto const dx = to.add_gradient();
        if (!dx.accumulate) fill(context.device(), to.size(), dx.data, T(0));
        copy_blocks(context.device(), outer, block, dy, block, dx.data + offset, step, dx.accumulate);
      });
  }
  return y;
}

namespace detail {

/// Copies parts of `blocks` elements a row out of rows that hold them side by side, to where each of `to` wants its gradient.
template <class T, class Context, std::size_t N, class... To>
void split_gradient(Context& context, std::size_t outer, std::array<std::size_t, N> const& blocks, std::size_t step, T const* dy,
                    To const&... to) {
  std::size_t at = 0, part = 0;
  auto const hand_on = [&](auto const& target) {
    std::size_t const block = blocks[part++];
    if (auto const d = target.add_gradient()) copy_blocks(context.device(), outer, block, dy + at, step, d.data, block, d.accumulate);
    at += block;
  };
  (hand_on(to), ...);
}

}  // namespace detail

/// Two or more tensors side by side along an axis; their other extents must agree.
template <std::size_t Axis, detail::differentiable A, detail::differentiable... Others>
  requires(sizeof...(Others) > 0 && detail::one_element_type<A, Others...>)
[[nodiscard]] auto concatenate(A const& input_a, Others const&... inputs) {
  auto const joined = [&](auto const& a, auto const&... others) {
    using SA = typename std::remove_cvref_t<decltype(a)>::shape_type;
    using T = typename std::remove_cvref_t<decltype(a)>::value_type;
    static_assert((std::is_same_v<detail::element_of<Others>, T> && ...),
                  "concatenate mixes float and bfloat16 operands; bring one to the other's with convert<T>(x)");
    auto const fits = [&]<class SB>(SB const& b) {
      detail::require_fit<detail::fit_but_at<SA, SB, Axis>(), op::concatenate, SA, SB>();
      for (std::size_t i = 0; i < SA::rank; ++i)
        if (i != Axis) detail::expect_extent("concatenate", a.shape(), i, b, i);
      return b[Axis];
    };
    auto extents = a.shape().extents();
    extents[Axis] += (fits(others.shape()) + ...);
    constexpr std::size_t along[] = {SA::statics[Axis], std::remove_cvref_t<decltype(others)>::shape_type::statics[Axis]...};
    constexpr std::size_t all = [&] {
      std::size_t sum = 0;
      for (std::size_t const extent : along) {
        if (extent == dyn) return dyn;
        sum += extent;
      }
      return sum;
    }();
    auto const [outer, inner] = detail::around_axis(a.shape(), Axis);
    std::array const blocks{a.shape()[Axis] * inner, (others.shape()[Axis] * inner)...};
    std::size_t const step = extents[Axis] * inner;
    auto& context = detail::context_among(a, others...);
    auto y = make_variable<T>(context, detail::make_shape<replace_extent<SA, Axis, all>>(extents));
    std::size_t at = 0, part = 0;
    auto const put = [&, outer = outer](T const* from) {
      std::size_t const block = blocks[part++];
      copy_blocks(context.device(), outer, block, from, block, y.data_pointer() + at, step, false);
      at += block;
    };
    put(a.data_pointer());
    (put(others.data_pointer()), ...);
    if (recorded(context, a, others...)) {
      if constexpr (std::remove_reference_t<decltype(context)>::records)
        context.record(y.cell(), [&context, outer = outer, blocks, step,
                                  to = std::tuple(a.gradient_only(), others.gradient_only()...)](T const* dy) {
          std::apply([&](auto const&... each) { detail::split_gradient(context, outer, blocks, step, dy, each...); }, to);
        });
    }
    return y;
  };
  return joined(detail::input(input_a), detail::input(inputs)...);
}

namespace detail {

/// Rows at positions on the device; `kept` holds on to their memory.
template <class X, class Kept>
[[nodiscard]] auto gather_at(X const& x, std::uint32_t const* positions, std::size_t count, Kept const& kept) {
  using S = typename X::shape_type;
  using T = typename X::value_type;
  auto extents = x.shape().extents();
  extents[0] = count;
  std::size_t const width = around_axis(x.shape(), 0).second;
  auto& context = x.context();
  auto y = make_variable<T>(context, make_shape<replace_extent<S, 0, dyn>>(extents));
  gather_rows(context.device(), count, width, positions, static_cast<T const*>(x.data_pointer()), y.data_pointer());
  if (recorded(context, x)) {
    if constexpr (std::remove_reference_t<decltype(context)>::records)
      context.record(y.cell(), [&context, width, count, positions, kept, to = x.gradient_only()](T const* dy) {
        static_cast<void>(kept);  // clang: a capture that only holds on to memory
        auto const dx = to.add_gradient();
        if (!dx.accumulate) fill(context.device(), to.size(), dx.data, T(0));
        scatter_add_rows(context.device(), count, width, positions, dy, dx.data);
      });
  }
  return y;
}

}  // namespace detail

/// The rows (slices of the first axis) at the given positions: (B, ...) -> (n, ...).
template <detail::differentiable X>
[[nodiscard]] auto gather(X const& input_x, std::span<std::uint32_t const> positions) {
  auto const x = detail::input(input_x);
  for (auto const p : positions) expect(p < x.shape()[0], "gather: row ", p, " of a tensor of shape ", x.shape());
  auto const index = upload_copy(x.context(), positions);
  return detail::gather_at(x, index.data_pointer(), index.size(), index);
}

/// The same with positions in the memory of the context's device, which must outlive the recording; they are not checked.
template <detail::differentiable X>
[[nodiscard]] auto gather(X const& input_x, std::uint32_t const* positions, std::size_t count) {
  return detail::gather_at(detail::input(input_x), positions, count, nullptr);
}

}  // namespace dvla::inline DVLA_ABI
