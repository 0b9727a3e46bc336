// The sum of squares of a vector, in a fixed order: threads add squares in the type of the elements, everything above is double.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/kernels/cuda/flat_walk.cuh>
#include <dvla/kernels/cuda/launch.cuh>
#include <dvla/kernels/cuda/row_team.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace flat_walks {

template <int N, class T>
__global__ void __launch_bounds__(block_threads) squares_kernel(range const r, T const* x, double* sums) {
  detail::await_predecessors();
  std::size_t const thread = blockIdx.x * std::size_t{block_threads} + threadIdx.x, step = gridDim.x * std::size_t{block_threads};
  packet<T, N> squares(T(0));
  in_batches<8>(
      thread, r.packets, step, [&](std::size_t p) { return load_packet<T, N>(x + r.head + p * N); },
      [&](std::size_t, auto const& value) { squares = squares + value * value; });
  double total = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) total += static_cast<double>(squares.at[i]);
  if (N > 1 && thread < r.count - r.packets * N) {
    double const value = static_cast<double>(x[thread < r.head ? thread : thread + r.packets * N]);
    total += value * value;
  }
  total = row_teams::team<block_threads>{threadIdx.x}.sum(total);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

/// The sum of a few numbers, by one block.
template <class = void>
__global__ void __launch_bounds__(block_threads) total_kernel(unsigned count, double const* numbers, double* total) {
  detail::await_predecessors();
  double own = 0;
  in_batches<8>(
      threadIdx.x, count, block_threads, [&](std::size_t i) { return numbers[i]; },
      [&](std::size_t, double number) { own += number; });
  own = row_teams::team<block_threads>{threadIdx.x}.sum(own);
  if (threadIdx.x == 0) *total = own;
}

template <int N, precision P, class T>
void launch_squares(basic_cuda<P> const& device, range const& r, T const* x, double* result) {
  constexpr std::size_t packets_a_thread = 8;
  unsigned const blocks = blocks_for(*device.queue, r.packets / packets_a_thread, 8);
  detail::device_scratch<double> const sums(device, blocks);
  detail::start(*device.queue, "summing squares", squares_kernel<N, T>, blocks, block_threads, 0, r, x, blocks == 1 ? result : sums.data());
  if (blocks == 1) return;
  detail::start(*device.queue, "summing squares", total_kernel<>, 1, block_threads, 0, blocks, sums.data(), result);
}

}  // namespace flat_walks

/// The sum of squares, into a number in the device's memory.
template <precision P, class T>
void squared_norm_at(basic_cuda<P> const& device, std::size_t count, T const* x, double* result) {
  constexpr int n = packet_of<T>;
  std::size_t const head = flat_walks::aligned_from<n>(x);
  if (head < n)
    flat_walks::launch_squares<n>(device, flat_walks::range::of<n>(head, count), x, result);
  else
    flat_walks::launch_squares<1>(device, flat_walks::range::of<1>(0, count), x, result);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
