// Batch normalisation with a batch's own statistics in one kernel, forward or backward: sums down the columns, a barrier of all
// blocks, and the pass over the rows that needs those sums. What a thread has read before the barrier waits in shared memory for
// the second pass, as far as it fits; the rest is read again, for the most part from L2.
#pragma once

#include <algorithm>
#include <type_traits>

#include <dvla/kernels/batch_rows.hpp>
#include <dvla/kernels/cuda/grid_barrier.cuh>
#include <dvla/kernels/cuda/moments.cuh>
#include <dvla/kernels/cuda/norm_bodies.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace batch_norms {

/// Threads of a block: for x up to so many bytes, and for floats in rows of more than 16 up to more, which one kernel takes forward
/// alone. What is larger yet, and backward has twice the operands, is read no slower by kernels of many blocks, two or three of them;
/// but rows in two parts are up to the larger size, for which those kernels would have to run twice.
inline constexpr unsigned whole_threads = 512, whole_threads_of_large = 1024;
inline constexpr std::size_t whole_bytes = std::size_t{16} << 20, whole_bytes_of_large = std::size_t{32} << 20;

/// Shared memory for rows that wait, of the one block of a multiprocessor: what every card has, and room for another stream's kernels.
inline constexpr std::size_t whole_memory = std::size_t{88} << 10;

/// How rows x columns are shared out. Tiles of neighbouring columns lie side by side, each cut into the same parts of its rows; a
/// block has one part of one tile.
struct whole_layout {
  std::size_t rows, columns, part_rows;
  unsigned tiles, parts;

  [[nodiscard]] __device__ std::size_t rows_of(unsigned part) const { return part + 1 < parts ? part_rows : rows - part * part_rows; }
};

/// What a thread has of its block's part: a packet of N columns in every `lanes`-th row.
template <int N, int TileColumns, unsigned Threads>
struct whole_place {
  static constexpr unsigned width = TileColumns / N, lanes = Threads / width;
  unsigned tile, part, beside, count;  // beside: the packet's first column within the tile; count: rows
  std::size_t column, first;           // the packet's first column, the thread's first row

  __device__ whole_place(whole_layout const& l, unsigned block)
      : tile(block % l.tiles), part(block / l.tiles), beside(threadIdx.x % width * N) {
    unsigned const lane = threadIdx.x / width;
    column = std::size_t{tile} * TileColumns + beside;
    first = part * l.part_rows + lane;
    std::size_t const rows = l.rows_of(part);
    count = column < l.columns && lane < rows ? static_cast<unsigned>((rows - lane + lanes - 1) / lanes) : 0;
  }
};

/// The forward pass: moments, then normalised rows.
template <class X, activation A>
struct whole_forward {
  static constexpr bool takes_large = std::is_same_v<X, float>;  // packets of eight leave 1024 threads too few registers
  using number = arithmetic_t<X>;
  using parts_type = column_sums::moment_parts;
  template <int N>
  using operands = raw_packet<X, N>;
  apply_body<X, A> apply;
  observe_finish<X> finish;

  template <int N>
  struct thread_sums {
    X const* from;
    std::size_t step;
    column_sums::moment_sums<N, X> sums;
    packet<number, N> common;
    __device__ operands<N> load(std::size_t row) const { return load_raw<N>(from + row * step); }
    __device__ void add(operands<N> const& loaded) { sums.add(loaded); }
    __device__ void totals(unsigned count, double (&total)[2 * N]) const { sums.totals(count, common, total); }
  };
  template <int N>
  __device__ thread_sums<N> begin(std::size_t top, std::size_t first, std::size_t c) const {
    X const* const from = apply.x + c;
    return {from, apply.channels, column_sums::moment_sums<N, X>(load_packet<number, N>(from + first * apply.channels)),
            load_packet<number, N>(from + top * apply.channels)};
  }
  [[nodiscard]] static parts_type parts(whole_layout const& l, double* memory) {
    return {{memory, l.columns, l.parts}, l.part_rows, l.rows};
  }
  [[nodiscard]] __device__ double reference(std::size_t c) const { return static_cast<double>(apply.x[c]); }
  __device__ void conclude_part(std::size_t top, std::size_t rows, std::size_t c, double reference, double (&total)[2]) const {
    column_sums::conclude_part(rows, static_cast<double>(apply.x[top * apply.channels + c]) - reference, total[0], total[1]);
  }
  __device__ void settle(std::size_t c, double reference, double const (&total)[2], bool store, number (&out)[2]) const {
    finish.settle(c, reference, total, store, out);
  }

