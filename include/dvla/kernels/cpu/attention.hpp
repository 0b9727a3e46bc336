// Attention forward, o = softmax(scale q k^T) v for every head: a few rows of scores at a time, which never leave the
// first-level cache.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include <dvla/core/parallel.hpp>
#include <dvla/core/simd.hpp>
#include <dvla/kernels/cpu/attention_tile.hpp>
#include <dvla/kernels/cpu/exp.hpp>
#include <dvla/kernels/cpu/workspace.hpp>
#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace head_product {

/// Replaces the first `keys` scores of a row of `width` by exp(score - max), the rest by 0; returns max and sum.
template <class T>
DVLA_INLINE std::pair<T, T> exponentiate_row(std::size_t keys, std::size_t width, T* scores) {
  constexpr T infinity = std::numeric_limits<T>::infinity();
  for (std::size_t j = keys; j < width; ++j) scores[j] = -infinity;
  batch<T> largest = simd::load(scores);
  for (std::size_t j = lanes<T>; j < width; j += lanes<T>) largest = xsimd::max(largest, simd::load(scores + j));
  T const top = simd::reduce_max(largest);
  batch<T> sum(T(0));
  for (std::size_t j = 0; j < width; j += lanes<T>) {
    batch<T> const e = exp_bounded(simd::load(scores + j) - batch<T>(top));
    simd::store(scores + j, e);
    sum += e;
  }
  return {top, simd::reduce_add(sum)};
}

/// One head: k^T and v are packed in `keys_t` and `values`; scores and result hold tile_rows rows. Hidden scores are computed as well,
/// and left aside: a tile of rows has one shape.
template <attention_mask Mask, class T>
void attend(attention_shape const& shape, T const* q, std::size_t q_row, T const* keys_t, T const* values, T* scores, T* result,
            T* o, std::size_t o_row, T* lse) {
  std::size_t const width = padded<T>(shape.keys), out_width = padded<T>(shape.head_dim);
  split_evenly(shape.queries, tile_rows, [&](std::size_t first, std::size_t last) {
    std::size_t const rows = last - first;
    multiply<T>(rows, shape.keys, {shape.head_dim, q + first * q_row, q_row, 1, keys_t, scores, width, false});
    T inverse[tile_rows];
    for (std::size_t i = 0; i < rows; ++i) {
      auto const [top, sum] = exponentiate_row(visible_keys<Mask>(shape.keys, first + i), width, scores + i * width);
      inverse[i] = T(1) / sum;
      if (lse != nullptr) lse[first + i] = top + std::log(sum);
    }
    multiply<T>(rows, shape.head_dim, {shape.keys, scores, width, 1, values, result, out_width, false});
    for (std::size_t i = 0; i < rows; ++i)
      put_row(shape.head_dim, result + i * out_width, inverse[i], o + (first + i) * o_row, false);
  });
}

/// Every head of every image.
template <attention_mask Mask, class T>
void forward(cpu const& device, attention_shape const& shape, T scale, attention_operand<T const> q, attention_operand<T const> k,
             attention_operand<T const> v, attention_operand<T> o, T* lse) {
  std::size_t const width = padded<T>(shape.keys), out_width = padded<T>(shape.head_dim);
  parallel_for(device.pool, shape.batch * shape.heads, heads_per_task(shape), [&](std::size_t begin, std::size_t end) {
    detail::scratch<T> const memory(width * shape.head_dim + shape.keys * out_width + tile_rows * (width + out_width));
    T* const keys_t = memory.data();
    T* const values = keys_t + width * shape.head_dim;
    T* const scores = values + shape.keys * out_width;
    T* const result = scores + tile_rows * width;
    for (std::size_t i = begin; i < end; ++i) {
      std::size_t const image = i / shape.heads, head = i % shape.heads;
      pack_transposed(shape.head_dim, shape.keys, k.at(image, head), k.strides.token, scale, keys_t);
      pack(shape.keys, shape.head_dim, v.at(image, head), v.strides.token, values);
      attend<Mask>(shape, q.at(image, head), q.strides.token, keys_t, values, scores, result, o.at(image, head), o.strides.token,
             lse == nullptr ? nullptr : lse + i * shape.queries);
    }
  });
}

}  // namespace head_product

/// o = softmax(scale q k^T) v per head, for q [batch, heads, queries, head_dim] and k, v [batch, heads, keys, head_dim] at the
/// strides of each operand. lse [batch, heads, queries], null or kept for the backward pass, is the log sum exp of a row's
/// scaled scores. Any lengths; scratch is two copies of a head's keys.
template <class T>
void attention_forward(cpu const& device, attention_shape const& shape, T scale, attention_operand<T const> q,
                       attention_operand<T const> k, attention_operand<T const> v, attention_operand<T> o, T* lse) {
  head_product::forward<attention_mask::none>(device, shape, scale, q, k, v, o, lse);
}

/// The same where query i sees keys 0 .. i alone; there are as many keys as queries.
template <class T>
void causal_attention_forward(cpu const& device, attention_shape const& shape, T scale, attention_operand<T const> q,
                              attention_operand<T const> k, attention_operand<T const> v, attention_operand<T> o, T* lse) {
  head_product::forward<attention_mask::causal>(device, shape, scale, q, k, v, o, lse);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
