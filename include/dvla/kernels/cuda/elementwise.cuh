// The GPU's loops over bound expressions: one kernel forward, one backward, one row sum. A thread takes a packet of 16 bytes of
// the output where all rows allow it. An element's value does not depend on its packet: results are those of any other split.
#pragma once

#include <array>

#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/divisor.cuh>
#include <dvla/kernels/cuda/lanes.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace detail {

/// Positions of a loop: the packets of all rows in order, and how a packet's number becomes a position.
template <std::size_t R>
struct loop_positions {
  std::size_t columns, packets_a_row, packets;
  divisor row_divisor;             // by packets_a_row
  std::array<divisor, R> outer{};  // by the extents of the outer axes
  bool wide;                       // more packets than 32 bits count

  loop_positions(std::array<std::size_t, R> const& extents, int lanes)
      : columns(extents[R - 1]), packets_a_row((columns + static_cast<std::size_t>(lanes) - 1) / static_cast<std::size_t>(lanes)) {
    packets = packets_a_row;
    for (std::size_t i = 0; i + 1 < R; ++i) packets *= extents[i];
    wide = packets > 0x7FFFFFFFu;
    if (wide || packets == 0) return;
    row_divisor = divisor(static_cast<std::uint32_t>(packets_a_row));
    for (std::size_t i = 0; i + 1 < R; ++i) outer[i] = divisor(static_cast<std::uint32_t>(extents[i]));
  }

  /// Splits a packet's number into the indices of its row (the last one 0) and its first packet column.
  __device__ std::size_t locate(std::size_t packet, std::array<std::size_t, R>& at) const {
    if constexpr (R == 1) {
      at[0] = 0;
      return packet;
    } else {
      std::uint32_t row = row_divisor.quotient(static_cast<std::uint32_t>(packet));
      std::size_t const column = packet - std::size_t{row} * packets_a_row;
      at[R - 1] = 0;
      DVLA_UNROLL(8)
      for (int i = static_cast<int>(R) - 2; i > 0; --i) {
        std::uint32_t const next = outer[i].quotient(row);
        at[i] = row - next * outer[i].value;
        row = next;
      }
      at[0] = row;
      return column;
    }
  }
};

/// Calls body(lanes, first column) at each packet of this thread, after `seek` has moved to its row; the columns that are left
/// at the end of the only row come one by one.
template <class T, int N, std::size_t R, class Seek, class Body>
__device__ DVLA_INLINE void for_packets(loop_positions<R> const& loop, Seek seek, Body body) {
  std::size_t const step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t p = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; p < loop.packets; p += step) {
    std::array<std::size_t, R> at;
    std::size_t const first = loop.locate(p, at) * N;
    seek(at);
    if (N == 1 || first + N <= loop.columns) {
      body(packet_lanes<T, N>{}, first);
    } else {
      for (std::size_t j = first; j < loop.columns; ++j) body(packet_lanes<T, 1>{}, j);
    }
  }
}

template <class T, int N, std::size_t R, class Expression, class Target>
__global__ void __launch_bounds__(256)
    evaluate_kernel(__grid_constant__ loop_positions<R> const loop, __grid_constant__ Expression const expression,
                    __grid_constant__ Target const target) {
  await_predecessors();
  auto e = expression;
  auto out = target;
  for_packets<T, N>(
      loop, [&](auto const& at) { e.seek(at), out.seek(at); },
      [&](auto const& lanes, std::size_t j) { out.write(lanes, j, e.forward(lanes, j).value); });
}

template <class T, int N, std::size_t R, class Expression, class Adjoint>
__global__ void __launch_bounds__(256)
    evaluate_backward_kernel(__grid_constant__ loop_positions<R> const loop, __grid_constant__ Expression const expression,
                             __grid_constant__ Adjoint const adjoint) {
  await_predecessors();
  auto e = expression;
  auto dy = adjoint;
  for_packets<T, N>(
      loop, [&](auto const& at) { e.seek(at), dy.seek(at); },
      [&](auto const& lanes, std::size_t j) { e.backward(lanes, j, e.forward(lanes, j), dy.load(lanes, j)); });
}

/// A row a block: threads take columns in steps of the block, then a tree adds them up.
template <class T, std::size_t R, class Expression>
__global__ void row_sum_kernel(__grid_constant__ loop_positions<R> const loop, __grid_constant__ Expression const expression,
                               T factor, T* out) {
  await_predecessors();
  __shared__ T sums[256];
  auto e = expression;
  std::array<std::size_t, R> at;
  (void)loop.locate(blockIdx.x * loop.packets_a_row, at);
  e.seek(at);
  T total = 0;
  for (std::size_t j = threadIdx.x; j < loop.columns; j += blockDim.x) total += e.forward(packet_lanes<T, 1>{}, j).value.at[0];
  sums[threadIdx.x] = total;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) out[blockIdx.x] = factor * sums[0];
}

/// Elements of a packet: 16 bytes of the narrower of the loop's output and its numbers.
template <class T, class E>
inline constexpr int packet_size = static_cast<int>(16 / sizeof(E));

