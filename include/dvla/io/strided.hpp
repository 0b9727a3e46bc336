// A strided view of stored elements, copied into C order.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI::detail {

/// Strides of Fortran order, in elements: 1 for the first axis.
inline std::vector<std::size_t> fortran_order_strides(std::span<std::size_t const> shape) {
  std::vector<std::size_t> strides(shape.size(), 1);
  for (std::size_t i = 1; i < shape.size(); ++i) strides[i] = strides[i - 1] * shape[i - 1];
  return strides;
}

/// Whether these strides, in elements, are those of C order wherever an axis has more than one element.
inline bool is_c_order(std::span<std::size_t const> shape, std::span<std::size_t const> strides) {
  std::size_t expected = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

/// The elements of the view in C order. The caller has checked that every element lies in storage; none may be empty.
inline std::vector<std::byte> copy_to_c_order(std::byte const* storage, std::span<std::size_t const> shape,
                                              std::span<std::size_t const> strides, std::size_t count, std::size_t element_size) {
  std::vector<std::byte> out(count * element_size);
  std::vector<std::size_t> extents, steps;  // of the axes along which one goes: those of extent 1 would only be visited for each element
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    if (shape[axis] != 1) extents.push_back(shape[axis]), steps.push_back(strides[axis]);
  std::vector<std::size_t> index(extents.size(), 0);
  std::size_t from = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::memcpy(out.data() + i * element_size, storage + from * element_size, element_size);
    for (std::size_t axis = extents.size(); axis-- > 0;) {
      from += steps[axis];
      if (++index[axis] < extents[axis]) break;
      from -= steps[axis] * extents[axis];
      index[axis] = 0;
    }
  }
  return out;
}

}  // namespace dvla::inline DVLA_ABI::detail
