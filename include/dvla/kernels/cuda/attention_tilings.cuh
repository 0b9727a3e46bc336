// Into what the work of attention's tensor core kernels is cut, by element and length of a row.
#pragma once

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

// A multiprocessor has 16384 registers for every fourth warp: 128 a thread for 16 warps, 168 for 12, all 255 for 8.

/// A warp's 16 queries times `tiles`; 16 keys times `step` (1, 2 or 4) between two looks at the weights; warps of a block at most,
/// and blocks that are to share a multiprocessor.
template <int Tiles, int Step, unsigned Warps, unsigned Blocks>
struct forward_tiling {
  static constexpr int tiles = Tiles, step = Step;
  static constexpr unsigned warps = Warps, blocks = Blocks;
};

/// By choice; the first is the library's.
template <class T, int D>
struct forward_tilings {
  using type = std::tuple<forward_tiling<1, 4, 8, 2>, forward_tiling<1, 2, 4, 4>, forward_tiling<2, 2, 4, 2>>;
};
template <>
struct forward_tilings<bfloat16, 64> {
  using type = std::tuple<forward_tiling<2, 4, 4, 2>, forward_tiling<2, 2, 4, 2>, forward_tiling<2, 1, 4, 3>,
                          forward_tiling<1, 2, 8, 2>, forward_tiling<1, 4, 4, 3>, forward_tiling<1, 2, 4, 4>>;
};
template <>
struct forward_tilings<bfloat16, 128> {
  using type = std::tuple<forward_tiling<1, 4, 4, 2>, forward_tiling<1, 2, 4, 3>>;
};
template <>
struct forward_tilings<float, 64> {
  using type =
      std::tuple<forward_tiling<2, 2, 4, 2>, forward_tiling<2, 1, 4, 2>, forward_tiling<1, 2, 8, 2>, forward_tiling<1, 4, 4, 2>>;
};
template <>
struct forward_tilings<float, 128> {
  using type = std::tuple<forward_tiling<1, 1, 4, 3>, forward_tiling<1, 4, 4, 2>, forward_tiling<1, 2, 4, 2>>;
};

/// Of attention_whole_head.cuh: a warp's 16 keys times `tiles`; warps of a block at most; whether the keys stay in registers, where
/// the values always are.
template <int Tiles, unsigned Warps, bool KeysInRegisters>
struct whole_head_tiling {
  static constexpr int tiles = Tiles;
  static constexpr unsigned warps = Warps;
  static constexpr bool keys_in_registers = KeysInRegisters;
};

/// By attention_gather.cuh, whatever the length.
struct in_pieces {};

template <class T, int D>
struct whole_head_tilings {
  using type = std::tuple<whole_head_tiling<1, 16, false>, whole_head_tiling<2, 8, true>, in_pieces>;
};
template <>
struct whole_head_tilings<bfloat16, 64> {
  using type =
      std::tuple<whole_head_tiling<2, 8, true>, whole_head_tiling<2, 8, false>, whole_head_tiling<1, 16, false>, in_pieces>;
};
template <>
struct whole_head_tilings<bfloat16, 128> {
  using type = std::tuple<whole_head_tiling<1, 8, true>, whole_head_tiling<1, 8, false>, in_pieces>;
};
template <>
struct whole_head_tilings<float, 64> {
  using type = std::tuple<whole_head_tiling<1, 8, true>, whole_head_tiling<1, 12, false>, in_pieces>;
};
template <>
struct whole_head_tilings<float, 128> {
  using type = std::tuple<whole_head_tiling<1, 8, false>, in_pieces>;
};

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

/// Entry `Choice`, or the last one.
template <class Tilings, std::size_t Choice>
using chosen = std::tuple_element_t<std::min(Choice, std::tuple_size_v<typename Tilings::type> - 1), typename Tilings::type>;

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
