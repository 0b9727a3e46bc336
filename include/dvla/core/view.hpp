// Views: a pointer, a shape and a layout, by value. They own nothing and may be handed to a kernel as they are.
#pragma once

#include <dvla/core/bfloat16.hpp>
#include <dvla/core/shape.hpp>
#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {

/// Row-major without gaps: strides follow from the shape.
struct contiguous {};
/// Any strides, in elements; a stride may be 0 or negative.
struct strided {};

namespace detail {

template <class Layout, std::size_t Rank>
struct stride_storage {};
template <std::size_t Rank>
struct stride_storage<strided, Rank> {
  std::array<std::ptrdiff_t, Rank> strides{};
};

}  // namespace detail

/// A tensor's elements without ownership. T may be const.
template <class T, class S, class Layout = contiguous, class Device = cpu>
struct view : detail::stride_storage<Layout, S::rank> {
  using value_type = std::remove_const_t<T>;
  using shape_type = S;
  using layout_type = Layout;
  using device_type = Device;
  static constexpr std::size_t rank = S::rank;

  T* data = nullptr;
  [[no_unique_address]] S extents{};

  view() = default;
  view(T* memory, S const& s)
    requires std::is_same_v<Layout, contiguous>
      : data(memory), extents(s) {}
  view(T* memory, S const& s, std::array<std::ptrdiff_t, rank> const& strides_)
    requires std::is_same_v<Layout, strided>
      : detail::stride_storage<Layout, rank>{strides_}, data(memory), extents(s) {}

  /// A view of const elements from one of mutable elements.
  template <class U>
    requires(std::is_const_v<T> && std::is_same_v<U, value_type>)
  view(view<U, S, Layout, Device> const& other)  // NOLINT: const is added freely
      : detail::stride_storage<Layout, rank>(other), data(other.data), extents(other.extents) {}

  [[nodiscard]] S const& shape() const { return extents; }
  [[nodiscard]] std::size_t size() const { return extents.size(); }
  [[nodiscard]] T* data_pointer() const { return data; }

  /// Elements from one index of an axis to the next.
  [[nodiscard]] constexpr std::ptrdiff_t stride(std::size_t axis) const {
    if constexpr (std::is_same_v<Layout, strided>) {
      return this->strides[axis];
    } else {
      std::ptrdiff_t product = 1;
      for (std::size_t i = rank; i-- > axis + 1;) product *= static_cast<std::ptrdiff_t>(extents[i]);
      return product;
    }
  }

  template <class... I>
    requires(sizeof...(I) == rank)
  [[nodiscard]] T& operator()(I... index) const {
    std::array<std::size_t, rank> const at{static_cast<std::size_t>(index)...};
    std::ptrdiff_t offset = 0;
    for (std::size_t i = 0; i < rank; ++i) offset += static_cast<std::ptrdiff_t>(at[i]) * stride(i);
    return data[offset];
  }

  /// The i-th slice of the outermost axis.
  [[nodiscard]] auto operator[](std::size_t i) const
    requires(rank > 0)
  {
    view<T, drop_front<S>, Layout, Device> out;
    std::array<std::size_t, rank - 1> inner{};
    for (std::size_t k = 1; k < rank; ++k) inner[k - 1] = extents[k];
    out.data = data + static_cast<std::ptrdiff_t>(i) * stride(0);
    out.extents = detail::make_shape<drop_front<S>>(inner);
    if constexpr (std::is_same_v<Layout, strided>)
      for (std::size_t k = 1; k < rank; ++k) out.strides[k - 1] = this->strides[k];
    return out;
  }
};

namespace detail {

template <class S, class V>
view<std::remove_pointer_t<decltype(V::data)>, S, strided, typename V::device_type> as_strided(V const& v, S const& s) {
  view<std::remove_pointer_t<decltype(V::data)>, S, strided, typename V::device_type> out;
  out.data = v.data;
  out.extents = s;
  for (std::size_t i = 0; i < S::rank; ++i) out.strides[i] = v.stride(i);
  return out;
}

}  // namespace detail

/// Elements [begin, begin + count) of an axis; Count in the type where it is known, dyn otherwise.
template <std::size_t Axis, std::size_t Count = dyn, class T, class S, class L, class D>
[[nodiscard]] auto slice(view<T, S, L, D> const& v, std::size_t begin, std::size_t count = Count) {
  static_assert(Axis < S::rank, "slice: the tensor has no such axis");
  expect(begin <= v.extents[Axis] && count <= v.extents[Axis] - begin, "slice: elements ", begin, " to ", begin + count, " of axis ",
         Axis, " were asked for, but the shape is ", v.extents);
  using result = replace_extent<S, Axis, Count>;
  auto extents = v.extents.extents();
  extents[Axis] = count;
  auto const shape = detail::make_shape<result>(extents);
  if constexpr (Axis == 0) {
    view<T, result, L, D> out;
    out.extents = shape;
    if constexpr (std::is_same_v<L, strided>) out.strides = v.strides;
    out.data = v.data + static_cast<std::ptrdiff_t>(begin) * v.stride(0);
    return out;
  } else {
    auto out = detail::as_strided<result>(v, shape);
    out.data = v.data + static_cast<std::ptrdiff_t>(begin) * v.stride(Axis);
    return out;
  }
}

/// Axes in the given order: permute<2, 0, 1>(v)(i, j, k) is v(j, k, i). No copy.
template <std::size_t... Order, class T, class S, class L, class D>
[[nodiscard]] auto permute(view<T, S, L, D> const& v) {
  static_assert(sizeof...(Order) == S::rank && (0u | ... | (1u << Order)) == (1u << S::rank) - 1, "permute: name every axis once");
  view<T, shape<S::statics[Order]...>, strided, D> out;
  out.data = v.data;
  out.extents = detail::make_shape<shape<S::statics[Order]...>>({v.extents[Order]...});
  out.strides = {v.stride(Order)...};
  return out;
}

/// The last two axes swapped. No copy.
template <class T, class S, class L, class D>
[[nodiscard]] auto transpose(view<T, S, L, D> const& v) {
  static_assert(S::rank >= 2, "transpose: the tensor needs two axes");
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return permute<I..., S::rank - 1, S::rank - 2>(v);
  }(std::make_index_sequence<S::rank - 2>{});
}

/// The same elements in another shape. No copy; contiguous views only.
template <class S2, class T, class S, class D>
[[nodiscard]] view<T, S2, contiguous, D> reshape(view<T, S, contiguous, D> const& v, S2 const& extents = {}) {
  expect(extents.size() == v.size(), "reshape: ", v.extents, " has ", v.size(), " elements, ", extents,
         " would have ", extents.size());
  return {v.data, extents};
}

}  // namespace dvla::inline DVLA_ABI
