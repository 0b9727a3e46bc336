// A tile of a matrix product on tensor cores: both operands pass through a ring of stages in shared memory, 64 bytes of k at a
// time, and warps multiply what has arrived while the next stages are under way. For bfloat16, and for floats rounded to tf32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <dvla/kernels/cuda/gemm_finish.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::gemm_cuda {

/// A block's tile of C and its division among warps. `Resident` blocks are to fit on a multiprocessor.
template <int Rows, int Columns, int WarpRows, int WarpColumns, int Resident>
struct tensor_tile {
  static constexpr bool on_tensor_cores = true;
  static constexpr int rows = Rows, columns = Columns, warp_rows = WarpRows, warp_columns = WarpColumns, resident = Resident;
  static constexpr int threads = 32 * (Rows / WarpRows) * (Columns / WarpColumns);
  static constexpr int stages = 4, stage_depth = 64;  // in bytes of k
  static constexpr int pitch = Columns + 8;           // of finished sums: a warp's fragments are stored without bank conflicts
};

/// One stage of an operand in shared memory: Size rows of op(A), or columns of op(B), by 64 bytes of k. Across: k runs across the
/// rows of memory, which hold Size elements; else along them. ldmatrix and the copies meet in no bank. Ready: floats there are rounded
/// to tf32 already.
template <class T, int Size, bool Across, bool Ready = false>
struct stage_layout {
  static constexpr int chunk = 16 / static_cast<int>(sizeof(T)), depth = 64 / static_cast<int>(sizeof(T));
  static constexpr int rows = Across ? depth : Size, chunks = (Across ? Size : depth) / chunk;  // as in memory; chunks of 16 bytes
  // Across, ldmatrix wants an odd number of chunks from row to row; single words of four rows want two more than eight.
  static constexpr int pitch = !Across ? 64 : 16 * (sizeof(T) == 2 ? chunks | 1 : chunks + 2);
  static constexpr int bytes = rows * pitch;
  static_assert(!Across || sizeof(T) == 2 || chunks % 8 == 0);

  /// Of a chunk, in bytes.
  [[nodiscard]] __device__ static DVLA_INLINE std::uint32_t place(int row, int c) {
    return static_cast<std::uint32_t>(Across ? row * pitch + c * 16 : row * 64 + (c ^ (row >> 1 & 3)) * 16);
  }

  /// A fragment of 16 rows of the operand from `first`, a multiple of 16, and of 32 bytes of k, the `step`-th: four blocks of 8
  /// rows by 16 bytes, as multiply_add takes them. Left: word i is of block row i % 2. Right: of block row i / 2.
  template <bool Left>
  __device__ static DVLA_INLINE void load(std::uint32_t (&to)[4], std::uint32_t stage, int first, int step) {
    int const lane = static_cast<int>(threadIdx.x % 32);
    int const row = Left ? lane / 8 % 2 : lane / 16, half = Left ? lane / 16 : lane / 8 % 2;  // of the lane's block
    if constexpr (!Across) {
      tensor_core::load_matrices(to, stage + place(first + 8 * row + lane % 8, 2 * step + half));
    } else if constexpr (sizeof(T) == 2) {
      tensor_core::load_matrices_transposed(to, stage + place(16 * step + 8 * half + lane % 8, first / 8 + row));
    } else {
      std::uint32_t const at = stage + place(8 * step + lane % 4, 0) + static_cast<std::uint32_t>(first + lane / 4) * 4;
#pragma unroll
      for (int i = 0; i < 4; ++i) to[i] = tensor_core::load_word(at + place(4 * (Left ? i / 2 : i % 2), 0) + (Left ? i % 2 : i / 2) * 32);
    }
    if constexpr (std::is_same_v<T, float> && !Ready) {
#pragma unroll
      for (std::uint32_t& word : to) word = tensor_core::as_tf32(word);
    }
  }
};

/// The first `count` elements of 16 bytes to shared memory, one by one, and zeros for the rest.
template <class T>
__device__ DVLA_INLINE void copy_elements(std::uint32_t to, T const* from, int count) {
  T elements[16 / sizeof(T)];
#pragma unroll
  for (int i = 0; i < static_cast<int>(16 / sizeof(T)); ++i) elements[i] = i < count ? from[i] : T(0.0f);
  std::uint32_t words[4];
  std::memcpy(words, elements, 16);
  tensor_core::store_words(to, words);
}

