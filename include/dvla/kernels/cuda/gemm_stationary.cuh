// Products of many rows with a matrix small enough to stay: a block keeps its columns of op(B) in shared memory, and each team of its
// warps takes rows of A by itself, from their copies to the epilogue. So some warps compute while others wait for memory, and the
// rows of A to come are under way while an epilogue runs: what a kernel of tiles cannot do, whose blocks begin and end together.
#pragma once

#include <cstddef>
#include <cstdint>

#include <dvla/kernels/cuda/gemm_plan.cuh>
#include <dvla/kernels/cuda/gemm_tile.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::gemm_cuda {

/// What lies in shared memory: for each team of warps a ring of stages of A, then all stages of the block's columns of op(B).
/// The warps of a team share rows and divide columns.
template <class T, bool TransB>
struct stationary_tile {
  static constexpr bool across = !TransB && sizeof(T) == 2;  // floats are turned, and rounded, once for all rows
  static constexpr int rows = 32, columns = 96, warp_columns = 48, threads = 512, stages = 4;
  static constexpr int team = columns / warp_columns * 32, teams = threads / team;
  using left = stage_layout<T, rows, false>;
  using right = stage_layout<T, columns, across, true>;
  using sums = warp_sums<T, rows / 16, warp_columns / 16>;
  static constexpr int ring_bytes = stages * left::bytes, right_at = teams * ring_bytes;

  [[nodiscard]] static constexpr std::size_t stages_of(std::size_t k) { return (k + left::depth - 1) / left::depth; }
  [[nodiscard]] static constexpr std::size_t bytes(std::size_t k) { return right_at + stages_of(k) * std::size_t{right::bytes}; }
};

/// Copies a team's rows of A stage after stage: k from front to back, then the rows `stride` further on.
template <class T, class Layout, int Team>
class row_loader {
  static constexpr int rows_at_once = Team / 4, copies = Layout::rows / rows_at_once;  // four threads copy the 64 bytes of a row

 public:
  __device__ row_loader(tile_arguments<T> const& p, int row, int stride)
      : a_(reinterpret_cast<std::uintptr_t>(p.a)), pitch_(p.lda * sizeof(T)), row_(row + thread() / 4), stride_(stride), rows_(p.m),
        bytes_(p.k * static_cast<int>(sizeof(T))), at_(thread() % 4 * 16) {}

  /// Starts copying the next stage to `to`; zeros where A has ended.
  __device__ DVLA_INLINE void copy(std::uint32_t to) {
    int const there = ::max(0, ::min(16, bytes_ - at_));
    std::uintptr_t const from = a_ + static_cast<std::size_t>(row_) * pitch_ + static_cast<std::size_t>(at_);
#pragma unroll
    for (int i = 0; i < copies; ++i)
      tensor_core::copy_async(to + Layout::place(thread() / 4 + rows_at_once * i, thread() % 4),
                              from + static_cast<std::size_t>(rows_at_once * i) * pitch_,
                              row_ + rows_at_once * i < rows_ ? there : 0);
    at_ += 64;
    if (at_ - thread() % 4 * 16 >= bytes_) at_ = thread() % 4 * 16, row_ += stride_;
  }

 private:
  __device__ static int thread() { return static_cast<int>(threadIdx.x % Team); }

  std::uintptr_t a_;
  std::size_t pitch_;
  int row_, stride_, rows_, bytes_, at_;  // at: in the row, in bytes
};

