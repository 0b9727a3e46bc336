// What the library's own products on the GPU have in common: their operands as a kernel takes them, a block's place in C, and how
// finished sums reach the epilogue, from a tile at once or, where k is summed in parts, from all parts in their order.
#pragma once

#include <cstddef>

#include <dvla/kernels/cuda/access.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>
#include <dvla/kernels/cuda/tensor_core.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::gemm_cuda {

/// A product in tiles of C, one a block. Block x: the tile's column, fastest, then its row, the part of k, the member of the
/// batch: blocks that run together read the same rows of A.
template <class T>
struct tile_arguments {
  T const *a, *b;
  std::size_t lda, ldb, batch_stride_a, batch_stride_b;
  bool trans_a, trans_b;
  bool whole_a, whole_b;  // all rows begin at multiples of 16 bytes
  bool packets;           // the epilogue takes packets
  int m, n, k, part_k;
  unsigned row_tiles, column_tiles, parts;
  arithmetic_t<T> alpha;
};

/// Where this block's tile lies. Parts are to the epilogue what members of a batch are: `first_row` counts the rows before them.
struct tile_place {
  int row, column, k_begin, k_end;
  std::size_t member, first_row;

  template <class T>
  __device__ tile_place(tile_arguments<T> const& p, int rows, int columns) {
    unsigned at = blockIdx.x;
    column = static_cast<int>(at % p.column_tiles) * columns, at /= p.column_tiles;
    row = static_cast<int>(at % p.row_tiles) * rows, at /= p.row_tiles;
    first_row = std::size_t{at} * static_cast<unsigned>(p.m);
    k_begin = static_cast<int>(at % p.parts) * p.part_k;
    k_end = ::min(p.k, k_begin + p.part_k);
    member = at / p.parts;
  }
};

/// Hands `left` columns, at most N, to the epilogue: as one packet, if they are N and it takes packets. Sums lie in shared memory.
template <int N, class A, class Epilogue>
__device__ DVLA_INLINE void finish_packet(Epilogue const& epilogue, std::size_t row, int column, int left, bool packets, A alpha,
                                          A const* sums) {
  if (packets && left >= N)
    return epilogue.template finish<N>(row, static_cast<std::size_t>(column), load_packet<A, N>(sums) * packet<A, N>(alpha));
  if constexpr (N > 1) {
#pragma unroll 1
    for (int j = 0; j < ::min(left, N); ++j)
      epilogue.template finish<1>(row, static_cast<std::size_t>(column + j), packet<A, 1>(sums[j] * alpha));
  }
}

/// Finishes `rows` rows of a tile whose sums lie in shared memory, Pitch elements apart. For a block of Threads.
template <int Columns, int Pitch, int Threads, class T, class Epilogue>
__device__ DVLA_INLINE void finish_rows(tile_arguments<T> const& p, Epilogue const& epilogue, arithmetic_t<T> const* sums,
                                        std::size_t first_row, int first_column, int rows) {
  constexpr int lanes = packet_of<T>, packets_a_row = Columns / lanes;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < rows * packets_a_row; i += Threads) {
    int const row = i / packets_a_row, column = i % packets_a_row * lanes;
    finish_packet<lanes>(epilogue, first_row + static_cast<std::size_t>(row), first_column + column, p.n - first_column - column,
                         p.packets, p.alpha, sums + row * Pitch + column);
  }
}

/// Has what the epilogue will read of a tile at (first_row, first_column) brought near while the tile is computed, if it says how.
/// By Threads neighbouring threads; `before` counts the rows of earlier members of the batch.
template <int Rows, int Columns, int Threads, class T, class Epilogue>
__device__ DVLA_INLINE void prefetch_rows(tile_arguments<T> const& p, Epilogue const& epilogue, int first_row, int first_column,
                                          std::size_t before = 0) {
  if constexpr (requires { epilogue.prefetch(std::size_t{}, std::size_t{}); }) {
    constexpr int lanes = 64 / static_cast<int>(sizeof(T)), steps = (Columns + lanes - 1) / lanes;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x % Threads); i < Rows * steps; i += Threads) {
      int const row = first_row + i / steps, column = first_column + i % steps * lanes;
      if (row < p.m && column < p.n) epilogue.prefetch(before + static_cast<std::size_t>(row), static_cast<std::size_t>(column));
    }
  }
}

