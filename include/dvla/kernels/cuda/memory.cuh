// Filling, copying and converting on the device, and copies from and to the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/cuda/column_walk.cuh>
#include <dvla/kernels/cuda/flat_walk.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace memory_moves {

template <class T>
struct fill_body {
  T* to;
  T value;
  template <int N>
  __device__ void at(std::size_t i) const {
    store_packet(to + i, packet<arithmetic_t<T>, N>(static_cast<arithmetic_t<T>>(value)));
  }
};

template <class From, class To>
struct convert_body {
  using number = arithmetic_t<To>;
  From const* from;
  To* to;
  bool accumulate;
  template <int N>
  __device__ void at(std::size_t i) const {
    auto const value = load_packet<number, N>(from + i);
    store_packet(to + i, accumulate ? value + load_packet<number, N>(to + i) : value);
  }
};

/// Row r of the target is row r of the source, or index[r] of it.
template <class T>
struct rows_body {
  using number = arithmetic_t<T>;
  static constexpr int rows_together = 4;
  T const* from;
  std::size_t from_step;
  std::uint32_t const* index;
  T* to;
  std::size_t to_step;
  bool accumulate;

  template <int N>
  struct pair {
    raw_packet<T, N> value, old;
  };
  template <int N>
  struct kept {
    rows_body body;
    std::size_t column;
    __device__ pair<N> load(std::size_t row) const {
      pair<N> out;
      std::size_t const source = body.index == nullptr ? row : body.index[row];
      out.value = load_raw<N>(body.from + source * body.from_step + column);
      if (body.accumulate) out.old = load_raw<N>(body.to + row * body.to_step + column);
      return out;
    }
    __device__ void store(std::size_t row, pair<N> const& at) const {
      T* const target = body.to + row * body.to_step + column;
      if (body.accumulate)
        store_packet(target, at.old.template as<number>() + at.value.template as<number>());
      else
        store_packet(target, at.value.template as<T>());
    }
  };
  template <int N>
  __device__ kept<N> columns(std::size_t, std::size_t c) const {
    return {*this, c};
  }
};

/// A block a source row. The first of the rows that go to one target adds all of them, in order; the blocks of the others end.
template <int N, class T>
__global__ void __launch_bounds__(256)
    scatter_kernel(std::size_t rows, std::size_t packets, std::uint32_t const* index, T const* from, T* to) {
  detail::await_predecessors();
  using number = arithmetic_t<T>;
  __shared__ unsigned matches[8];  // a bit for each of 256 rows
  std::size_t const own = blockIdx.x, width = packets * N;
  std::uint32_t const target = index[own];
  bool earlier = false;
  for (std::size_t r = threadIdx.x; r < own; r += 256) earlier = earlier || index[r] == target;
  if (__syncthreads_or(earlier)) return;
  for (std::size_t first = own; first < rows; first += 256) {
    std::size_t const r = first + threadIdx.x;
    unsigned const found = __ballot_sync(0xFFFFFFFFu, r < rows && index[r] == target);
    if (threadIdx.x % 32 == 0) matches[threadIdx.x / 32] = found;
    if (!__syncthreads_or(found != 0)) continue;
    for (std::size_t p = threadIdx.x; p < packets; p += 256) {
      packet<number, N> sum = load_packet<number, N>(to + target * width + p * N);
      for (unsigned w = 0; w < 8; ++w)
        for (unsigned bits = matches[w]; bits != 0; bits &= bits - 1) {
          std::size_t const row = first + w * 32 + static_cast<unsigned>(__ffs(static_cast<int>(bits)) - 1);
          sum = sum + load_packet<number, N>(from + row * width + p * N);
        }
      store_packet(to + target * width + p * N, sum);
    }
    __syncthreads();  // before the next matches are written
  }
}

template <int N, precision P, class T>
void launch_scatter(basic_cuda<P> const& device, std::size_t rows, std::size_t packets, std::uint32_t const* index, T const* from,
                    T* to) {
  detail::start(*device.queue, "adding to rows", scatter_kernel<N, T>, detail::blocks_of(rows, 1), 256, 0, rows, packets, index, from, to);
}

}  // namespace memory_moves

