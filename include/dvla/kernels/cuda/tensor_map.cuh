// The copy engine of cards of compute capability 9.0 and later, which brings boxes of a tensor to shared memory by itself, with zeros
// where the tensor ends (PTX ISA, "Tensor"; CUDA driver API, "Tensor Map Object Management").
#pragma once

#include <cuda.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include <dvla/core/bfloat16.hpp>
#include <dvla/core/config.hpp>
#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/check.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace detail {

using tensor_map_encoder = decltype(&cuTensorMapEncodeTiled);

/// The driver's function that makes maps, or null where it has none.
[[nodiscard]] inline tensor_map_encoder find_tensor_map_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  auto const status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
#else
  auto const status = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
  if (status != cudaSuccess) {
    (void)cudaGetLastError();
    return nullptr;
  }
  return found == cudaDriverEntryPointSuccess ? reinterpret_cast<tensor_map_encoder>(function) : nullptr;
}

}  // namespace detail

/// A map of an operand of `shape` with `rows` rows a head, [batch, heads, rows, head_dim <= 64], whose strides are whole accesses of 16
/// bytes, of which boxes of `box_rows` rows of one head are to be copied, swizzled as wgmma.cuh reads them. One that all images share
/// has one image. False where that cannot be.
[[nodiscard]] inline bool make_tensor_map(CUtensorMap& map, attention_operand<bfloat16 const> const& x, attention_shape const& shape,
                                          std::size_t rows, unsigned box_rows) {
  static auto const encode = detail::find_tensor_map_encoder();
  if (encode == nullptr) return false;
  constexpr std::size_t element = sizeof(bfloat16);
  auto const stride = [](std::size_t size, std::size_t step) { return cuuint64_t{size == 1 ? 16 : step * element}; };
  std::size_t const batch = x.strides.batch == 0 ? 1 : shape.batch;
  std::array<cuuint64_t, 4> const sizes{shape.head_dim, rows, shape.heads, batch};
  std::array<cuuint64_t, 3> const strides{stride(rows, x.strides.token), stride(shape.heads, x.strides.head),
                                          stride(batch, x.strides.batch)};
  std::array<cuuint32_t, 4> const box{64, box_rows, 1, 1}, steps{1, 1, 1, 1};
  return encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<bfloat16*>(x.data), sizes.data(), strides.data(), box.data(),
                steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

namespace instructions {

/// Brings a map, a kernel's parameter, near.
__device__ DVLA_INLINE void prefetch_map(CUtensorMap const& map) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
#endif
}

/// Starts the copy of the box from `row` on; the barrier counts its bytes.
__device__ DVLA_INLINE void copy_box(std::uint32_t to, CUtensorMap const& map, int row, int head, int image, std::uint32_t barrier) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
      "l"(&map), "r"(0), "r"(row), "r"(head), "r"(image), "r"(barrier)
      : "memory");
#endif
}

}  // namespace instructions
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
