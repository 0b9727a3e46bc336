// A tile of a matrix product in plain arithmetic of T: products of double, and of float where nothing may be rounded.
#pragma once

#include <cstddef>

#include <dvla/kernels/cuda/gemm_finish.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels::gemm_cuda {

/// 128 x 64 elements of C by 256 threads, 8 x 4 each. The rows in shared memory are a few elements longer, for the banks.
struct plain_tile {
  static constexpr bool on_tensor_cores = false;
  static constexpr int rows = 128, columns = 64, threads = 256, resident = 2, depth = 16, thread_rows = 8, thread_columns = 4;
  static constexpr int left_pitch = rows + 4, right_pitch = columns + 4, finished_rows = 32;  // at a time
  template <class T>
  static constexpr int bytes = depth * (left_pitch + right_pitch) * static_cast<int>(sizeof(T));
};

/// A thread's elements of a 16 deep slab of an operand of Size rows (of op(A), or columns of op(B)), in registers on their way to
/// shared memory.
template <class T, int Size>
class plain_slab {
  static constexpr int count = Size * plain_tile::depth / plain_tile::threads;

 public:
  /// From `first` of `size` rows and k from `begin`; outside of the matrix and from `end` on they are zero. Across: k runs across
  /// the rows of memory.
  __device__ DVLA_INLINE void load(T const* matrix, std::size_t ld, bool across, int first, int size, int begin, int end) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      int const row = first + row_of(i, across), k = begin + depth_of(i, across);
      std::size_t const line = static_cast<std::size_t>(across ? k : row), within = static_cast<std::size_t>(across ? row : k);
      at_[i] = row < size && k < end ? matrix[line * ld + within] : T(0);
    }
  }

  __device__ DVLA_INLINE void store(T* shared, int pitch, bool across) const {
#pragma unroll
    for (int i = 0; i < count; ++i) shared[depth_of(i, across) * pitch + row_of(i, across)] = at_[i];
  }

 private:
  // Neighbouring threads take neighbours in memory.
  __device__ static int number(int i) { return static_cast<int>(threadIdx.x) + i * plain_tile::threads; }
  __device__ static int row_of(int i, bool across) { return across ? number(i) % Size : number(i) / plain_tile::depth; }
  __device__ static int depth_of(int i, bool across) { return across ? number(i) / Size : number(i) % plain_tile::depth; }

  T at_[count];
};

template <class T, class Epilogue>
__global__ void __launch_bounds__(plain_tile::threads)
    plain_kernel(__grid_constant__ tile_arguments<T> const p, __grid_constant__ Epilogue const epilogue) {
  detail::await_predecessors();
  using tile = plain_tile;
  extern __shared__ uint4 gemm_memory[];
  T* const shared = reinterpret_cast<T*>(gemm_memory);
  T* const shared_right = shared + tile::depth * tile::left_pitch;
  tile_place const place(p, tile::rows, tile::columns);
  T const* const a = p.a + place.member * p.batch_stride_a;
  T const* const b = p.b + place.member * p.batch_stride_b;
  int const x = static_cast<int>(threadIdx.x) % (tile::columns / tile::thread_columns) * tile::thread_columns;
  int const y = static_cast<int>(threadIdx.x) / (tile::columns / tile::thread_columns) * tile::thread_rows;
  T sums[tile::thread_rows][tile::thread_columns] = {};
  plain_slab<T, tile::rows> left;
  plain_slab<T, tile::columns> right;
  auto const load = [&](int k) {
    left.load(a, p.lda, p.trans_a, place.row, p.m, k, place.k_end);
    right.load(b, p.ldb, !p.trans_b, place.column, p.n, k, place.k_end);
  };
  load(place.k_begin);
#pragma unroll 1
  for (int k = place.k_begin; k < place.k_end; k += tile::depth) {
    left.store(shared, tile::left_pitch, p.trans_a);
    right.store(shared_right, tile::right_pitch, !p.trans_b);
    __syncthreads();
    load(k + tile::depth);
#pragma unroll 4
    for (int l = 0; l < tile::depth; ++l) {
      auto const u = load_packet<T, tile::thread_rows>(shared + l * tile::left_pitch + y);
      auto const v = load_packet<T, tile::thread_columns>(shared_right + l * tile::right_pitch + x);
#pragma unroll
      for (int i = 0; i < tile::thread_rows; ++i)
#pragma unroll
        for (int j = 0; j < tile::thread_columns; ++j) sums[i][j] += u.at[i] * v.at[j];
    }
    __syncthreads();
  }
#pragma unroll 1
  for (int first = 0; first < tile::rows; first += tile::finished_rows) {
    if (y / tile::finished_rows * tile::finished_rows == first) {
#pragma unroll
      for (int i = 0; i < tile::thread_rows; ++i)
#pragma unroll
        for (int j = 0; j < tile::thread_columns; ++j) shared[(y - first + i) * tile::right_pitch + x + j] = sums[i][j];
    }
    __syncthreads();
    std::size_t const first_row = place.first_row + static_cast<std::size_t>(place.row + first);
    finish_rows<tile::columns, tile::right_pitch, tile::threads>(p, epilogue, shared, first_row, place.column,
                                                                 ::min(tile::finished_rows, p.m - place.row - first));
    __syncthreads();
  }
}

}  // namespace kernels::gemm_cuda
}  // namespace dvla::inline DVLA_ABI