/// Copies stage after stage of an operand; what lies outside the matrix or the part of k is zero.
template <class T, class Layout, bool Across, int Threads>
class stage_loader {
  static constexpr int total = Layout::rows * Layout::chunks, copies = (total + Threads - 1) / Threads;  // chunks; those of a thread

 public:
  /// From `first` of `size` rows of the operand, and k from `begin` to `end`. Whole: rows begin at multiples of 16 bytes.
  __device__ stage_loader(T const* matrix, std::size_t ld, bool whole, int first, int size, int begin, int end)
      : step_((Across ? Layout::depth * ld : std::size_t{Layout::depth}) * sizeof(T)), left_(end - begin), whole_(whole) {
#pragma unroll
    for (int i = 0; i < copies; ++i) {
      int const row = (Across ? begin : first) + row_of(i), column = (Across ? first : begin) + chunk_of(i) * Layout::chunk;
      from_[i] = reinterpret_cast<std::uintptr_t>(matrix + static_cast<std::size_t>(row) * ld + static_cast<std::size_t>(column));
      count_[i] = Across ? size - column : row < size ? Layout::chunk : 0;
    }
  }

  /// Starts copying the next stage to `to`.
  __device__ DVLA_INLINE void copy(std::uint32_t to) {
    if (whole_)
      for_chunks([&](int i, int count) {
        tensor_core::copy_async(to + Layout::place(row_of(i), chunk_of(i)), from_[i], count * static_cast<int>(sizeof(T)));
      });
    else
      for_chunks([&](int i, int count) {
        copy_elements(to + Layout::place(row_of(i), chunk_of(i)), reinterpret_cast<T const*>(from_[i]), count);
      });
#pragma unroll
    for (std::uintptr_t& from : from_) from += step_;
    left_ -= Layout::depth;
  }

 private:
  /// Calls f(i, elements) for this thread's chunks.
  template <class F>
  __device__ DVLA_INLINE void for_chunks(F f) const {
#pragma unroll
    for (int i = 0; i < copies; ++i) {
      if (total % Threads != 0 && number(i) >= total) break;
      int const there = Across ? (row_of(i) < left_ ? count_[i] : 0) : ::min(count_[i], left_ - chunk_of(i) * Layout::chunk);
      f(i, ::max(0, ::min(there, Layout::chunk)));
    }
  }
  __device__ static unsigned number(int i) { return threadIdx.x + static_cast<unsigned>(i * Threads); }
  __device__ static int row_of(int i) { return static_cast<int>(number(i) / Layout::chunks); }
  __device__ static int chunk_of(int i) { return static_cast<int>(number(i) % Layout::chunks); }

  std::uintptr_t from_[copies];  // numbers: as pointers, each would take two pairs of registers
  std::size_t step_;
  int count_[copies];  // elements from there to the matrix's end; not k's
  int left_;           // of k
  bool whole_;
};

template <class T, class Tile, bool TransA, bool TransB>
struct tensor_stages {
  using left = stage_layout<T, Tile::rows, TransA>;
  using right = stage_layout<T, Tile::columns, !TransB>;
  static constexpr int stage_bytes = left::bytes + right::bytes, ring_bytes = Tile::stages * stage_bytes;
  static constexpr int sums_bytes = Tile::rows * Tile::pitch * static_cast<int>(sizeof(float));
  static constexpr int bytes = ring_bytes > sums_bytes ? ring_bytes : sums_bytes;
};

/// A warp's sums, in fragments: blocks of 16 rows and of 16 columns.
template <class T, int RowBlocks, int ColumnBlocks>
struct warp_sums {
  float at[RowBlocks][2 * ColumnBlocks][4] = {};

