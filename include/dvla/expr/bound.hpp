// A bound expression: pointers and strides for one output shape, trivially copyable, ready for a loop or a kernel. Forward
// it computes a value from position j of a row; backward each node passes its adjoint to its children in the same pass.
//
// `Lanes` says what a value is: a SIMD batch, its tail, or a single number in a GPU thread (kernels/<device>/lanes.hpp).
#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/expr/pack.hpp>

namespace dvla::inline DVLA_ABI {
namespace bound {

/// How a leaf walks along the innermost axis.
enum class inner { unit, constant, any };

/// The value of a node and of everything below it, kept for the backward pass of the same element.
template <class V, class... Below>
struct frame {
  V value;
  detail::pack<Below...> below;
};
template <class V>
struct frame<V> {
  V value;
};

/// A number.
template <class T>
struct constant {
  static constexpr bool tracked = false;
  T value;

  template <std::size_t R>
  DVLA_HD void seek(std::array<std::size_t, R> const&) {}
  template <class Lanes>
  DVLA_HD DVLA_INLINE auto forward(Lanes const& lanes, std::size_t) const {
    return frame<typename Lanes::value_type>{lanes.broadcast(value)};
  }
  template <class Lanes, class Frame, class V>
  DVLA_HD DVLA_INLINE void backward(Lanes const&, std::size_t, Frame const&, V) {}
};

/// Elements in memory; Rank is the rank of the loop, strides of broadcast axes are 0.
template <class T, inner Walk, std::size_t Rank>
struct elements {
  static constexpr bool tracked = false;
  T const* data;
  std::array<std::ptrdiff_t, Rank> strides;
  T const* row = nullptr;

  DVLA_HD void seek(std::array<std::size_t, Rank> const& at) {
    std::ptrdiff_t offset = 0;
    for (std::size_t i = 0; i < Rank; ++i) offset += static_cast<std::ptrdiff_t>(at[i]) * strides[i];
    row = data + offset;
  }

  template <class Lanes>
  DVLA_HD DVLA_INLINE auto load(Lanes const& lanes, std::size_t j) const {
    if constexpr (Walk == inner::unit) return lanes.load(row + j);
    else if constexpr (Walk == inner::constant) return lanes.broadcast(static_cast<arithmetic_t<T>>(*row));
    else return lanes.gather(row + static_cast<std::ptrdiff_t>(j) * strides[Rank - 1], strides[Rank - 1]);
  }
  template <class Lanes>
  DVLA_HD DVLA_INLINE auto forward(Lanes const& lanes, std::size_t j) const {
    return frame<typename Lanes::value_type>{load(lanes, j)};
  }
  template <class Lanes, class Frame, class V>
  DVLA_HD DVLA_INLINE void backward(Lanes const&, std::size_t, Frame const&, V) {}
};

/// One number for each `rows` consecutive rows of a matrix.
template <class T>
struct grouped_rows {
  static constexpr bool tracked = false;
  T const* data;
  std::size_t rows;
  T const* row = nullptr;

  template <std::size_t R>
  DVLA_HD void seek(std::array<std::size_t, R> const& at) {
    row = data + at[0] / rows;
  }
  template <class Lanes>
  DVLA_HD DVLA_INLINE auto forward(Lanes const& lanes, std::size_t) const {
    return frame<typename Lanes::value_type>{lanes.broadcast(static_cast<arithmetic_t<T>>(*row))};
  }
};

/// Where an expression's value goes.
template <class T, inner Walk, std::size_t Rank>
struct target {
  T* data = nullptr;
  std::array<std::ptrdiff_t, Rank> strides{};
  T* row = nullptr;

