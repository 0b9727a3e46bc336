// Into what the work of attention's tensor core kernels is cut, by element and length of a row.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

/// A warp's 16 queries times `tiles`; 16 keys times `step` (1, 2 or 4) between two looks at the weights; warps of a block at most,
/// and blocks that are to share a multiprocessor, which limit the registers of a thread to 65536 / (32 warps blocks).
struct forward_tiling {
  int tiles, step;
  unsigned warps, blocks;
};

/// By choice; the first is the library's.
template <class T, int D>
inline constexpr std::array forward_tilings{forward_tiling{1, 4, 8, 2}, forward_tiling{1, 2, 4, 4}, forward_tiling{2, 2, 4, 2}};
template <>
inline constexpr std::array forward_tilings<bfloat16, 64>{
    forward_tiling{2, 4, 4, 2}, forward_tiling{2, 2, 4, 2}, forward_tiling{2, 1, 4, 3}, forward_tiling{1, 2, 8, 2},
    forward_tiling{1, 4, 4, 3}, forward_tiling{1, 2, 4, 4}};
template <>
inline constexpr std::array forward_tilings<bfloat16, 128>{forward_tiling{1, 4, 4, 2}, forward_tiling{1, 2, 4, 3},
                                                           forward_tiling{1, 1, 4, 4}, forward_tiling{2, 1, 4, 2}};
template <>
inline constexpr std::array forward_tilings<float, 64>{forward_tiling{2, 2, 4, 2}, forward_tiling{2, 1, 4, 2},
                                                       forward_tiling{1, 2, 8, 2}, forward_tiling{1, 4, 4, 2}};
template <>
inline constexpr std::array forward_tilings<float, 128>{forward_tiling{1, 1, 4, 3}, forward_tiling{1, 4, 4, 2}, forward_tiling{1, 2, 4, 2}};

/// Of attention_whole_head.cuh: a warp's 16 keys times `tiles`, warps of a block at most, blocks that are to share a
/// multiprocessor; whether the keys stay in registers, where the values always are.
struct whole_head_tiling {
  int tiles;
  unsigned warps, blocks;
  bool keys_in_registers;
};
template <class T, int D>
inline constexpr std::array whole_head_tilings{whole_head_tiling{1, 16, 1, false}, whole_head_tiling{2, 8, 1, true}};
template <>
inline constexpr std::array whole_head_tilings<bfloat16, 64>{whole_head_tiling{2, 8, 1, false}, whole_head_tiling{2, 8, 1, true},
                                                             whole_head_tiling{1, 16, 1, false}};
template <>
inline constexpr std::array whole_head_tilings<bfloat16, 128>{whole_head_tiling{1, 8, 1, true}, whole_head_tiling{1, 8, 1, false}};
template <>
inline constexpr std::array whole_head_tilings<float, 64>{whole_head_tiling{1, 8, 1, true}, whole_head_tiling{1, 12, 1, false}};
template <>
inline constexpr std::array whole_head_tilings<float, 128>{whole_head_tiling{1, 8, 1, false}};

/// Of attention_gather.cuh, where a warp has 16 rows: warps of a block at most, and blocks that are to share a multiprocessor.
struct gather_tiling {
  unsigned warps, blocks;
};
template <class T, int D>
inline constexpr gather_tiling gather_tiling_of{4, std::is_same_v<T, bfloat16> && D <= 64 ? 3 : D <= 64 ? 2 : 1};

/// Whether two blocks of 16 rows of operands leave a thread registers for their gradients.
template <class T, int D>
inline constexpr bool rows_fit_registers = D * sizeof(T) <= 256;

/// Entry `Choice`, or the last one.
template <std::size_t Choice, class Tilings>
[[nodiscard]] constexpr auto chosen(Tilings const& tilings) {
  return tilings[std::min(Choice, tilings.size() - 1)];
}

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
