// Attention's gradients on the GPU in plain arithmetic, for any shape and placement. dq gathers over the keys, dk and dv over
// the queries, in two launches of one kernel that recomputes the scores from the rows' log sum exp.
#pragma once

#include <cmath>
#include <cstddef>

#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/attention_general.cuh>
#include <dvla/kernels/cuda/attention_gradient.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

/// deltas [batch, heads, queries] = d_o . o, a warp a query.
template <class T>
__global__ void __launch_bounds__(general_threads)
    general_delta_kernel(__grid_constant__ backward_arguments<T> const a, std::size_t count, arithmetic_t<T>* deltas) {
  detail::await_predecessors();
  std::size_t const i = blockIdx.x * std::size_t{general_threads / 32} + threadIdx.x / 32;
  if (i >= count) return;
  std::size_t const queries = static_cast<std::size_t>(a.sizes.queries), index = i / queries, row = i % queries;
  unsigned const image = static_cast<unsigned>(index / a.sizes.heads), head = static_cast<unsigned>(index % a.sizes.heads);
  auto const o = rows_of(a.o, image, head, a.sizes.queries, a.sizes.dim),
             d_o = rows_of(a.d_o, image, head, a.sizes.queries, a.sizes.dim);
  using number = arithmetic_t<T>;
  number sum = 0;
  for (int d = static_cast<int>(threadIdx.x % 32); d < a.sizes.dim; d += 32)
    sum += static_cast<number>(o.data[row * o.step + d]) * static_cast<number>(d_o.data[row * d_o.step + d]);
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0u, sum, distance);
  if (threadIdx.x % 32 == 0) deltas[i] = sum;
}

/// One tile of a gradient: elements outside of it are passed over.
template <class T>
__device__ DVLA_INLINE void put_tile(typename general_tile<T>::scores const& sums, arithmetic_t<T> factor,
                                     gradient_target<T> const& target, general_place const& at, int count, int dim) {
  using number = arithmetic_t<T>;
  auto const to = rows_of(target.to, at.image, at.head, count, dim);
  for (int y = 0; y < general_tile<T>::part; ++y) {
    for (int x = 0; x < general_tile<T>::part; ++x) {
      int const row = at.first + general_tile<T>::row() + y, column = at.begin + general_tile<T>::column() + x;
      if (row >= count || column >= dim) continue;
      number const value = factor * sums[y][x];
      T* const place = to.data + static_cast<std::size_t>(row) * to.step + column;
      if (target.contributions != nullptr)
        target.contributions[(at.index * static_cast<std::size_t>(count) + row) * static_cast<std::size_t>(dim) + column] = value;
      else
        *place = static_cast<T>(target.accumulate ? static_cast<number>(*place) + value : value);
    }
  }
}

/// A tile of dq, whose rows are queries and which gathers over the keys; or of dk and dv, the other way round. Either way the
/// scores are a x^T and their gradients b y^T - delta, times the weights.
template <class T, bool OfKeys>
__global__ void __launch_bounds__(general_threads, 2)
    general_backward_kernel(__grid_constant__ backward_arguments<T> const arguments, arithmetic_t<T> const* deltas) {
  detail::await_predecessors();
  using tile = general_tile<T>;
  using number = typename tile::number;
  constexpr int part = tile::part;
  __shared__ tile shared;
  auto const& sizes = arguments.sizes;
  general_place const at(sizes, OfKeys ? sizes.keys : sizes.queries, tile::size);
  auto const q = rows_of(arguments.q, at.image, at.head, sizes.queries, sizes.dim);
  auto const d_o = rows_of(arguments.d_o, at.image, at.head, sizes.queries, sizes.dim);
  auto const k = rows_of(arguments.k, at.image, at.head, sizes.keys, sizes.dim);
  auto const v = rows_of(arguments.v, at.image, at.head, sizes.keys, sizes.dim);
  auto const &a = OfKeys ? k : q, &b = OfKeys ? v : d_o, &x = OfKeys ? q : k, &y = OfKeys ? d_o : v;
  number const* const lse = arguments.lse + at.index * static_cast<std::size_t>(sizes.queries);
  number const* const delta = deltas + at.index * static_cast<std::size_t>(sizes.queries);
  number d_a[part][part] = {}, d_b[part][part] = {};  // d_b is dv; dq has no such twin

  for (int first = 0; first < x.count; first += tile::size) {
    number weights[part][part] = {}, d_scores[part][part] = {};
    shared.add_products(weights, a, at.first, x, first);
    shared.add_products(d_scores, b, at.first, y, first);
#pragma unroll
    for (int i = 0; i < part * part; ++i) {
      int const row = at.first + tile::row() + i / part, column = first + tile::column() + i % part, query = OfKeys ? column : row;
      number &w = weights[i / part][i % part], &d = d_scores[i / part][i % part];
      bool const there = row < a.count && column < x.count;
      w = there ? std::exp(arguments.scale * w - lse[query]) : number(0);
      d = there ? w * (d - delta[query]) : number(0);
    }
    if (OfKeys && arguments.dv.wanted()) shared.add_weighted(d_b, weights, y, first, at.begin);
    if (!OfKeys || arguments.dk.wanted()) shared.add_weighted(d_a, d_scores, x, first, at.begin);
  }
  auto const& target = OfKeys ? arguments.dk : arguments.dq;
  if (target.wanted()) put_tile<T>(d_a, arguments.scale, target, at, a.count, a.dim);
  if (OfKeys && arguments.dv.wanted()) put_tile<T>(d_b, number(1), arguments.dv, at, a.count, a.dim);
}

template <precision P, class T>
void general_backward(basic_cuda<P> const& device, attention_shape const& shape, backward_arguments<T> const& arguments) {
  auto const run = [&](auto* kernel, unsigned blocks, auto const&... rest) {
    detail::start(*device.queue, "running attention's backward pass", kernel, blocks, general_threads, 0, arguments, rest...);
  };
  std::size_t const rows = shape.batch * shape.heads * shape.queries;
  detail::device_scratch<arithmetic_t<T>> const deltas(device, rows);
  if (rows > 0)
    run(&general_delta_kernel<T>, detail::blocks_of(rows, general_threads / 32), rows, static_cast<arithmetic_t<T>*>(deltas.data()));
  unsigned const query_blocks = general_blocks<T>(shape, shape.queries), key_blocks = general_blocks<T>(shape, shape.keys);
  if (arguments.dq.wanted() && query_blocks > 0) run(&general_backward_kernel<T, false>, query_blocks, deltas.data());
  if ((arguments.dk.wanted() || arguments.dv.wanted()) && key_blocks > 0)
    run(&general_backward_kernel<T, true>, key_blocks, deltas.data());
}

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