[[nodiscard]] inline unsigned loop_blocks(cuda_queue const& queue, std::size_t packets) {
  std::size_t const all = (packets + 255) / 256, waves = static_cast<std::size_t>(queue.multiprocessors()) * 32;
  return static_cast<unsigned>(all < waves ? all : waves);
}

template <std::size_t R>
[[nodiscard]] bool may_split(std::array<std::size_t, R> const& extents, int lanes) {
  return R == 1 || extents[R - 1] % static_cast<std::size_t>(lanes) == 0;
}

/// Wide loops are run in packets of one only through R = 1, where no division is needed.
template <std::size_t R>
void check_width(loop_positions<R> const& loop) {
  if constexpr (R > 1)
    expect(!loop.wide, "CUDA: an element-wise loop over ", loop.packets, " packets is too long; use a smaller batch");
}

template <class T, int N, std::size_t R, class Expression, class Target>
void launch_evaluate(cuda_queue& queue, std::array<std::size_t, R> const& extents, Expression const& expression,
                     Target const& target) {
  loop_positions<R> const loop(extents, N);
  check_width(loop);
  start(queue, "evaluating an expression", evaluate_kernel<T, N, R, Expression, Target>, loop_blocks(queue, loop.packets), 256, 0, loop,
        expression, target);
}

template <class T, int N, std::size_t R, class Expression, class Adjoint>
void launch_backward(cuda_queue& queue, std::array<std::size_t, R> const& extents, Expression const& expression,
                     Adjoint const& adjoint) {
  loop_positions<R> const loop(extents, N);
  check_width(loop);
  start(queue, "an expression's backward pass", evaluate_backward_kernel<T, N, R, Expression, Adjoint>, loop_blocks(queue, loop.packets),
        256, 0, loop, expression, adjoint);
}

template <std::size_t R>
[[nodiscard]] bool is_empty(std::array<std::size_t, R> const& extents) {
  for (std::size_t const extent : extents)
    if (extent == 0) return true;
  return false;
}

template <class T>
struct element_of_bound;
template <class E, bound::inner Walk, std::size_t R>
struct element_of_bound<bound::target<E, Walk, R>> {
  using type = E;
};
template <class E, bound::inner Walk, std::size_t R>
struct element_of_bound<bound::elements<E, Walk, R>> {
  using type = E;
};

}  // namespace detail

/// out = expression over a loop of the given extents, one kernel.
template <class T, precision P, std::size_t R, class Expression, class Target>
void evaluate(basic_cuda<P> const& device, std::array<std::size_t, R> const& extents, Expression const& expression,
              Target const& target) {
  static_assert(sizeof(Expression) + sizeof(Target) <= 3584,
                "the expression has too many leaves for one kernel; evaluate parts of it first");
  if (detail::is_empty(extents)) return;
  constexpr int n = detail::packet_size<T, typename detail::element_of_bound<Target>::type>;
  if (detail::may_split(extents, n) && detail::takes_packets<n>(expression) && detail::takes_packets<n>(target))
    detail::launch_evaluate<T, n>(*device.queue, extents, expression, target);
  else
    detail::launch_evaluate<T, 1>(*device.queue, extents, expression, target);
}

/// The adjoint of the expression's value goes down to its tracked leaves, one kernel.
template <class T, precision P, std::size_t R, class Expression, class Adjoint>
void evaluate_backward(basic_cuda<P> const& device, std::array<std::size_t, R> const& extents, Expression const& expression,
                       Adjoint const& adjoint) {
  static_assert(sizeof(Expression) + sizeof(Adjoint) <= 3584,
                "the expression has too many leaves for one kernel; evaluate parts of it first");
  if (detail::is_empty(extents)) return;
  constexpr int n = detail::packet_size<T, typename detail::element_of_bound<Adjoint>::type>;
  if (detail::may_split(extents, n) && detail::takes_packets<n>(expression) && detail::takes_packets<n>(adjoint))
    detail::launch_backward<T, n>(*device.queue, extents, expression, adjoint);
  else
    detail::launch_backward<T, 1>(*device.queue, extents, expression, adjoint);
}

/// out[row] = factor * sum of the expression along the last axis; the order of addition depends on the number of columns alone.
template <class T, precision P, std::size_t R, class Expression>
void row_sum(basic_cuda<P> const& device, std::array<std::size_t, R> const& extents, Expression const& expression, T factor,
             T* out) {
  std::array<std::size_t, R> padded = extents;
  std::size_t rows = 1;
  for (std::size_t i = 0; i + 1 < R; ++i) rows *= extents[i];
  if (rows == 0) return;
  if (extents[R - 1] == 0) padded[R - 1] = 1;  // rows are still to be located; their sum is 0
  detail::loop_positions<R> loop(padded, 1);
  detail::check_width(loop);
  loop.columns = extents[R - 1];
  unsigned const threads = loop.columns > 128 ? 256 : loop.columns > 32 ? 64 : 32;
  detail::start(*device.queue, "summing rows of an expression", detail::row_sum_kernel<T, R, Expression>, detail::blocks_of(rows, 1),
                threads, 0, loop, expression, factor, out);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
