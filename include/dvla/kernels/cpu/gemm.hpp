// Matrix products C = alpha op(A) op(B) + beta C on the CPU, in all transpositions, batched, with an epilogue for what is
// cheaper while C is in cache (bias, activation, residual).
#pragma once

#include <algorithm>
#include <cstddef>

#include <dvla/core/parallel.hpp>
#include <dvla/kernels/cpu/gemm_pack.hpp>
#include <dvla/kernels/cpu/gemm_tile.hpp>
#include <dvla/kernels/cpu/workspace.hpp>
#include <dvla/kernels/device.hpp>
#include <dvla/kernels/gemm_problem.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

namespace detail {

constexpr std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }
constexpr std::size_t round_up(std::size_t a, std::size_t b) { return ceil_div(a, b) * b; }

/// How a product is cut up: a function of its sizes alone, so that the bits of C do not depend on the threads.
template <class T>
struct gemm_plan {
  std::size_t rows, columns, depth;  // of a block: multiples of the tile's; depth is the k summed in registers
  std::size_t row_blocks, column_blocks;
  std::size_t splits = 1;     // parts of k summed apart, where C has too few blocks to occupy the threads
  bool direct_b;              // whole panels of B are read where they are
  bool share_b;               // B is packed once for all blocks
  std::size_t first_row = 0;  // of this member of the batch, for the epilogue

  static constexpr std::size_t wanted_tasks = 12;

  explicit gemm_plan(gemm_problem<T> const& p) {
    constexpr std::size_t most_depth = 1536 / sizeof(T), shared_limit = std::size_t{1} << 22;
    row_blocks = ceil_div(p.m, p.trans_a ? 256 : 128);
    rows = round_up(ceil_div(p.m, row_blocks), tile_rows<T>);
    row_blocks = ceil_div(p.m, rows);
    std::size_t const panels = ceil_div(p.n, tile_columns<T>);
    column_blocks = std::min(ceil_div(wanted_tasks, row_blocks), ceil_div(panels, 4));
    columns = ceil_div(panels, column_blocks) * tile_columns<T>;
    column_blocks = ceil_div(p.n, columns);
    depth = std::max<std::size_t>(1, ceil_div(p.k, std::max<std::size_t>(1, ceil_div(p.k, most_depth))));
    if (row_blocks * column_blocks < wanted_tasks && p.k >= 4096)
      splits = std::min(ceil_div(wanted_tasks, row_blocks * column_blocks), p.k / 2048);
    // Packing pays where many rows meet a panel. With A transposed (gradients of weights) both operands come from memory
    // but once, and reading narrow ones in place overlaps with the arithmetic.
    direct_b = !p.trans_b && (rows < 4 * tile_rows<T> || (p.trans_a && p.ldb <= most_depth));
    share_b = row_blocks > 1 && !p.trans_a && p.k * p.n <= shared_limit;
  }
};

/// All of op(B), blocks of k one after the other, each in panels.
template <class T>
void pack_b(cpu const& device, gemm_problem<T> const& p, gemm_plan<T> const& plan, T* out) {
  std::size_t const padded = round_up(p.n, tile_columns<T>);
  parallel_for(device.pool, ceil_div(p.n, tile_columns<T>), 4, [&](std::size_t begin, std::size_t end) {
    for (std::size_t k = 0; k < p.k; k += plan.depth) {
      std::size_t const depth = std::min(plan.depth, p.k - k);
      for (std::size_t panel = begin; panel < end; ++panel) {
        std::size_t const column = panel * tile_columns<T>;
        pack_b_panel(p.b_at(k, column), p.ldb, p.trans_b, depth, std::min(tile_columns<T>, p.n - column),
                     out + k * padded + column * depth);
      }
    }
  });
}