/// The epilogue of a part: keeps the sums as they are, in rows of `ld`, a multiple of every packet.
template <class A>
struct store_sums {
  A* to;
  std::size_t ld;

  template <int N>
  [[nodiscard]] bool takes_packets() const {
    return true;
  }
  template <int N>
  __device__ void finish(std::size_t row, std::size_t column, packet<A, N> const& sums) const {
    store_packet(to + row * ld + column, sums);
  }
};

/// Sums of parts, as store_sums left them: [batch][parts][m][ld].
template <class A>
struct parts_arguments {
  A const* sums;
  std::size_t ld, m, rows;  // rows of all members of the batch
  int n;
  unsigned parts, packets_a_row;
  bool packets;
  A alpha;
};

/// A thread (x, y) adds up parts y, y + blockDim.y, ... of packet x of the block; thread (x, 0) then the sums of all y.
template <class T, class Epilogue>
__global__ void __launch_bounds__(256) finish_parts_kernel(__grid_constant__ parts_arguments<arithmetic_t<T>> const p,
                                                           __grid_constant__ Epilogue const epilogue) {
  detail::await_predecessors();
  using A = arithmetic_t<T>;
  constexpr int lanes = packet_of<T>;
  extern __shared__ uint4 gemm_memory[];
  A* const own = reinterpret_cast<A*>(gemm_memory) + (threadIdx.y * blockDim.x + threadIdx.x) * lanes;
  std::size_t const at = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x, row = at / p.packets_a_row;
  int const column = static_cast<int>(at % p.packets_a_row) * lanes;
  packet<A, lanes> sum(0);
  if (row < p.rows) {
    A const* const first = p.sums + (row / p.m * p.parts * p.m + row % p.m) * p.ld + static_cast<std::size_t>(column);
#pragma unroll 4
    for (unsigned part = threadIdx.y; part < p.parts; part += blockDim.y)
      sum = sum + load_packet<A, lanes>(first + part * p.m * p.ld);
  }
  store_packet(own, sum);
  __syncthreads();
  if (threadIdx.y > 0 || row >= p.rows) return;
  for (unsigned y = 1; y < blockDim.y; ++y) sum = sum + load_packet<A, lanes>(own + y * blockDim.x * lanes);
  store_packet(own, sum);
  finish_packet<lanes>(epilogue, row, column, p.n - column, p.packets, p.alpha, own);
}

/// Adds up the parts of batch products of m rows and n columns and finishes them; without parts, finishes zeros.
template <class T, precision P, class Epilogue>
void finish_parts(basic_cuda<P> const& device, std::size_t batch, std::size_t m, std::size_t n, unsigned parts, arithmetic_t<T> alpha,
                  store_sums<arithmetic_t<T>> const& sums, Epilogue const& epilogue) {
  constexpr std::size_t threads = 256, lanes = packet_of<T>;
  std::size_t const packets_a_row = (n + lanes - 1) / lanes;
  parts_arguments<arithmetic_t<T>> const arguments{
      sums.to, sums.ld, m, batch * m, static_cast<int>(n), parts, static_cast<unsigned>(packets_a_row),
      epilogue.template takes_packets<lanes>(), alpha};
  unsigned const y = parts < 2 ? 1 : parts < 4 ? 2 : parts < 8 ? 4 : 8;
  dim3 const block(static_cast<unsigned>(threads) / y, y);
  unsigned const blocks = detail::blocks_of(batch * m * packets_a_row, block.x);
  constexpr std::size_t bytes = threads * lanes * sizeof(arithmetic_t<T>);
  detail::start(*device.queue, "adding up the parts of a matrix product", finish_parts_kernel<T, Epilogue>, blocks, block, bytes, arguments,
                epilogue);
}

}  // namespace kernels::gemm_cuda
}  // namespace dvla::inline DVLA_ABI