  /// Adds the products of one stage: of the left operand from `row`, and of the right one from `column`.
  template <class Left, class Right>
  __device__ DVLA_INLINE void add(std::uint32_t left, int row, std::uint32_t right, int column) {
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      std::uint32_t a[RowBlocks][4], b[ColumnBlocks][4];
#pragma unroll
      for (int j = 0; j < ColumnBlocks; ++j) Right::template load<false>(b[j], right, column + 16 * j, step);
#pragma unroll
      for (int i = 0; i < RowBlocks; ++i) Left::template load<true>(a[i], left, row + 16 * i, step);
#pragma unroll
      for (int i = 0; i < RowBlocks; ++i)
#pragma unroll
        for (int j = 0; j < 2 * ColumnBlocks; ++j)
          tensor_core::multiply_add<T>(at[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }

  /// To shared memory, in rows of Pitch.
  template <int Pitch>
  __device__ DVLA_INLINE void store(float* to) const {
    int const lane = static_cast<int>(threadIdx.x % 32);
    float* const own = to + lane / 4 * Pitch + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < RowBlocks; ++i)
#pragma unroll
      for (int j = 0; j < 2 * ColumnBlocks; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          *reinterpret_cast<float2*>(own + (16 * i + 8 * half) * Pitch + 8 * j) = make_float2(at[i][j][2 * half], at[i][j][2 * half + 1]);
  }
};

template <class T, class Tile, bool TransA, bool TransB, class Epilogue>
__global__ void __launch_bounds__(Tile::threads, Tile::resident)
    tensor_kernel(__grid_constant__ tile_arguments<T> const p, __grid_constant__ Epilogue const epilogue) {
  detail::await_predecessors();
  using stages = tensor_stages<T, Tile, TransA, TransB>;
  extern __shared__ uint4 gemm_memory[];
  std::uint32_t const memory = tensor_core::shared_address(gemm_memory);
  tile_place const place(p, Tile::rows, Tile::columns);
  stage_loader<T, typename stages::left, TransA, Tile::threads> left(p.a + place.member * p.batch_stride_a, p.lda, p.whole_a, place.row,
                                                                     p.m, place.k_begin, place.k_end);
  stage_loader<T, typename stages::right, !TransB, Tile::threads> right(p.b + place.member * p.batch_stride_b, p.ldb, p.whole_b,
                                                                        place.column, p.n, place.k_begin, place.k_end);
  auto const copy = [&](int i) {
    std::uint32_t const to = memory + static_cast<std::uint32_t>(i % Tile::stages * stages::stage_bytes);
    left.copy(to);
    right.copy(to + stages::left::bytes);
  };
  int const count = (place.k_end - place.k_begin + stages::left::depth - 1) / stages::left::depth;
#pragma unroll 1
  for (int i = 0; i < Tile::stages - 1; ++i) {
    if (i < count) copy(i);
    tensor_core::copies_commit();
  }
  prefetch_rows<Tile::rows, Tile::columns, Tile::threads>(p, epilogue, place.row, place.column, place.first_row);
  constexpr int warps_a_row = Tile::columns / Tile::warp_columns;
  int const warp = static_cast<int>(threadIdx.x / 32);
  int const row = warp / warps_a_row * Tile::warp_rows, column = warp % warps_a_row * Tile::warp_columns;
  warp_sums<T, Tile::warp_rows / 16, Tile::warp_columns / 16> sums;
#pragma unroll 1
  for (int i = 0; i < count; ++i) {
    tensor_core::copies_wait<Tile::stages - 2>();
    __syncthreads();  // stage i is there, and nobody reads stage i - 1 any more
    if (i + Tile::stages - 1 < count) copy(i + Tile::stages - 1);
    tensor_core::copies_commit();
    std::uint32_t const stage = memory + static_cast<std::uint32_t>(i % Tile::stages * stages::stage_bytes);
    sums.template add<typename stages::left, typename stages::right>(stage, row, stage + stages::left::bytes, column);
  }
  tensor_core::copies_wait<0>();
  __syncthreads();
  float* const tile = reinterpret_cast<float*>(gemm_memory);
  sums.template store<Tile::pitch>(tile + row * Tile::pitch + column);
  __syncthreads();
  finish_rows<Tile::columns, Tile::pitch, Tile::threads>(p, epilogue, tile, place.first_row + static_cast<std::size_t>(place.row),
                                                         place.column, ::min(Tile::rows, p.m - place.row));
}

}  // namespace kernels::gemm_cuda
}  // namespace dvla::inline DVLA_ABI