  DVLA_HD void seek(std::array<std::size_t, Rank> const& at) {
    std::ptrdiff_t offset = 0;
    for (std::size_t i = 0; i < Rank; ++i) offset += static_cast<std::ptrdiff_t>(at[i]) * strides[i];
    row = data + offset;
  }
  template <class Lanes, class V>
  DVLA_HD DVLA_INLINE void write(Lanes const& lanes, std::size_t j, V value) const {
    if constexpr (Walk == inner::unit) lanes.store(row + j, value);
    else lanes.store(row + static_cast<std::ptrdiff_t>(j) * strides[Rank - 1], value, strides[Rank - 1]);
  }
};

/// Where a leaf's adjoint goes.
enum class sink : unsigned char {
  none,   // nobody wants it
  write,  // first contribution to a gradient of the loop's own shape
  add     // a further contribution, or a broadcast leaf's partial sum
};

/// A leaf with a gradient. Loads only if Value: an adjoint that does not need the value does not read it. The gradient has
/// an element type, a walk and strides of its own: a device may collect a broadcast leaf's contributions elsewhere.
template <class T, inner Walk, class G, inner GradientWalk, std::size_t Rank, bool Value>
struct tracked_elements {
  static constexpr bool tracked = true;
  elements<T, Walk, Rank> values;
  target<G, GradientWalk, Rank> gradient{};
  sink into = sink::none;

  DVLA_HD void seek(std::array<std::size_t, Rank> const& at) {
    if constexpr (Value) values.seek(at);
    if (into != sink::none) gradient.seek(at);  // else there is no gradient to point into
  }

  template <class Lanes>
  DVLA_HD DVLA_INLINE auto forward(Lanes const& lanes, std::size_t j) const {
    if constexpr (Value) return values.forward(lanes, j);
    else return frame<typename Lanes::value_type>{lanes.broadcast(arithmetic_t<T>(0))};
  }
  template <class Lanes, class Frame, class V>
  DVLA_HD DVLA_INLINE void backward(Lanes const& lanes, std::size_t j, Frame const&, V adjoint) {
    if (into == sink::none) return;
    if constexpr (GradientWalk == inner::constant) {
      *gradient.row += lanes.sum(adjoint);
    } else {
      if (into == sink::write) lanes.store(gradient.row + j, adjoint);
      else lanes.store(gradient.row + j, lanes.load(gradient.row + j) + adjoint);
    }
  }
};

/// An operation on bound sub-expressions.
template <class Op, class... Children>
struct operation {
  static constexpr bool tracked = (Children::tracked || ...);
  detail::pack<Children...> children;

  template <std::size_t R>
  DVLA_HD void seek(std::array<std::size_t, R> const& at) {
    detail::for_each(children, [&](auto& child) { child.seek(at); });
  }

  template <class Lanes>
  DVLA_HD DVLA_INLINE auto forward(Lanes const& lanes, std::size_t j) const {
    return forward(lanes, j, std::index_sequence_for<Children...>{});
  }

  template <class Lanes, class Frame, class V>
  DVLA_HD DVLA_INLINE void backward(Lanes const& lanes, std::size_t j, Frame const& f, V adjoint) {
    backward(lanes, j, f, adjoint, std::index_sequence_for<Children...>{});
  }

 private:
  template <class Lanes, std::size_t... I>
  DVLA_HD DVLA_INLINE auto forward(Lanes const& lanes, std::size_t j, std::index_sequence<I...>) const {
    detail::pack<decltype(detail::get<I>(children).forward(lanes, j))...> below{detail::get<I>(children).forward(lanes, j)...};
    auto const value = Op::apply(detail::get<I>(below).value...);
    return frame<typename Lanes::value_type, decltype(detail::get<I>(children).forward(lanes, j))...>{value, below};
  }

  template <class Lanes, class Frame, class V, std::size_t... I>
  DVLA_HD DVLA_INLINE void backward(Lanes const& lanes, std::size_t j, Frame const& f, V adjoint, std::index_sequence<I...> all) {
    (pass<I>(lanes, j, f, adjoint, all), ...);
  }

  template <std::size_t To, class Lanes, class Frame, class V, std::size_t... I>
  DVLA_HD DVLA_INLINE void pass(Lanes const& lanes, std::size_t j, Frame const& f, V adjoint, std::index_sequence<I...>) {
    auto& child = detail::get<To>(children);
    if constexpr (std::remove_reference_t<decltype(child)>::tracked)
      child.backward(lanes, j, detail::get<To>(f.below),
                     Op::template derivative<To>(adjoint, f.value, detail::get<I>(f.below).value...));
  }
};

}  // namespace bound
}  // namespace dvla::inline DVLA_ABI
