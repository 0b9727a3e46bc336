// When attention runs on tensor cores, and in which blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/attention_tile.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

/// Whether T is multiplied by tensor cores at all.
template <precision P, class T>
inline constexpr bool has_tensor_cores = std::is_same_v<T, bfloat16> || (P == precision::tf32 && std::is_same_v<T, float>);

/// Whether the rows of all operands begin at multiples of 16 bytes. Absent operands do.
template <class... T>
[[nodiscard]] bool have_whole_accesses(attention_operand<T> const&... operands) {
  auto const whole = [](auto const& x) {
    std::size_t const element = sizeof(*x.data);
    return x.data == nullptr || (reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && x.strides.batch * element % 16 == 0 &&
                                 x.strides.head * element % 16 == 0 && x.strides.token * element % 16 == 0);
  };
  return (whole(operands) && ...);
}

/// Whether such accesses make up a row; and whether scores grow with products, as the search for their maximum assumes.
template <class T>
[[nodiscard]] bool has_tensor_shape(attention_shape const& shape, arithmetic_t<T> scale) {
  return shape.head_dim * sizeof(T) % 16 == 0 && shape.head_dim <= 128 && shape.keys > 0 && scale > 0;
}

/// Calls f with the compiled length that holds rows of head_dim elements, as a type, and returns what it does.
template <class F>
auto with_padded_dim(std::size_t head_dim, F f) {
  if (head_dim <= 32) return f(std::integral_constant<int, 32>{});
  if (head_dim <= 48) return f(std::integral_constant<int, 48>{});
  if (head_dim <= 64) return f(std::integral_constant<int, 64>{});
  return f(std::integral_constant<int, 128>{});
}

/// How the tiles of rows of one head are dealt out: every block takes one a warp, again and again until none is left.
struct tile_plan {
  unsigned warps, blocks;  // warps of a block, blocks of a head
  friend bool operator==(tile_plan const&, tile_plan const&) = default;
};

/// Whether one block a head fills the card.
[[nodiscard]] inline bool heads_fill(std::size_t heads, cuda_queue const& queue) {
  return 2 * heads >= 3 * static_cast<std::size_t>(queue.multiprocessors());
}

/// For tiles of `tile` rows. Blocks have at most `most` warps. One block a head where that fills the card, so that the other side is
/// fetched once; else one a round.
[[nodiscard]] inline tile_plan plan_tiles(std::size_t rows, std::size_t heads, std::size_t most, cuda_queue const& queue,
                                          std::size_t tile = tile_rows) {
  std::size_t const tiles = (rows + tile - 1) / tile, rounds = (tiles + most - 1) / most;
  return {static_cast<unsigned>((tiles + rounds - 1) / rounds), heads_fill(heads, queue) ? 1u : static_cast<unsigned>(rounds)};
}

/// Launches a kernel that may use all of the shared memory.
template <auto Kernel, class Arguments>
void launch(cuda_queue& queue, std::size_t blocks, unsigned warps, std::size_t shared_bytes, Arguments const& arguments) {
  unsigned const grid = detail::blocks_of(blocks, 1);
  cuda_check(cudaFuncSetAttribute(Kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
             "asking for shared memory");
  cuda_check(cudaFuncSetAttribute(Kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared),
             "asking for shared memory");
  detail::start(queue, "running attention", Kernel, grid, 32 * warps, shared_bytes, arguments);
}

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