  template <int N>
  struct second_pass {
    typename apply_body<X, A>::template kept<N> columns;
    __device__ operands<N> complete(std::size_t, operands<N> const& loaded) const { return loaded; }
    __device__ void store(std::size_t row, operands<N> const& loaded) const { columns.store(row, loaded); }
  };
  template <int N>
  __device__ second_pass<N> pass(std::size_t c, packet<number, N> const& mean, packet<number, N> const& inverse_std) const {
    return {apply.template columns_with<N>(c, mean, inverse_std)};
  }
};

/// The backward pass: sums of the gradient and of its products, then the input's gradient.
template <class X, activation A>
struct whole_backward {
  static constexpr bool takes_large = false;
  using number = arithmetic_t<X>;
  using parts_type = column_sums::plain_parts<2>;
  template <int N>
  using operands = typename gradient_terms<X, A>::template kept<N>::operands;
  gradient_terms<X, A> terms;
  gradient_finish<number> finish;
  input_gradient_body<X, A> body;

  template <int N>
  struct thread_sums {
    typename gradient_terms<X, A>::template kept<N> columns;
    packet<number, N> sums[2];
    __device__ operands<N> load(std::size_t row) const { return columns.load(row); }
    __device__ void add(operands<N> const& loaded) { columns.add(loaded, sums); }
    __device__ void totals(unsigned, double (&total)[2 * N]) const {
#pragma unroll
      for (int m = 0; m < 2 * N; ++m) total[m] = static_cast<double>(sums[m / N].at[m % N]);
    }
  };
  template <int N>
  __device__ thread_sums<N> begin(std::size_t, std::size_t, std::size_t c) const {
    return {terms.template columns<N>(0, c), {packet<number, N>(number(0)), packet<number, N>(number(0))}};
  }
  [[nodiscard]] static parts_type parts(whole_layout const& l, double* memory) { return {memory, l.columns, l.parts}; }
  [[nodiscard]] __device__ double reference(std::size_t) const { return 0; }
  __device__ void conclude_part(std::size_t, std::size_t, std::size_t, double, double (&)[2]) const {}
  __device__ void settle(std::size_t c, double, double const (&total)[2], bool store, number (&out)[2]) const {
    finish.settle(c, total, store, out);
  }

  template <int N>
  struct second_pass {
    using all_operands = typename input_gradient_body<X, A>::template operands<N>;
    typename input_gradient_body<X, A>::template kept<N> columns;
    __device__ all_operands complete(std::size_t row, operands<N> const& loaded) const {
      all_operands out{loaded.x, loaded.dy, {}};
      if (columns.accumulate) out.dx = load_raw<N>(columns.dx + row * columns.step);
      return out;
    }
    __device__ void store(std::size_t row, all_operands const& loaded) const { columns.store(row, loaded); }
  };
  template <int N>
  __device__ second_pass<N> pass(std::size_t c, packet<number, N> const& offset, packet<number, N> const& tilt) const {
    return {body.template columns_with<N>(c, offset, tilt, true)};
  }
};

