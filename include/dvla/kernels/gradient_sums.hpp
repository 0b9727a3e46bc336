// How the backward loop of an element-wise expression collects the gradients of broadcast leaves: each device has its way.
#pragma once

#include <array>
#include <cstddef>

#include <dvla/expr/bound.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// Where the loop puts the contributions to one broadcast leaf's gradient.
template <class T, std::size_t R>
struct gradient_collector {
  T* data = nullptr;
  std::array<std::ptrdiff_t, R> strides{};
  bound::sink into = bound::sink::none;
};

/// The collectors of one backward loop of rank R with at most Leaves broadcast leaves. A specialisation for each device has
///   gradient_sums(context, extents)
///   walk<W>                             how the loop walks along a collector whose leaf it walks along as W
///   open(leaf strides, count, target)   the collector of a leaf with `count` elements
///   run(expression, adjoint)            the loop
///   finish()                            adds what was collected to the gradients, in a fixed order
template <class Context, class Device, class T, std::size_t R, std::size_t Leaves>
class gradient_sums;

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
