// Kernels that walk down the columns of matrices: a thread owns a packet of neighbouring columns, whose constants it keeps in
// registers, and takes every so many rows. Neighbouring threads own neighbouring packets, so that accesses coalesce.
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/kernels/cuda/access.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace column_walks {

inline constexpr unsigned block_threads = 256;

[[nodiscard]] constexpr std::size_t divide_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

/// How `outer` matrices of `rows` x `packets` are shared out. A block has groups x lanes x width threads: each group has a matrix,
/// each lane every lanes-th row of the block's part, each thread of a lane one packet. Tiles lie side by side across the packets.
struct layout {
  std::size_t outer, rows, packets;
  unsigned width, lanes, groups, tiles, parts = 1;
  std::size_t part_rows;

  /// With lanes for at most `rows_of_lanes` rows, and one part.
  layout(std::size_t outer_extent, std::size_t row_count, std::size_t packet_count, std::size_t widest, std::size_t rows_of_lanes)
      : outer(outer_extent), rows(row_count), packets(packet_count) {
    width = static_cast<unsigned>(divide_up(packets, divide_up(packets, widest)));
    tiles = static_cast<unsigned>(divide_up(packets, width));
    lanes = static_cast<unsigned>(std::clamp<std::size_t>(rows_of_lanes, 1, block_threads / width));
    groups = static_cast<unsigned>(std::clamp<std::size_t>(block_threads / (width * lanes), 1, outer));
    part_rows = std::max<std::size_t>(rows, 1);
  }

  /// Cuts the rows into at most `wanted` parts, none of them empty.
  void split(std::size_t wanted) {
    part_rows = std::max<std::size_t>(divide_up(rows, std::max<std::size_t>(wanted, 1)), 1);
    parts = static_cast<unsigned>(std::max<std::size_t>(divide_up(rows, part_rows), 1));
  }

  [[nodiscard]] std::size_t blocks() const { return divide_up(outer, groups) * parts * tiles; }
  [[nodiscard]] __host__ __device__ std::size_t rows_of(std::size_t part) const {
    return part + 1 < parts ? part_rows : rows - part * part_rows;
  }
};

/// For loops that store every element: rows are cut into parts until there are several blocks a multiprocessor.
[[nodiscard]] inline layout for_elements(cuda_queue const& queue, std::size_t outer, std::size_t rows, std::size_t packets) {
  layout l(outer, rows, packets, 64, rows);
  auto const processors = static_cast<std::size_t>(queue.multiprocessors());
  l.split(std::min(divide_up(rows, std::size_t{4} * l.lanes), divide_up(16 * processors, l.blocks())));
  return l;
}

/// For sums over the rows. A small problem is spread over more blocks in narrower tiles; rows are cut into parts, whose sums need a
/// second kernel, only where one block would take long over them.
[[nodiscard]] inline layout for_sums(cuda_queue const& queue, std::size_t outer, std::size_t rows, std::size_t packets) {
  auto const processors = static_cast<std::size_t>(queue.multiprocessors());
  bool const small = outer * rows * packets <= processors * block_threads * 16;
  layout l(outer, rows, packets, small ? 8 : 64, divide_up(rows, 4));
  std::size_t const blocks = l.blocks();
  if (rows > std::size_t{16} * l.lanes && blocks < 4 * processors)
    l.split(std::min(divide_up(rows, std::size_t{4} * l.lanes), divide_up(2 * processors, blocks)));
  return l;
}

/// What a thread of a layout has: a packet of a matrix, and the rows first, first + lanes, ... below last.
struct place {
  bool active;
  unsigned lane;  // layout::lanes for threads that are left over
  std::size_t matrix, packet, part, first, last;

  __device__ explicit place(layout const& l) {
    unsigned const down = threadIdx.x / l.width, group = down / l.lanes;
    unsigned const tile = blockIdx.x % l.tiles, above = blockIdx.x / l.tiles;
    lane = group < l.groups ? down % l.lanes : l.lanes;
    part = above % l.parts;
    matrix = std::size_t{above / l.parts} * l.groups + group;
    packet = std::size_t{tile} * l.width + threadIdx.x % l.width;
    active = group < l.groups && matrix < l.outer && packet < l.packets;
    first = part * l.part_rows + lane;
    last = part * l.part_rows + l.rows_of(part);
  }
};

/// body.columns<N>(matrix, c) gives a thread what it keeps for columns [c, c + N); of that, load(row) is called for several rows
/// before store(row, loaded) is, so that many accesses are under way and results may replace operands.
template <int N, class Body>
__global__ void __launch_bounds__(block_threads) walk_kernel(layout const l, Body const body) {
  detail::await_predecessors();
  place const at(l);
  if (!at.active) return;
  auto const columns = body.template columns<N>(at.matrix, at.packet * N);
  in_batches<Body::rows_together>(
      at.first, at.last, l.lanes, [&](std::size_t row) { return columns.load(row); },
      [&](std::size_t row, auto const& loaded) { columns.store(row, loaded); });
}

template <int N, precision P, class Body>
void launch(basic_cuda<P> const& device, std::size_t outer, std::size_t rows, std::size_t packets, Body const& body,
            char const* doing) {
  layout const l = for_elements(*device.queue, outer, rows, packets);
  detail::start(*device.queue, doing, walk_kernel<N, Body>, detail::blocks_of(l.blocks(), 1), block_threads, 0, l, body);
}

/// Runs a body over all elements of `outer` matrices of rows x columns, in packets of N if rows are whole packets and all the
/// arrays allow them, else one by one.
template <int N, precision P, class Body, class... E>
void over_columns(basic_cuda<P> const& device, std::size_t outer, std::size_t rows, std::size_t columns, Body const& body,
                  char const* doing, E const*... arrays) {
  if (outer == 0 || rows == 0 || columns == 0) return;
  if (columns % N == 0 && allows_packets<N>(arrays...))
    launch<N>(device, outer, rows, columns / N, body, doing);
  else
    launch<1>(device, outer, rows, columns, body, doing);
}

}  // namespace column_walks
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