/// Adds values over the lanes of a warp that are a multiple of Width apart. Each of them keeps a share of the sums: those from the
/// index returned on, as many as are left after halving M once a step.
template <unsigned Width, int M, unsigned Step = 16, int All>
__device__ DVLA_INLINE int share_sums(double (&value)[All]) {
  if constexpr (Step < Width) {
    return 0;
  } else {
    constexpr int half = M / 2;
    bool const upper = (threadIdx.x & Step) != 0;
#pragma unroll
    for (int m = 0; m < half; ++m) {
      double const passed = __shfl_xor_sync(0xFFFFFFFFu, upper ? value[m] : value[half + m], Step);
      value[m] = (upper ? value[half + m] : value[m]) + passed;
    }
    return (upper ? half : 0) + share_sums<Width, half, Step / 2>(value);
  }
}

/// The sums of a block's threads: thread c of the tile's columns gets those of its column. `values` is the block's to use.
template <int N, int TileColumns, unsigned Threads>
__device__ void join_threads(unsigned beside, double (&total)[2 * N], double (&values)[2][Threads], double (&of_column)[2]) {
  constexpr unsigned width = TileColumns / N, warps = Threads / 32;
  constexpr int left = 2 * TileColumns / 32;
  int const index = share_sums<width, 2 * N>(total);
#pragma unroll
  for (int m = 0; m < left; ++m)
    values[(index + m) / N][threadIdx.x / 32 * TileColumns + beside + static_cast<unsigned>((index + m) % N)] = total[m];
  __syncthreads();
  if (threadIdx.x >= TileColumns) return;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    of_column[k] = 0;
#pragma unroll
    for (unsigned w = 0; w < warps; ++w) of_column[k] += values[k][w * TileColumns + threadIdx.x];
  }
}

/// The same of the parts that the blocks of a tile have left.
template <int TileColumns, unsigned Threads, class Parts>
__device__ void join_parts(std::size_t first_column, Parts const& parts, double (&values)[2][Threads], double (&of_column)[2]) {
  constexpr unsigned slots = Threads / TileColumns;
  std::size_t const column = first_column + threadIdx.x % TileColumns;
  double total[2] = {};
  bool const inside = column < parts.columns;
  double const reference = inside ? static_cast<double>(parts.begin(0, column)) : 0;
  if (inside)
    in_batches<4>(
        threadIdx.x / TileColumns, parts.parts, slots, [&](std::size_t part) { return parts.load(0, part, column); },
        [&](std::size_t part, auto const& loaded) { parts.add(reference, part, loaded, total); });
  values[0][threadIdx.x] = total[0];
  values[1][threadIdx.x] = total[1];
  __syncthreads();
  if (threadIdx.x >= TileColumns) return;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    of_column[k] = 0;
#pragma unroll
    for (unsigned s = 0; s < slots; ++s) of_column[k] += values[k][s * TileColumns + threadIdx.x];
  }
  if (inside) parts.conclude(reference, of_column);
}

/// What some of a kernel's blocks work on: rows that share their statistics.
template <class Pass>
struct whole_work {
  whole_layout layout;
  Pass pass;
  typename Pass::parts_type parts;
};

/// What a kernel works on: all rows, or those that are normalised apart and then the rest. A tile's first block of the first work, which
/// has fewer rows than the others, settles what both works leave, one after the other.
template <class Pass>
struct whole_works {
  whole_work<Pass> at[2];
  unsigned count, first_blocks;  // works, and blocks of the first
  unsigned parts, kept;          // blocks of a tile in all, and rows of a thread that wait in shared memory
};

