// What convolutions do with weights beside their main loops: filters turned round for the gradient of the input, and the sum of
// the parts of a weight gradient.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/kernels/conv_geometry.hpp>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::conv {

/// Blocks that work on a weight gradient: two on each multiprocessor of an H100. Not asked of the card, so that the split into
/// parts, and with it every bit of the gradient, is a function of the sizes alone.
inline constexpr std::size_t weight_blocks = 264;

/// Parts of a sum over `items`, of about equal numbers of them, so that parts * blocks is at most about weight_blocks.
[[nodiscard]] inline int parts_of(std::size_t items, std::size_t blocks) {
  std::size_t const most = std::max<std::size_t>(1, weight_blocks / std::max<std::size_t>(1, blocks));
  std::size_t const each = (items + most - 1) / most;
  return static_cast<int>((items + each - 1) / each);
}

template <class A>
__global__ void __launch_bounds__(256) add_parts_kernel(A const* parts, int count, std::size_t size, A* out, bool accumulate) {
  detail::await_predecessors();
  __shared__ A sums[8][32];
  std::size_t const at = static_cast<std::size_t>(blockIdx.x) * 32 + threadIdx.x;
  A sum = 0;
  if (at < size) {
#pragma unroll 4
    for (int part = static_cast<int>(threadIdx.y); part < count; part += 8) sum += parts[static_cast<std::size_t>(part) * size + at];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || at >= size) return;
  for (int i = 1; i < 8; ++i) sum += sums[i][threadIdx.x];
  out[at] = accumulate ? out[at] + sum : sum;
}

/// out = (accumulate ? out : 0) + the sum of the parts that launch(A* parts) computes, [parts][size], each of them whole.
template <precision P, class A, class Launch>
void sum_parts(basic_cuda<P> const& device, std::size_t size, int parts, A* out, bool accumulate, Launch const& launch) {
  if (parts == 1 && !accumulate) return launch(out);
  detail::device_scratch<A> const sums(device, static_cast<std::size_t>(parts) * size);
  launch(sums.data());
  detail::start(*device.queue, "adding up the parts of a weight gradient", add_parts_kernel<A>, detail::blocks_of(size, 32), dim3(32, 8), 0,
                sums.data(), parts, size, out, accumulate);
}

template <class E>
__global__ void __launch_bounds__(256)
    turned_filters_kernel(E const* weight, E* out, int group_out, int taps, int group_in, unsigned size, bool by_channel) {
  detail::await_predecessors();
  unsigned const at = blockIdx.x * 256 + threadIdx.x;
  if (at >= size) return;
  unsigned const o = at % group_out, row = at / group_out;  // of [group, channel, turned tap] or of [group, tap, channel]
  unsigned const filter_size = taps * group_in, group = row / filter_size, within = row % filter_size;
  unsigned const tap = by_channel ? taps - 1 - within % taps : within / group_in;
  unsigned const channel = by_channel ? within / taps : within % group_in;
  out[at] = weight[((group * group_out + o) * taps + tap) * group_in + channel];
}

/// The filters that take dy to dx, as many elements as the weight. By channel: for every channel of x the taps in reverse order,
/// (groups, group_in, taps, group_out), which is a convolution's weight. Else (groups, taps, group_in, group_out).
template <precision P, class E>
void turn_filters(basic_cuda<P> const& device, conv_geometry const& g, E const* weight, E* out, bool by_channel) {
  std::size_t const size = g.out_channels * g.taps();
  detail::start(
      *device.queue, "turning the filters of a convolution round", turned_filters_kernel<E>, detail::blocks_of(size, 256), 256, 0,
      weight, out, static_cast<int>(g.group_out()), static_cast<int>(g.kernel_h * g.kernel_w), static_cast<int>(g.group_in()),
      static_cast<unsigned>(size), by_channel);
}

/// Lets a kernel have `bytes` of dynamic shared memory.
template <class... Arguments>
void allow_shared(void (*kernel)(Arguments...), std::size_t bytes) {
  if (bytes > std::size_t{48} << 10)
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
               "asking for shared memory");
}

/// Shared memory that a block gets on every card with bfloat16 tensor cores, and two blocks on a multiprocessor of an H100.
inline constexpr std::size_t shared_budget = std::size_t{99} << 10;

}  // namespace kernels::conv
}  // namespace dvla::inline DVLA_ABI
