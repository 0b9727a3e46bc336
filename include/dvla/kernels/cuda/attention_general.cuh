// Attention on the GPU in plain arithmetic, for any shape and placement: square tiles of scores, one part of a tile a thread,
// on the way through shared memory. A block computes one tile's columns of the result, so rows may have any length.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/attention_tile.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>
#include <dvla/kernels/cuda/packet.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

inline constexpr int general_threads = 256;  // 16 x 16, a square of `part` x `part` scores each

/// One block's two operands of a product, each with the index that is summed over outside.
template <class T>
struct general_tile {
  using number = arithmetic_t<T>;
  static constexpr int part = static_cast<int>(16 / sizeof(number)), size = 16 * part, pitch = size + part;
  using scores = number[part][part];

  alignas(16) number left[size * pitch], right[size * pitch];

  [[nodiscard]] static __device__ int row() { return static_cast<int>(threadIdx.x / 16) * part; }
  [[nodiscard]] static __device__ int column() { return static_cast<int>(threadIdx.x % 16) * part; }

  /// c += left^T right over the first `depth` indices.
  __device__ DVLA_INLINE void multiply_add(scores& c, int depth) const {
#pragma unroll 4
    for (int i = 0; i < depth; ++i) {
      auto const a = load_packet<number, part>(left + i * pitch + row()),
                 b = load_packet<number, part>(right + i * pitch + column());
#pragma unroll
      for (int y = 0; y < part; ++y) {
#pragma unroll
        for (int x = 0; x < part; ++x) c[y][x] = std::fma(a.at[y], b.at[x], c[y][x]);
      }
    }
  }

  /// Rows from `first` on and columns from `begin` on of a head, zeros where it has none; one row an index, or one column.
  template <bool Transposed>
  static __device__ DVLA_INLINE void fetch(number* to, head_rows<T const> const& from, int first, int begin) {
    for (int i = static_cast<int>(threadIdx.x); i < size * size; i += general_threads) {
      int const row = i / size, column = i % size;
      bool const there = first + row < from.count && begin + column < from.dim;
      T const value = there ? from.data[static_cast<std::size_t>(first + row) * from.step + begin + column] : T(0);
      to[Transposed ? column * pitch + row : row * pitch + column] = static_cast<number>(value);
    }
  }

  /// c += rows columns^T for the tiles that begin at rows first_row and first_column. Leaves the block in step.
  __device__ DVLA_INLINE void add_products(scores& c, head_rows<T const> const& rows, int first_row,
                                           head_rows<T const> const& columns, int first_column) {
    for (int begin = 0; begin < rows.dim; begin += size) {
      fetch<true>(left, rows, first_row, begin);
      fetch<true>(right, columns, first_column, begin);
      __syncthreads();
      multiply_add(c, ::min(size, rows.dim - begin));
      __syncthreads();
    }
  }

  /// sums += weights terms, for the terms from `first` on and their elements from `begin` on. Leaves the block in step.
  __device__ DVLA_INLINE void add_weighted(scores& sums, scores const& weights, head_rows<T const> const& terms, int first,
                                           int begin) {
#pragma unroll
    for (int x = 0; x < part; ++x) {
      packet<number, part> one_column;
#pragma unroll
      for (int y = 0; y < part; ++y) one_column.at[y] = weights[y][x];
      store_packet(left + (column() + x) * pitch + row(), one_column);
    }
    fetch<false>(right, terms, first, begin);
    __syncthreads();
    multiply_add(sums, ::min(size, terms.count - first));
    __syncthreads();
  }
};

/// Which tile of which head a block computes: the columns of the result go fastest, then its rows.
struct general_place {
  unsigned image, head;
  std::size_t index;  // of the head among all images'
  int first, begin;   // row and column

  __device__ general_place(head_sizes const& sizes, int rows, int size) {
    unsigned const across = static_cast<unsigned>((sizes.dim + size - 1) / size),
                   down = static_cast<unsigned>((rows + size - 1) / size);
    begin = static_cast<int>(blockIdx.x % across) * size;
    first = static_cast<int>(blockIdx.x / across % down) * size;
    unsigned const of_all = blockIdx.x / across / down;
    index = of_all, image = of_all / sizes.heads, head = of_all % sizes.heads;
  }
};