/// Copies the block's columns of op(B), or starts to. Of 16 columns the tensor cores leave a thread four in two places; here the pairs of
/// columns change places so that these four are neighbours in C: pair 2 q + t lies where pair 4 t + q would.
template <class T, class Tile, bool TransB>
__device__ DVLA_INLINE void copy_columns(tile_arguments<T> const& p, int first_column, std::uint32_t to) {
  using layout = typename Tile::right;
  constexpr int size = static_cast<int>(sizeof(T));
  auto const place_of = [](int column) { return column / 16 * 16 + column / 2 % 2 * 8 + column / 4 % 4 * 2 + column % 2; };
  auto const b = reinterpret_cast<std::uintptr_t>(p.b);
  int const steps = static_cast<int>(Tile::stages_of(static_cast<std::size_t>(p.k)));
  auto const from = [&](int row, int column) {
    return b + (static_cast<std::size_t>(row) * p.ldb + static_cast<std::size_t>(column)) * size;
  };
  if constexpr (TransB) {  // a copy moves 16 bytes of k
    for (int i = static_cast<int>(threadIdx.x); i < steps * layout::rows * 4; i += Tile::threads) {
      int const stage = i / (layout::rows * 4), column = i / 4 % layout::rows, k = stage * layout::depth + i % 4 * layout::chunk;
      int const there = first_column + column < p.n ? ::max(0, ::min(16, (p.k - k) * size)) : 0;
      tensor_core::copy_async(to + static_cast<std::uint32_t>(stage * layout::bytes) + layout::place(place_of(column), i % 4),
                              from(first_column + column, k), there);
    }
  } else if constexpr (Tile::across) {  // a copy moves two columns
    for (int i = static_cast<int>(threadIdx.x); i < steps * layout::depth * Tile::columns / 2; i += Tile::threads) {
      int const k = i / (Tile::columns / 2), column = i % (Tile::columns / 2) * 2, place = place_of(column);
      tensor_core::copy_async<2 * size>(to + static_cast<std::uint32_t>(k / layout::depth * layout::bytes) +
                                            layout::place(k % layout::depth, place / layout::chunk) +
                                            static_cast<std::uint32_t>(place % layout::chunk * size),
                                        from(k, first_column + column), k < p.k && first_column + column < p.n ? 2 * size : 0);
    }
  } else {  // four columns by four k, turned and rounded on their way
    constexpr int quads = Tile::columns / 4;
    for (int i = static_cast<int>(threadIdx.x); i < steps * layout::depth / 4 * quads; i += Tile::threads) {
      int const k = i / quads * 4, column = i % quads * 4;
      std::uint32_t words[4][4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        bool const there = k + j < p.k && first_column + column < p.n;
        auto const row = there ? *reinterpret_cast<uint4 const*>(from(k + j, first_column + column)) : uint4{0, 0, 0, 0};
        words[0][j] = row.x, words[1][j] = row.y, words[2][j] = row.z, words[3][j] = row.w;
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        for (std::uint32_t& word : words[j]) word = tensor_core::as_tf32(word);
        tensor_core::store_words(to + static_cast<std::uint32_t>(k / layout::depth * layout::bytes) +
                                     layout::place(place_of(column + j), k % layout::depth / layout::chunk),
                                 words[j]);
      }
    }
  }
}

/// Rounds the block's columns of op(B), which are there, to tf32, unless they were on their way.
template <class T, class Tile, bool TransB>
__device__ DVLA_INLINE void round_columns(int k, std::uint32_t at) {
  if constexpr (std::is_same_v<T, float> && TransB) {
    int const chunks = static_cast<int>(Tile::stages_of(static_cast<std::size_t>(k))) * Tile::right::bytes / 16;
    for (int i = static_cast<int>(threadIdx.x); i < chunks; i += Tile::threads)
      tensor_core::round_words(at + static_cast<std::uint32_t>(16 * i));
    __syncthreads();
  }
}

