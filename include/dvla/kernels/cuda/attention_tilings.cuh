// Into what the work of attention's tensor core kernels is cut, by element and length of a row.
#pragma once

#include <type_traits>

#include <dvla/core/bfloat16.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

// A multiprocessor has 16384 registers for every fourth warp: 128 a thread for 16 warps, 168 for 12, all 255 for 8.

/// The tensor cores' depth is 32 bytes.
template <class T, int D>
inline constexpr int steps_of = D * static_cast<int>(sizeof(T)) / 32;

/// Of attention.cuh, where a warp has 16 Tiles queries: 16 keys times `step` (1, 2 or 4) at a time; warps of a block at most, 0 where
/// no shape is left to it, and blocks that are to share a multiprocessor; the steps of the tensor cores' depth for which the queries
/// stay in registers, of `staged` queries, which come to shared memory first. Floats do where there is place for all warps' queries.
struct forward_tiling {
  int step;
  unsigned warps, blocks;
  int kept;
  bool staged;
};
template <class T, int D, int Tiles>
inline constexpr forward_tiling forward_tiling_of{0, 0, 0, 0, false};
template <class T, int D>
inline constexpr forward_tiling forward_tiling_of<T, D, 1>{D == 64 ? 2 : 4, 8, 2, steps_of<T, D>, std::is_same_v<T, bfloat16>};
template <>
inline constexpr forward_tiling forward_tiling_of<bfloat16, 64, 2>{1, 8, 2, 1, true};
template <>
inline constexpr forward_tiling forward_tiling_of<bfloat16, 128, 1>{4, 4, 2, steps_of<bfloat16, 128>, true};
template <>
inline constexpr forward_tiling forward_tiling_of<float, 128, 1>{1, 4, 2, steps_of<float, 128>, true};

/// Of attention_whole_head.cuh, where a warp has 16 Tiles keys: warps of a block at most, 0 where no head is left to it; the steps of
/// the tensor cores' depth for which the keys stay in registers, where the values always are.
struct whole_head_tiling {
  unsigned warps;
  int kept;
};
template <class T, int D, int Tiles>
inline constexpr whole_head_tiling whole_head_tiling_of{0, 0};
template <class T, int D>
inline constexpr whole_head_tiling whole_head_tiling_of<T, D, 1>{std::is_same_v<T, float> && D >= 64 ? 0 : 16, 0};
template <>
inline constexpr whole_head_tiling whole_head_tiling_of<bfloat16, 128, 1>{8, steps_of<bfloat16, 128>};
template <>
inline constexpr whole_head_tiling whole_head_tiling_of<bfloat16, 64, 2>{8, steps_of<bfloat16, 64>};

/// Of attention_resident.cuh, where a warp has 16 `tiles` keys or queries at a time: warps of a block at most, 0 where no head is left
/// to it; the steps of the tensor cores' depth for which k and v of the keys, and q and d_o of the queries, stay in registers.
struct resident_tiling {
  unsigned warps;
  int tiles, k, v, q, d_o;
};
template <class T, int D>
inline constexpr resident_tiling resident_tiling_of{0, 1, 0, 0, 0, 0};
template <>
inline constexpr resident_tiling resident_tiling_of<float, 64>{8, 2, 0, 1, 0, steps_of<float, 64>};
template <>
inline constexpr resident_tiling resident_tiling_of<float, 128>{8, 1, 0, 0, 0, 0};

/// Of attention_gather.cuh, where a warp has 16 rows: warps of a block at most, and blocks that are to share a multiprocessor.
struct gather_tiling {
  unsigned warps, blocks;
};
template <class T, int D>
inline constexpr gather_tiling gather_tiling_of{4, std::is_same_v<T, bfloat16>&& D <= 64 ? 3
                                                   : D <= 64                             ? 2
                                                                                         : 1};

/// Whether two blocks of 16 rows of operands leave a thread registers for their gradients.
template <class T, int D>
inline constexpr bool rows_fit_registers = D * sizeof(T) <= 256;

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
