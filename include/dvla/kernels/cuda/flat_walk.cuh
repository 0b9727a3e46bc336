// Loops over the elements of flat arrays: a packet a thread, and the few elements around the aligned packets one by one.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/kernels/cuda/access.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace flat_walks {

inline constexpr unsigned block_threads = 256;

/// Elements [0, head) one by one, then packets of N, then the rest one by one.
struct range {
  std::size_t head, packets, count;

  template <int N>
  [[nodiscard]] static range of(std::size_t head, std::size_t count) {
    head = std::min(head, count);
    return {head, (count - head) / N, count};
  }
};

/// Calls body.at<N>(i) for every packet that begins at element i and body.at<1>(i) for the elements outside of packets. A body
/// with prepare() has it called by all threads of every block before.
template <int N, class Body>
__global__ void __launch_bounds__(block_threads) walk_kernel(range const r, Body const given) {
  detail::await_predecessors();
  Body body = given;
  if constexpr (requires { body.prepare(); }) body.prepare();
  std::size_t const thread = blockIdx.x * std::size_t{block_threads} + threadIdx.x, step = gridDim.x * std::size_t{block_threads};
  for (std::size_t p = thread; p < r.packets; p += step) body.template at<N>(r.head + p * N);
  if constexpr (N > 1) {
    if (thread < r.count - r.packets * N) body.template at<1>(thread < r.head ? thread : thread + r.packets * N);
  }
}

/// Enough blocks for `packets`, at most `most` a multiprocessor.
[[nodiscard]] inline unsigned blocks_for(cuda_queue const& queue, std::size_t packets, std::size_t most) {
  std::size_t const all = std::max<std::size_t>(1, (packets + block_threads - 1) / block_threads);
  return static_cast<unsigned>(std::min(all, static_cast<std::size_t>(queue.multiprocessors()) * most));
}

/// Runs a body over the range; `doing` completes an error's sentence.
template <int N, precision P, class Body>
void launch(basic_cuda<P> const& device, range const& r, Body const& body, char const* doing) {
  constexpr std::size_t most = requires(Body b) { b.prepare(); }
  ? 8 : 32;  // blocks that prepare themselves are to be few
  if (r.count == 0) return;
  detail::start(*device.queue, doing, walk_kernel<N, Body>, blocks_for(*device.queue, r.packets, most), block_threads, 0, r, body);
}

/// The first element from which on all arrays allow packets of N; N if there is none.
template <int N, class... E>
[[nodiscard]] std::size_t aligned_from(E const*... at) {
  std::size_t head = 0;
  while (head < N && !allows_packets<N>((at == nullptr ? at : at + head)...)) ++head;
  return head;
}

/// Runs a body over the elements [0, count) of all the arrays, in packets of N if their alignments agree.
template <int N, precision P, class Body, class... E>
void over_elements(basic_cuda<P> const& device, std::size_t count, Body const& body, char const* doing, E const*... arrays) {
  std::size_t const head = aligned_from<N>(arrays...);
  if (head < N)
    launch<N>(device, range::of<N>(head, count), body, doing);
  else
    launch<1>(device, range::of<1>(0, count), body, doing);
}

}  // namespace flat_walks
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