template <int N, int TileColumns, unsigned Threads, class Pass>
__global__ void __launch_bounds__(Threads, 1)
    whole_kernel(__grid_constant__ whole_works<Pass> const works, grid_barrier* const barriers) {
  detail::await_results();
  using number = typename Pass::number;
  using operands = typename Pass::template operands<N>;
  using place = whole_place<N, TileColumns, Threads>;
  extern __shared__ uint4 memory[];
  operands* const kept = reinterpret_cast<operands*>(memory) + threadIdx.x;
  __shared__ double values[2][Threads];
  __shared__ alignas(16) number coefficients[2][TileColumns];
  constexpr unsigned together = 4;

  unsigned const mine = blockIdx.x < works.first_blocks ? 0 : 1;
  auto const& [l, pass, parts] = works.at[mine];
  place const at(l, blockIdx.x - (mine == 0 ? 0 : works.first_blocks));
  bool const leads = at.part == 0 && mine == 0;
  detail::block_barrier const barrier(barriers[at.tile]);
  std::size_t const top = at.part * l.part_rows;
  double total[2 * N] = {};
  auto const row_of = [&](unsigned i) { return at.first + std::size_t{i} * place::lanes; };
  if (at.count > 0) {
    auto sums = pass.template begin<N>(top, at.first, at.column);
    for (unsigned i = 0; i < at.count; i += together) {
      operands loaded[together];
#pragma unroll
      for (unsigned j = 0; j < together; ++j) loaded[j] = sums.load(row_of(::min(i + j, at.count - 1)));
#pragma unroll
      for (unsigned j = 0; j < together; ++j) {
        if (i + j >= at.count) break;
        sums.add(loaded[j]);
        if (i + j < works.kept) kept[(i + j) * Threads] = loaded[j];
      }
    }
    sums.totals(at.count, total);
  }

  std::size_t const first_column = std::size_t{at.tile} * TileColumns, own = first_column + threadIdx.x;
  bool const has_column = threadIdx.x < TileColumns && own < l.columns;
  // Read before anything is written: y may be x.
  double const reference = has_column ? pass.reference(own) : 0;
  double const reference_of_rest = has_column && leads ? works.at[works.count - 1].pass.reference(own) : 0;
  double of_column[2];
  join_threads<N, TileColumns, Threads>(at.beside, total, values, of_column);
  if (has_column) pass.conclude_part(top, l.rows_of(at.part), own, reference, of_column);
  number ready[2];
  if (works.parts > 1) {
    if (has_column) {
      double* const to = parts.first(0, at.part, own);
      to[0] = of_column[0];
      to[l.columns] = of_column[1];
    }
    barrier.await(works.parts, leads);
    detail::release_successors();
    join_parts<TileColumns, Threads>(first_column, parts, values, of_column);
    if (has_column) pass.settle(own, reference, of_column, leads, ready);
    if (leads && works.count > 1) {
      __syncthreads();  // before `values` are written again
      join_parts<TileColumns, Threads>(first_column, works.at[1].parts, values, of_column);
      number of_rest[2];
      if (has_column) works.at[1].pass.settle(own, reference_of_rest, of_column, true, of_rest);
    }
  } else {
    detail::release_successors();
    if (has_column) pass.settle(own, reference, of_column, true, ready);
  }
  if (has_column) {
    coefficients[0][threadIdx.x] = ready[0];
    coefficients[1][threadIdx.x] = ready[1];
  }
  __syncthreads();
  if (at.count == 0) return;

  auto const again = pass.template begin<N>(top, at.first, at.column);
  auto const rest = pass.template pass<N>(at.column, load_packet<number, N>(&coefficients[0][at.beside]),
                                          load_packet<number, N>(&coefficients[1][at.beside]));
  for (unsigned i = 0; i < at.count; i += together) {
    decltype(rest.complete(0, kept[0])) loaded[together];
#pragma unroll
    for (unsigned j = 0; j < together; ++j) {
      unsigned const n = ::min(i + j, at.count - 1);
      loaded[j] = rest.complete(row_of(n), n < works.kept ? kept[n * Threads] : again.load(row_of(n)));
    }
#pragma unroll
    for (unsigned j = 0; j < together; ++j)
      if (i + j < at.count) rest.store(row_of(i + j), loaded[j]);
  }
}

/// How many of a tile's `blocks` take part p of the rows: by their number, the first part rather too many.
[[nodiscard]] inline std::size_t blocks_of_part(batch_rows rows, std::size_t p, std::size_t blocks) {
  if (rows.parts() == 1) return blocks;
  std::size_t const first = std::clamp<std::size_t>(column_walks::divide_up(blocks * rows.apart, rows.all), 1, blocks - 1);
  return p == 0 ? first : blocks - first;
}