/// Hands a warp's sums to the epilogue in packets of four: four lanes reach 32 bytes of a row of bfloat16, or 64 of floats.
template <class T, class Epilogue, int RowBlocks, int ColumnBlocks>
__device__ DVLA_INLINE void finish_sums(tile_arguments<T> const& p, Epilogue const& epilogue, warp_sums<T, RowBlocks, ColumnBlocks>& sums,
                                        int first_row, int first_column) {
  int const lane = static_cast<int>(threadIdx.x % 32), row = first_row + lane / 4;
  auto const column = static_cast<std::size_t>(first_column + 4 * (lane % 4));
  if (p.alpha != 1) {
#pragma unroll
    for (int i = 0; i < RowBlocks * 2 * ColumnBlocks * 4; ++i)
      sums.at[i / (2 * ColumnBlocks * 4)][i / 4 % (2 * ColumnBlocks)][i % 4] *= p.alpha;
  }
  auto const packet_at = [&](int i, std::size_t j) {
    float const *const low = sums.at[i / 2][2 * j] + i % 2 * 2, *const high = sums.at[i / 2][2 * j + 1] + i % 2 * 2;
    packet<float, 4> out;
    out.at[0] = low[0], out.at[1] = low[1], out.at[2] = high[0], out.at[3] = high[1];
    return out;
  };
  constexpr int together = 2;  // groups of 8 rows
#pragma unroll
  for (int first = 0; first < 2 * RowBlocks; first += together) {
    if constexpr (requires { epilogue.template load<4>(std::size_t{}, std::size_t{}); }) {
      decltype(epilogue.template load<4>(std::size_t{}, std::size_t{})) loaded[together][ColumnBlocks];
#pragma unroll
      for (int i = 0; i < together; ++i)
        if (row + 8 * (first + i) < p.m) {
#pragma unroll
          for (std::size_t j = 0; j < ColumnBlocks; ++j)
            loaded[i][j] = epilogue.template load<4>(static_cast<std::size_t>(row + 8 * (first + i)), column + 16 * j);
        }
#pragma unroll
      for (int i = 0; i < together; ++i)
        if (row + 8 * (first + i) < p.m) {
#pragma unroll
          for (std::size_t j = 0; j < ColumnBlocks; ++j)
            epilogue.template finish<4>(static_cast<std::size_t>(row + 8 * (first + i)), column + 16 * j, packet_at(first + i, j),
                                        loaded[i][j]);
        }
    } else {
#pragma unroll
      for (int i = first; i < first + together; ++i)
        if (row + 8 * i < p.m) {
#pragma unroll
          for (std::size_t j = 0; j < ColumnBlocks; ++j)
            epilogue.template finish<4>(static_cast<std::size_t>(row + 8 * i), column + 16 * j, packet_at(i, j));
        }
    }
  }
}

template <class T, bool TransB, class Epilogue>
__global__ void __launch_bounds__(stationary_tile<T, TransB>::threads, 1)
    stationary_kernel(__grid_constant__ tile_arguments<T> const p, __grid_constant__ Epilogue const epilogue) {
  detail::await_predecessors();
  using tile = stationary_tile<T, TransB>;
  using left = typename tile::left;
  using right = typename tile::right;
  extern __shared__ uint4 gemm_memory[];
  std::uint32_t const memory = tensor_core::shared_address(gemm_memory), right_memory = memory + tile::right_at;
  int const team = static_cast<int>(threadIdx.x) / tile::team, steps = static_cast<int>(tile::stages_of(static_cast<std::size_t>(p.k)));
  int const block_column = static_cast<int>(blockIdx.x % p.column_tiles) * tile::columns;
  int const warp_column = static_cast<int>(threadIdx.x) % tile::team / 32 * tile::warp_columns;
  int const stride = static_cast<int>(gridDim.x / p.column_tiles) * tile::teams * tile::rows;
  int const first_row = (static_cast<int>(blockIdx.x / p.column_tiles) * tile::teams + team) * tile::rows;

  copy_columns<T, tile, TransB>(p, block_column, right_memory);
  tensor_core::copies_commit();
  std::uint32_t const ring = memory + static_cast<std::uint32_t>(team * tile::ring_bytes);
  row_loader<T, left, tile::team> rows(p, first_row, stride);
  for (int i = 0; i < tile::stages - 1; ++i) {
    rows.copy(ring + static_cast<std::uint32_t>(i * left::bytes));
    tensor_core::copies_commit();
  }
  tensor_core::copies_wait<tile::stages - 1>();
  __syncthreads();  // the columns are there, for all warps
  round_columns<T, tile, TransB>(p.k, right_memory);

  std::uint32_t at = 0;  // in the ring
#pragma unroll 1
  for (int row = first_row; row < p.m; row += stride) {
    prefetch_rows<tile::rows, tile::columns, tile::team>(p, epilogue, row, block_column);
    typename tile::sums sums;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      tensor_core::copies_wait<tile::stages - 2>();
      tensor_core::await_threads<tile::team>(1 + team);  // this stage is there, and no warp reads the one before it any more
      rows.copy(ring + (at + (tile::stages - 1) * left::bytes) % tile::ring_bytes);
      tensor_core::copies_commit();
      sums.template add<left, right>(ring + at, 0, right_memory + static_cast<std::uint32_t>(step * right::bytes), warp_column);
      at = (at + left::bytes) % tile::ring_bytes;
    }
    if (block_column + warp_column < p.n) finish_sums<T>(p, epilogue, sums, row, block_column + warp_column);
  }
  tensor_core::copies_wait<0>();
}

