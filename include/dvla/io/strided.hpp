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
  std::vector<std::size_t> index(shape.size(), 0);
  std::size_t from = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::memcpy(out.data() + i * element_size, storage + from * element_size, element_size);
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      from += strides[axis];
      if (++index[axis] < shape[axis]) break;
      from -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return out;
}

}  // namespace dvla::inline DVLA_ABI::detail
