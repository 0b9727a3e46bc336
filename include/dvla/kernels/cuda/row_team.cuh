// Kernels that work on each row of a matrix by itself: a team of threads a row, one warp or a whole block.
#pragma once

#include <cstddef>

#include <dvla/kernels/cuda/access.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace row_teams {

inline constexpr unsigned block_threads = 256;

/// The threads of one row. Reductions are trees, the same in every run, and give every thread the result.
template <unsigned Threads>
struct team {
  unsigned rank;  // of this thread in its team

  /// op must be commutative. Called by the whole team.
  template <class T, class Op>
  __device__ T reduce(T value, Op op) const {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) value = op(value, __shfl_xor_sync(0xFFFFFFFFu, value, step));
    if constexpr (Threads > 32) {
      __shared__ T of_warp[Threads / 32];
      if (rank % 32 == 0) of_warp[rank / 32] = value;
      __syncthreads();
      value = of_warp[0];
#pragma unroll
      for (unsigned i = 1; i < Threads / 32; ++i) value = op(value, of_warp[i]);
      __syncthreads();  // before the next reduction writes
    }
    return value;
  }

  template <class T>
  __device__ T sum(T value) const {
    return reduce(value, [](T a, T b) { return a + b; });
  }
  template <class T, int N>
  __device__ T sum(packet<T, N> const& values) const {
    T total = values.at[0];
#pragma unroll
    for (int i = 1; i < N; ++i) total += values.at[i];
    return sum(total);
  }

  /// Calls f(c) for the first columns of this thread's packets.
  template <int N, class F>
  __device__ DVLA_INLINE void over(std::size_t columns, F f) const {
    for (std::size_t c = rank * std::size_t{N}; c < columns; c += Threads * std::size_t{N}) f(c);
  }
  /// Calls use(c, load(c)) for them, as in_batches does: for a first look at a row, which comes from afar.
  template <int N, class Load, class Use>
  __device__ DVLA_INLINE void read(std::size_t columns, Load load, Use use) const {
    in_batches<4>(rank * std::size_t{N}, columns, Threads * std::size_t{N}, load, use);
  }
};

template <unsigned Threads, int N, class Body>
__global__ void __launch_bounds__(block_threads) row_kernel(std::size_t rows, Body const body) {
  detail::await_predecessors();
  std::size_t const row = blockIdx.x * std::size_t{block_threads / Threads} + threadIdx.x / Threads;
  if (row < rows) body.template row<N>(team<Threads>{threadIdx.x % Threads}, row);
}

template <int N, precision P, class Body>
void launch(basic_cuda<P> const& device, std::size_t rows, std::size_t columns, Body const& body, char const* doing) {
  constexpr std::size_t rows_a_block = block_threads / 32;
  if (columns <= 512 * N)
    detail::start(*device.queue, doing, row_kernel<32, N, Body>, detail::blocks_of(rows, rows_a_block), block_threads, 0, rows, body);
  else
    detail::start(*device.queue, doing, row_kernel<block_threads, N, Body>, detail::blocks_of(rows, 1), block_threads, 0, rows, body);
}

/// Calls body.row<n>(team, row) for every row; n is N if a row is whole packets and all the arrays of rows allow them, else 1.
template <int N, precision P, class Body, class... E>
void over_rows(basic_cuda<P> const& device, std::size_t rows, std::size_t columns, Body const& body, char const* doing,
               E const*... arrays) {
  if (rows == 0 || columns == 0) return;
  if (columns % N == 0 && allows_packets<N>(arrays...))
    launch<N>(device, rows, columns, body, doing);
  else
    launch<1>(device, rows, columns, body, doing);
}

}  // namespace row_teams
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