/// Whether the product can be computed like this: its rows are whole, and its columns fit.
template <class T, class Problem, class Epilogue>
[[nodiscard]] bool can_be_stationary(Problem const& p, cuda_queue const& queue, Epilogue const& epilogue) {
  using tile = stationary_tile<T, false>;
  constexpr std::size_t most_rows = std::size_t{1} << 30;
  return !p.trans_a && p.batch == 1 && p.m <= most_rows && p.n % tile::warp_columns == 0 && epilogue.template takes_packets<4>() &&
         has_whole_rows(p.a, p.lda, 1, 0) && has_whole_rows(p.b, p.ldb, 1, 0) && tile::bytes(p.k) <= queue.shared_memory() &&
         detail::blocks_of(p.n, tile::columns) <= static_cast<unsigned>(queue.multiprocessors());
}

/// Whether it is also likely to be the fastest way: every team has rows to take several times, and the depth is one that it hides (384
/// took longer than the library's product and a pass in all that was measured).
template <class T, class Problem, class Epilogue>
[[nodiscard]] bool should_be_stationary(Problem const& p, cuda_queue const& queue, Epilogue const& epilogue) {
  using tile = stationary_tile<T, false>;
  std::size_t const column_tiles = (p.n + tile::columns - 1) / tile::columns;
  std::size_t const teams = static_cast<std::size_t>(queue.multiprocessors()) / column_tiles * tile::teams;
  return p.k <= 192 && p.m > 2 * teams * tile::rows && can_be_stationary<T>(p, queue, epilogue);
}

/// The product alpha A op(B), finished by the epilogue, for what can be computed so.
template <bool TransB, precision P, class T, class R, class Epilogue>
void multiply_stationary(basic_cuda<P> const& device, gemm_problem<T, R> const& p, Epilogue const& epilogue) {
  using tile = stationary_tile<T, TransB>;
  auto const arguments = arguments_of<tile, T>(p, {0, 0, static_cast<int>(p.k), 1}, true);
  unsigned const most = static_cast<unsigned>(device.queue->multiprocessors()) / arguments.column_tiles;
  unsigned const useful = detail::blocks_of(p.m, tile::rows * tile::teams);
  auto* const kernel = &stationary_kernel<T, TransB, Epilogue>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(tile::bytes(p.k))),
             "asking for shared memory");
  detail::start(*device.queue, "running a matrix product", kernel, std::min(most, useful) * arguments.column_tiles, tile::threads,
                tile::bytes(p.k), arguments, epilogue);
}

/// The same where that is likely to be the fastest way and B is transposed or not, as said; false, and nothing done, elsewhere.
template <bool TransB, precision P, class T, class R, class Epilogue>
[[nodiscard]] bool try_stationary(basic_cuda<P> const& device, gemm_problem<T, R> const& p, Epilogue const& epilogue) {
  if constexpr (tensor_core::takes<P, T>) {
    if (p.trans_b != TransB || p.k == 0 || p.alpha == 0 || !should_be_stationary<T>(p, *device.queue, epilogue)) return false;
    multiply_stationary<TransB>(device, p, epilogue);
    return true;
  }
  return false;
}

}  // namespace kernels::gemm_cuda
}  // namespace dvla::inline DVLA_ABI
