// Attention backward. The scores are recomputed from q, k and the rows' log sum exp, a block of queries at a time
// (Dao, FlashAttention-2, arXiv 2307.08691, section 3.1.2); k and v gradients gather in scratch over the blocks.
#pragma once

#include <cstddef>
#include <limits>

#include <dvla/core/parallel.hpp>
#include <dvla/core/simd.hpp>
#include <dvla/kernels/cpu/attention_tile.hpp>
#include <dvla/kernels/cpu/exp.hpp>
#include <dvla/kernels/cpu/row_loop.hpp>
#include <dvla/kernels/cpu/workspace.hpp>
#include <dvla/kernels/device.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace head_product {

// Queries of a block: enough that the products over a block's queries are worth loading k's and v's gradients for.
inline constexpr std::size_t block_queries = 66;

/// One head of an operand: its first element and the distance of its tokens.
template <class T>
struct head_rows {
  T* data;
  std::size_t row;
};

template <class T>
head_rows<T> rows_of(attention_operand<T> const& operand, std::size_t image, std::size_t head) {
  return {operand.at(image, head), operand.strides.token};
}

/// Scratch of one head's backward pass.
template <class T>
struct backward_scratch {
  explicit backward_scratch(attention_shape const& s)
      : width(padded<T>(s.keys)),
        depth(padded<T>(s.head_dim)),
        memory(2 * width * s.head_dim + 3 * s.keys * depth + block_queries * (2 * width + 3 * depth)),
        keys_t(memory.data()),
        values_t(keys_t + width * s.head_dim),
        keys(values_t + width * s.head_dim),
        d_keys(keys + s.keys * depth),
        d_values(d_keys + s.keys * depth),
        weights(d_values + s.keys * depth),
        d_scores(weights + block_queries * width),
        queries(d_scores + block_queries * width),
        d_outputs(queries + block_queries * depth),
        d_queries(d_outputs + block_queries * depth) {}

  std::size_t width, depth;  // of a row of scores, of a row of head_dim
  detail::scratch<T> memory;
  T *keys_t, *values_t, *keys;         // packed
  T *d_keys, *d_values;                // [keys, depth]
  T *weights, *d_scores;               // [block, width]
  T *queries, *d_outputs, *d_queries;  // packed, packed, [block, depth]
};

template <class T>
DVLA_INLINE T dot(std::size_t n, T const* a, T const* b) {
  batch<T> sum(T(0));
  over_lanes<T>(0, n, [&](std::size_t i, auto used) { sum = xsimd::fma(read(a + i, used), read(b + i, used), sum); });
  return simd::reduce_add(sum);
}

/// p = exp(s - lse) and ds = p (dp - delta), where s and dp lie on entry; delta = do . o of the row. Both are 0 for keys that a masked
/// query does not see.
template <attention_mask Mask, class T>
DVLA_INLINE void score_gradient_row(std::size_t visible, std::size_t width, T lse, T delta, T* weights, T* d_scores) {
  if constexpr (Mask != attention_mask::none) {
    for (std::size_t j = visible; j < width; ++j) weights[j] = -std::numeric_limits<T>::infinity(), d_scores[j] = T(0);
  }
  for (std::size_t j = 0; j < width; j += lanes<T>) {
    batch<T> const p = exp_bounded(simd::load(weights + j) - batch<T>(lse));
    simd::store(weights + j, p);
    simd::store(d_scores + j, p * (simd::load(d_scores + j) - batch<T>(delta)));
  }
}