template <precision P, class T>
void fill(basic_cuda<P> const& device, std::size_t count, T* to, std::type_identity_t<T> value) {
  flat_walks::over_elements<packet_of<T>>(device, count, memory_moves::fill_body<T>{to, value}, "filling memory", to);
}

template <precision P, class T>
void copy(basic_cuda<P> const& device, std::size_t count, T const* from, T* to) {
  if (count == 0) return;
  cuda_check(cudaMemcpyAsync(to, from, count * sizeof(T), cudaMemcpyDeviceToDevice, device.stream()), "copying device memory");
}

/// Copies to host memory and waits for it.
template <precision P, class T>
void download(basic_cuda<P> const& device, std::size_t count, T const* from, T* host) {
  if (count == 0) return;
  cuda_check(cudaMemcpyAsync(host, from, count * sizeof(T), cudaMemcpyDeviceToHost, device.stream()), "copying to the host");
  device.queue->wait();
}

/// Copies from host memory, which may change as soon as this returns: the runtime stages pageable memory before it returns, and for
/// pinned memory, which the card reads itself, this waits.
template <precision P, class T>
void upload(basic_cuda<P> const& device, std::size_t count, T const* host, T* to) {
  if (count == 0) return;
  cudaPointerAttributes attributes{};
  cuda_check(cudaPointerGetAttributes(&attributes, host), "asking for the kind of host memory");
  cuda_check(cudaMemcpyAsync(to, host, count * sizeof(T), cudaMemcpyHostToDevice, device.stream()), "copying from the host");
  if (attributes.type != cudaMemoryTypeUnregistered) device.queue->wait();
}

/// Copies `outer` blocks of `block` elements from steps of from_step to steps of to_step, or adds them.
template <precision P, class T>
void copy_blocks(basic_cuda<P> const& device, std::size_t outer, std::size_t block, T const* from, std::size_t from_step, T* to,
                 std::size_t to_step, bool accumulate) {
  constexpr int n = packet_of<T>;
  memory_moves::rows_body<T> const body{from, from_step, nullptr, to, to_step, accumulate};
  constexpr char const* doing = "copying blocks";
  if (outer <= 1 || (from_step % n == 0 && to_step % n == 0))
    column_walks::over_columns<n>(device, 1, outer, block, body, doing, from, to);
  else
    column_walks::over_columns<1>(device, 1, outer, block, body, doing, from, to);
}

/// to[r] = from[index[r]] row by row, each row `width` elements; index lies on the device.
template <precision P, class T>
void gather_rows(basic_cuda<P> const& device, std::size_t rows, std::size_t width, std::uint32_t const* index, T const* from,
                 T* to) {
  column_walks::over_columns<packet_of<T>>(device, 1, rows, width, memory_moves::rows_body<T>{from, width, index, to, width, false},
                                           "gathering rows", from, to);
}

/// to[index[r]] += from[r], in the order of r: the adjoint of gather_rows. Meant for thousands of rows: each looks through index.
template <precision P, class T>
void scatter_add_rows(basic_cuda<P> const& device, std::size_t rows, std::size_t width, std::uint32_t const* index, T const* from,
                      T* to) {
  constexpr int n = packet_of<T>;
  if (rows == 0 || width == 0) return;
  if (width % n == 0 && allows_packets<n>(from, to))
    memory_moves::launch_scatter<n>(device, rows, width / n, index, from, to);
  else
    memory_moves::launch_scatter<1>(device, rows, width, index, from, to);
}

/// The same numbers as another type, written or added.
template <precision P, class From, class To>
void convert(basic_cuda<P> const& device, std::size_t count, From const* from, To* to, bool accumulate) {
  constexpr int n = static_cast<int>(16 / (sizeof(From) < sizeof(To) ? sizeof(From) : sizeof(To)));
  flat_walks::over_elements<n>(device, count, memory_moves::convert_body<From, To>{from, to, accumulate}, "converting numbers",
                               from, to);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
