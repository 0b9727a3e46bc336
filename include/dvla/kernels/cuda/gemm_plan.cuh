// How the library's own products are cut into tiles and parts: chosen on the host by an estimate of the time each choice takes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <dvla/kernels/cuda/gemm_simt.cuh>
#include <dvla/kernels/cuda/gemm_tile.cuh>
#include <dvla/kernels/gemm_problem.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels::gemm_cuda {

template <class... Tiles>
struct tile_list {
  static constexpr bool on_tensor_cores = (Tiles::on_tensor_cores && ...);
};

using small_tensor_tile = tensor_tile<64, 96, 32, 48, 4>;
using all_tensor_tiles = tile_list<tensor_tile<128, 128, 64, 32, 2>, tensor_tile<128, 96, 32, 48, 2>, small_tensor_tile>;

/// The tiles that products of T may take; the small ones are those that keep the time of compilation down.
template <precision P, class T>
using all_tiles = std::conditional_t<tensor_core::takes<P, T>, all_tensor_tiles, tile_list<plain_tile>>;
template <precision P, class T>
using small_tiles = std::conditional_t<tensor_core::takes<P, T>, tile_list<small_tensor_tile>, tile_list<plain_tile>>;

/// A choice: the tile's place in its list, and k in `parts` of part_k.
struct tile_plan {
  double clocks;
  int tile, part_k;
  unsigned parts;
};

/// What a tile costs a multiprocessor, in clocks. The rates are those of an H100: multiply-adds, and bytes from and to its
/// second-level cache with all multiprocessors at work.
struct tile_costs {
  double products_a_clock, bytes_a_clock = 24, start = 3000, launch = 3000;

  template <class T>
  [[nodiscard]] static tile_costs of(bool tensor_cores) {
    return {tensor_cores ? 2048.0 / sizeof(T) : 256.0 / sizeof(T)};
  }
  template <class Tile>
  [[nodiscard]] double tile(double k, std::size_t operand_bytes, std::size_t result_bytes) const {
    double const products = double{Tile::rows} * Tile::columns * k / products_a_clock;
    double const bytes = (Tile::rows + Tile::columns) * k * static_cast<double>(operand_bytes) +
                         double{Tile::rows} * Tile::columns * static_cast<double>(result_bytes);
    return std::max(products, bytes / bytes_a_clock) + start / Tile::resident;
  }
};

/// The fastest plan with one of the tiles, and with parts of k if their sums are to be kept; deterministic for a card.
template <class T, class Problem, class... Tiles>
[[nodiscard]] tile_plan plan_tiles(Problem const& p, cuda_queue const& queue, bool in_parts, tile_list<Tiles...>) {
  constexpr std::size_t depth = 64 / sizeof(T), least_k = 8 * depth;  // of a part
  auto const costs = tile_costs::of<T>(tile_list<Tiles...>::on_tensor_cores);
  auto const over = [](std::size_t a, std::size_t b) { return (a + b - 1) / b; };
  auto const processors = static_cast<std::size_t>(queue.multiprocessors());
  tile_plan best{0, -1, 0, 1};
  int number = 0;
  auto const consider = [&]<class Tile>(std::type_identity<Tile>, std::size_t wanted_parts) {
    std::size_t const part_k = over(over(p.k, wanted_parts), depth) * depth, parts = over(p.k, part_k);
    std::size_t const tiles = over(p.m, Tile::rows) * over(p.n, Tile::columns) * p.batch;
    double const rounds = static_cast<double>(over(tiles * parts, processors));
    double clocks = rounds * costs.template tile<Tile>(static_cast<double>(std::min(part_k, p.k)), sizeof(T),
                                                       in_parts ? sizeof(arithmetic_t<T>) : sizeof(T));
    if (in_parts)
      clocks += costs.launch + static_cast<double>(parts * p.batch * p.m * p.n * sizeof(arithmetic_t<T>)) / costs.bytes_a_clock /
                                   static_cast<double>(processors);
    if (best.tile < 0 || clocks < best.clocks) best = {clocks, number, static_cast<int>(part_k), static_cast<unsigned>(parts)};
  };
  [[maybe_unused]] auto const consider_tile = [&]<class Tile>(std::type_identity<Tile> tile) {
    consider(tile, 1);
    std::size_t const tiles = over(p.m, Tile::rows) * over(p.n, Tile::columns) * p.batch;
    for (std::size_t rounds = 1; in_parts && rounds <= 4; ++rounds)
      consider(tile, std::clamp<std::size_t>(rounds * processors / tiles, 1, std::max<std::size_t>(1, p.k / least_k)));
    ++number;
  };
  (consider_tile(std::type_identity<Tiles>{}), ...);
  return best;
}

/// Whether every row of an operand begins at a multiple of 16 bytes.
template <class T>
[[nodiscard]] bool has_whole_rows(T const* matrix, std::size_t ld, std::size_t batch, std::size_t batch_stride) {
  bool const members = batch == 1 || batch_stride * sizeof(T) % 16 == 0;
  return members && reinterpret_cast<std::uintptr_t>(matrix) % 16 == 0 && ld * sizeof(T) % 16 == 0;
}

/// A planned product as its kernel takes it.
template <class Tile, class T, class Problem>
[[nodiscard]] tile_arguments<T> arguments_of(Problem const& p, tile_plan const& plan, bool packets) {
  expect(std::max({p.m, p.n, p.k}) < std::size_t{0x7FFFFF00}, "CUDA: a matrix product of ", p.m, " x ", p.k, " and ", p.k, " x ", p.n,
         " elements is larger than one launch takes; use a smaller batch");
  tile_arguments<T> a{};
  a.a = p.a, a.lda = p.lda, a.batch_stride_a = p.batch_stride_a, a.trans_a = p.trans_a;
  a.b = p.b, a.ldb = p.ldb, a.batch_stride_b = p.batch_stride_b, a.trans_b = p.trans_b;
  a.whole_a = has_whole_rows(p.a, p.lda, p.batch, p.batch_stride_a);
  a.whole_b = has_whole_rows(p.b, p.ldb, p.batch, p.batch_stride_b);
  a.packets = packets;
  a.m = static_cast<int>(p.m), a.n = static_cast<int>(p.n), a.k = static_cast<int>(p.k);
  a.part_k = plan.part_k, a.parts = plan.parts;
  a.row_tiles = detail::blocks_of(p.m, Tile::rows), a.column_tiles = detail::blocks_of(p.n, Tile::columns);
  a.alpha = p.alpha;
  return a;
}

}  // namespace kernels::gemm_cuda
}  // namespace dvla::inline DVLA_ABI