template <int N, int TileColumns, unsigned Threads, precision P, class PassOf>
void launch_whole(basic_cuda<P> const& device, batch_rows rows, std::size_t columns, PassOf const& pass_of, char const* doing) {
  using column_walks::divide_up;
  using Pass = decltype(pass_of(0));
  constexpr std::size_t lanes = whole_place<N, TileColumns, Threads>::lanes;
  constexpr std::size_t row_bytes = Threads * sizeof(typename Pass::template operands<N>);
  auto const kernel = whole_kernel<N, TileColumns, Threads, Pass>;
  std::size_t const tiles = divide_up(columns, TileColumns), blocks = static_cast<std::size_t>(device.queue->multiprocessors()) / tiles;
  whole_works<Pass> works{{}, static_cast<unsigned>(rows.parts()), 0, 0, 0};
  std::size_t longest = 0;
  for (std::size_t p = 0; p < rows.parts(); ++p) {
    std::size_t const wanted = std::min(divide_up(rows.of(p), lanes), blocks_of_part(rows, p, blocks));
    std::size_t const part_rows = divide_up(rows.of(p), wanted), parts = divide_up(rows.of(p), part_rows);
    works.at[p].layout = {rows.of(p), columns, part_rows, static_cast<unsigned>(tiles), static_cast<unsigned>(parts)};
    works.at[p].pass = pass_of(p);
    works.parts += works.at[p].layout.parts;
    longest = std::max(longest, part_rows);
  }
  works.first_blocks = works.at[0].layout.parts * static_cast<unsigned>(tiles);
  works.kept = static_cast<unsigned>(std::min(divide_up(longest, lanes), whole_memory / row_bytes));
  detail::device_scratch<double> const memory(device, works.parts == 1 ? 0 : 2 * works.parts * columns);
  works.at[0].parts = Pass::parts(works.at[0].layout, memory.data());
  works.at[1].parts = Pass::parts(works.at[1].layout, memory.data() + 2 * works.at[0].layout.parts * columns);
  std::size_t const kept_bytes = works.kept * row_bytes;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kept_bytes)),
             "asking for shared memory");
  detail::start_together(*device.queue, doing, kernel, works.parts * static_cast<unsigned>(tiles), Threads, kept_bytes, works,
                         device.queue->barriers());
}

/// Runs a pass in one kernel, or tells that it does not: for a batch that is large, for rows that are not whole packets or wider than a
/// tile for every multiprocessor. pass_of(p) is the pass of part p of the rows.
template <precision P, class PassOf, class E, class... Same>
[[nodiscard]] bool run_whole(basic_cuda<P> const& device, batch_rows rows, std::size_t columns, PassOf const& pass_of, char const* doing,
                             E const* x, Same const*... others) {
  constexpr int n = packet_of<E>;
  constexpr bool more_threads = decltype(pass_of(0))::takes_large;
  std::size_t const tiles = column_walks::divide_up(columns, 32), bytes = rows.all * columns * sizeof(E);
  std::size_t const most = columns > 16 && (more_threads || rows.parts() == 2) ? whole_bytes_of_large : whole_bytes;
  if (bytes == 0 || bytes > most || tiles * rows.parts() > static_cast<std::size_t>(device.queue->multiprocessors())) return false;
  if (columns % n != 0 || !allows_packets<n>(x, others...)) return false;
  if constexpr (more_threads)
    if (bytes > whole_bytes) {
      launch_whole<n, 32, whole_threads_of_large>(device, rows, columns, pass_of, doing);
      return true;
    }
  if (columns > 16) launch_whole<n, 32, whole_threads>(device, rows, columns, pass_of, doing);
  else launch_whole<n, 16, whole_threads>(device, rows, columns, pass_of, doing);
  return true;
}

}  // namespace batch_norms
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