/// One block of C, over all of k.
template <class T>
void gemm_block(gemm_problem<T> const& p, gemm_plan<T> const& plan, T const* shared_b, std::size_t row, std::size_t column) {
  std::size_t const rows = std::min(plan.rows, p.m - row), last_column = std::min(column + plan.columns, p.n);
  std::size_t const padded = round_up(p.n, tile_columns<T>);
  scratch<T> const packed_b(plan.share_b ? 0 : plan.depth * tile_columns<T>);
  std::size_t k = 0;
  do {  // once even if k is 0: beta C is still asked for
    std::size_t const depth = std::min(plan.depth, p.k - k);
    bool const last = k + depth == p.k;
    for (std::size_t j = column; j < last_column; j += tile_columns<T>) {
      tile_job<T> job;
      job.length = depth;
      job.columns = std::min(tile_columns<T>, last_column - j);
      job.alpha = p.alpha;
      job.beta = k == 0 ? p.beta : T(1);
      job.a_step = p.trans_a ? p.lda : 1;
      job.b_step = panel_width<T>(job.columns);
      if (plan.share_b) {
        job.b = shared_b + k * padded + j * depth;
      } else if (plan.direct_b && job.columns == job.b_step) {
        job.b = p.b_at(k, j);
        job.b_step = p.ldb;
      } else {
        pack_b_panel(p.b_at(k, j), p.ldb, p.trans_b, depth, job.columns, packed_b.data());
        job.b = packed_b.data();
      }
      multiply_panel(job, rows, [&](std::size_t i, T const*& a, T*& c) {
        a = p.a_at(row + i, k);
        c = p.c + (row + i) * p.ldc + j;
      });
      if (last && p.epilogue.apply != nullptr)
        p.epilogue.apply(p.epilogue.context, plan.first_row + row, j, rows, job.columns, p.c + row * p.ldc + j, p.ldc);
    }
    k += depth;
  } while (k < p.k);
}

template <class T>
void gemm_blocks(cpu const& device, gemm_problem<T> const& p, gemm_plan<T> const& plan) {
  scratch<T> const shared_b(plan.share_b ? round_up(p.n, tile_columns<T>) * p.k : 0);
  if (plan.share_b) pack_b(device, p, plan, shared_b.data());
  parallel_for(device.pool, plan.row_blocks * plan.column_blocks, 1, [&](std::size_t block, std::size_t) {
    gemm_block(p, plan, shared_b.data(), block / plan.column_blocks * plan.rows, block % plan.column_blocks * plan.columns);
  });
}

/// Sums parts of k apart, then adds the parts in their order.
template <class T>
void gemm_split(cpu const& device, gemm_problem<T> const& p, gemm_plan<T> const& plan) {
  std::size_t const part_k = ceil_div(p.k, plan.splits), parts = ceil_div(p.k, part_k);
  scratch<T> const sums(parts * p.m * p.n);
  parallel_for(device.pool, parts, 1, [&](std::size_t part, std::size_t) {
    gemm_problem<T> piece = p;
    piece.k = std::min(part_k, p.k - part * part_k);
    piece.a = p.a_at(0, part * part_k);
    piece.b = p.b_at(part * part_k, 0);
    piece.c = sums.data() + part * p.m * p.n;
    piece.ldc = p.n;
    piece.alpha = 1;
    piece.beta = 0;
    piece.epilogue = {};
    gemm_plan<T> piece_plan(piece);
    gemm_blocks(cpu{}, piece, piece_plan);
  });
  parallel_for(device.pool, p.m, 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      T* const total = sums.data() + i * p.n;
      for (std::size_t part = 1; part < parts; ++part) {
        T const* const more = total + part * p.m * p.n;
        for (std::size_t j = 0; j < p.n; ++j) total[j] += more[j];
      }
      T* const c = p.c + i * p.ldc;
      for (std::size_t j = 0; j < p.n; ++j) c[j] = p.alpha * total[j] + (p.beta != T(0) ? p.beta * c[j] : T(0));
    }
    if (p.epilogue.apply != nullptr)
      p.epilogue.apply(p.epilogue.context, plan.first_row + begin, 0, end - begin, p.n, p.c + begin * p.ldc, p.ldc);
  });
}

template <class T>
void gemm_one(cpu const& device, gemm_problem<T> p, std::size_t first_row) {
  if (p.alpha == T(0)) p.k = 0;
  gemm_plan<T> plan(p);
  plan.first_row = first_row;
  if (plan.splits > 1) {
    gemm_split(device, p, plan);
  } else {
    gemm_blocks(device, p, plan);
  }
}

}  // namespace detail

/// Computes the product; bit-equal for any number of threads. Empty m, n or batch do nothing; with k 0, C = beta C.
template <class T>
void gemm(cpu const& device, gemm_problem<T> const& problem) {
  if (problem.m == 0 || problem.n == 0) return;
  if (problem.batch == 1) return detail::gemm_one(device, problem, 0);
  parallel_for(device.pool, problem.batch, 1, [&](std::size_t i, std::size_t) {
    gemm_problem<T> one = problem;
    one.a += i * problem.batch_stride_a;
    one.b += i * problem.batch_stride_b;
    one.c += i * problem.batch_stride_c;
    detail::gemm_one(cpu{}, one, i * problem.m);
  });
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