/// Blocks of a launch over all tiles of results of `rows` rows.
template <class T>
[[nodiscard]] unsigned general_blocks(attention_shape const& shape, std::size_t rows) {
  constexpr std::size_t size = general_tile<T>::size;
  expect(rows <= 0x7FFFFF00u && shape.head_dim <= 0x7FFFFF00u, "CUDA: attention over ", rows, " rows is too long");
  return detail::blocks_of(shape.batch * shape.heads * ((rows + size - 1) / size) * ((shape.head_dim + size - 1) / size), 1);
}

/// Over the 16 threads that hold one row of a tile.
template <class N, class F>
[[nodiscard]] __device__ DVLA_INLINE N reduce_tile_row(N x, F f) {
#pragma unroll
  for (int distance = 1; distance < 16; distance *= 2) x = f(x, __shfl_xor_sync(~0u, x, distance));
  return x;
}

template <class T>
struct general_forward_arguments {
  attention_operand<T const> q, k, v;
  attention_operand<T> o;
  arithmetic_t<T>*lse, scale;  // lse may be null
  head_sizes sizes;
};

template <class T>
__global__ void __launch_bounds__(general_threads) general_forward_kernel(__grid_constant__ general_forward_arguments<T> const a) {
  detail::await_predecessors();
  using tile = general_tile<T>;
  using number = typename tile::number;
  constexpr int part = tile::part;
  __shared__ tile shared;
  general_place const at(a.sizes, a.sizes.queries, tile::size);
  auto const q = rows_of(a.q, at.image, at.head, a.sizes.queries, a.sizes.dim);
  auto const k = rows_of(a.k, at.image, at.head, a.sizes.keys, a.sizes.dim);
  auto const v = rows_of(a.v, at.image, at.head, a.sizes.keys, a.sizes.dim);
  number o[part][part] = {}, top[part], sum[part] = {};
  for (number& t : top) t = std::numeric_limits<number>::lowest();  // finite: even minus infinity has a distance from it

  for (int first = 0; first < k.count; first += tile::size) {
    number s[part][part] = {};
    shared.add_products(s, q, at.first, k, first);
#pragma unroll
    for (int y = 0; y < part; ++y) {
      number largest = top[y], total = 0;
#pragma unroll
      for (int x = 0; x < part; ++x) {
        s[y][x] = first + tile::column() + x < k.count ? a.scale * s[y][x] : -std::numeric_limits<number>::infinity();
        largest = std::fmax(largest, s[y][x]);
      }
      largest = reduce_tile_row(largest, [](number x, number z) { return std::fmax(x, z); });
      number const factor = std::exp(top[y] - largest);
      top[y] = largest;
#pragma unroll
      for (int x = 0; x < part; ++x) total += s[y][x] = std::exp(s[y][x] - largest), o[y][x] *= factor;
      sum[y] = sum[y] * factor + reduce_tile_row(total, [](number x, number z) { return x + z; });
    }
    shared.add_weighted(o, s, v, first, at.begin);
  }

  auto const to = rows_of(a.o, at.image, at.head, q.count, q.dim);
  for (int y = 0; y < part; ++y) {
    int const row = at.first + tile::row() + y;
    if (row >= q.count) break;
    if (a.lse != nullptr && at.begin == 0 && tile::column() == 0)
      a.lse[at.index * static_cast<std::size_t>(q.count) + row] = top[y] + std::log(sum[y]);
    for (int x = 0; x < part; ++x)
      if (int const column = at.begin + tile::column() + x; column < q.dim)
        to.data[static_cast<std::size_t>(row) * to.step + column] = static_cast<T>(o[y][x] / sum[y]);
  }
}

template <class T>
void general_forward(cuda_queue& queue, attention_shape const& shape, arithmetic_t<T> scale,
                     attention_operand<T const> const& q, attention_operand<T const> const& k, attention_operand<T const> const& v,
                     attention_operand<T> const& o, arithmetic_t<T>* lse) {
  unsigned const blocks = general_blocks<T>(shape, shape.queries);
  if (blocks == 0) return;
  detail::start(queue, "running attention", general_forward_kernel<T>, blocks, general_threads, 0,
                general_forward_arguments<T>{q, k, v, o, lse, scale, head_sizes(shape)});
}

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
