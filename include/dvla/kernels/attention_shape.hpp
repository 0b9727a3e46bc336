// What attention is computed over: sizes, and where the heads of an operand lie in memory.
#pragma once

#include <cstddef>

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {

/// Which keys a query sees: all, or those up to its own place (a text read from left to right).
enum class attention_mask { none, causal };

namespace kernels {

/// Heads of `queries` rows that attend to `keys` rows, head by head of every image.
struct attention_shape {
  std::size_t batch, heads, queries, keys, head_dim;
};

/// Distances in elements; head_dim is contiguous. They fit a packed projection [batch, token, 3, head, head_dim] as well as
/// separate tensors; batch = 0 shares one operand among all images.
struct attention_strides {
  std::size_t batch, head, token;
};

template <class T>
struct attention_operand {
  T* data;
  attention_strides strides;

  [[nodiscard]] T* at(std::size_t image, std::size_t head) const {
    return data == nullptr ? nullptr : data + image * strides.batch + head * strides.head;
  }
};

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