/// The gradients of one head.
template <attention_mask Mask, class T>
void attend_backward(attention_shape const& shape, T scale, head_rows<T const> q, head_rows<T const> k, head_rows<T const> v,
                     head_rows<T const> o, T const* lse, head_rows<T const> d_o, head_rows<T> dq, head_rows<T> dk, head_rows<T> dv,
                     bool const (&accumulate)[3], backward_scratch<T>& s) {
  std::size_t const dim = shape.head_dim;
  pack_transposed(dim, shape.keys, k.data, k.row, scale, s.keys_t);
  pack_transposed(dim, shape.keys, v.data, v.row, T(1), s.values_t);
  if (dq.data != nullptr) pack(shape.keys, dim, k.data, k.row, s.keys);
  split_evenly(shape.queries, block_queries, [&](std::size_t first, std::size_t last) {
    std::size_t const rows = last - first;
    T const* const q_block = q.data + first * q.row;
    T const* const d_o_block = d_o.data + first * d_o.row;
    split_evenly(rows, tile_rows, [&](std::size_t top, std::size_t bottom) {
      T* const weights = s.weights + top * s.width;
      T* const d_scores = s.d_scores + top * s.width;
      multiply<T>(bottom - top, shape.keys, {dim, q_block + top * q.row, q.row, 1, s.keys_t, weights, s.width, false});
      multiply<T>(bottom - top, shape.keys, {dim, d_o_block + top * d_o.row, d_o.row, 1, s.values_t, d_scores, s.width, false});
      for (std::size_t i = top; i < bottom; ++i) {
        T const delta = dot(dim, d_o_block + i * d_o.row, o.data + (first + i) * o.row);
        score_gradient_row<Mask>(visible_keys<Mask>(shape.keys, first + i), s.width, lse[first + i], delta, s.weights + i * s.width,
                                 s.d_scores + i * s.width);
      }
    });
    if (dq.data != nullptr) {
      multiply<T>(rows, dim, {shape.keys, s.d_scores, s.width, 1, s.keys, s.d_queries, s.depth, false});
      for (std::size_t i = 0; i < rows; ++i)
        put_row(dim, s.d_queries + i * s.depth, scale, dq.data + (first + i) * dq.row, accumulate[0]);
    }
    if (dk.data != nullptr) {
      pack(rows, dim, q_block, q.row, s.queries);
      multiply<T>(shape.keys, dim, {rows, s.d_scores, 1, s.width, s.queries, s.d_keys, s.depth, first != 0});
    }
    if (dv.data != nullptr) {
      pack(rows, dim, d_o_block, d_o.row, s.d_outputs);
      multiply<T>(shape.keys, dim, {rows, s.weights, 1, s.width, s.d_outputs, s.d_values, s.depth, first != 0});
    }
  });
  for (std::size_t j = 0; dk.data != nullptr && j < shape.keys; ++j)
    put_row(dim, s.d_keys + j * s.depth, scale, dk.data + j * dk.row, accumulate[1]);
  for (std::size_t j = 0; dv.data != nullptr && j < shape.keys; ++j)
    put_row(dim, s.d_values + j * s.depth, T(1), dv.data + j * dv.row, accumulate[2]);
}

/// Every head of every image.
template <attention_mask Mask, class T>
void backward(cpu const& device, attention_shape const& shape, T scale, attention_operand<T const> q, attention_operand<T const> k,
              attention_operand<T const> v, attention_operand<T const> o, T const* lse, attention_operand<T const> d_o,
              attention_operand<T> dq, attention_operand<T> dk, attention_operand<T> dv, bool accumulate) {
  auto const shared = [](attention_operand<T> const& gradient) { return gradient.data != nullptr && gradient.strides.batch == 0; };
  auto const one_head = [&](std::size_t image, std::size_t head, backward_scratch<T>& memory) {
    auto const rows = [&](auto const& operand) { return rows_of(operand, image, head); };
    bool const add[3] = {accumulate || (image != 0 && shared(dq)), accumulate || (image != 0 && shared(dk)),
                         accumulate || (image != 0 && shared(dv))};
    attend_backward<Mask>(shape, scale, rows(q), rows(k), rows(v), rows(o), lse + (image * shape.heads + head) * shape.queries, rows(d_o),
                    rows(dq), rows(dk), rows(dv), add, memory);
  };
  if (shared(dq) || shared(dk) || shared(dv)) {  // a task owns a head and takes the images in order
    parallel_for(device.pool, shape.heads, 1, [&](std::size_t begin, std::size_t end) {
      backward_scratch<T> memory(shape);
      for (std::size_t head = begin; head < end; ++head)
        for (std::size_t image = 0; image < shape.batch; ++image) one_head(image, head, memory);
    });
  } else {
    parallel_for(device.pool, shape.batch * shape.heads, heads_per_task(shape), [&](std::size_t begin, std::size_t end) {
      backward_scratch<T> memory(shape);
      for (std::size_t i = begin; i < end; ++i) one_head(i / shape.heads, i % shape.heads, memory);
    });
  }
}

}  // namespace head_product

/// The gradients of attention_forward(), from its inputs, its result o with lse, and the result's gradient d_o. Each of dq,
/// dk, dv is overwritten, or added to (accumulate); one whose data is null is skipped. The gradient of an operand shared by
/// all images (batch stride 0) has batch stride 0 itself and receives the sum over the images, in their order.
/// Scratch is five copies of a head's keys and 2 x 66 rows of scores a thread.
template <class T>
void attention_backward(cpu const& device, attention_shape const& shape, T scale, attention_operand<T const> q,
                        attention_operand<T const> k, attention_operand<T const> v, attention_operand<T const> o, T const* lse,
                        attention_operand<T const> d_o, attention_operand<T> dq, attention_operand<T> dk, attention_operand<T> dv,
                        bool accumulate) {
  head_product::backward<attention_mask::none>(device, shape, scale, q, k, v, o, lse, d_o, dq, dk, dv, accumulate);
}

/// The same for causal_attention_forward().
template <class T>
void causal_attention_backward(cpu const& device, attention_shape const& shape, T scale, attention_operand<T const> q,
                               attention_operand<T const> k, attention_operand<T const> v, attention_operand<T const> o, T const* lse,
                               attention_operand<T const> d_o, attention_operand<T> dq, attention_operand<T> dk, attention_operand<T> dv,
                               bool accumulate) {
  head_product::backward<attention_mask::causal>(device, shape, scale, q, k, v, o, lse, d_o, dq, dk, dv, accumulate);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
