// Products by the library's own kernels, which hand finished sums to an epilogue instead of storing them: bias, activation and
// residual cost no pass over memory of their own. Where k is summed in parts, the parts are added in their order.
#pragma once

#include <cstddef>
#include <type_traits>

#include <dvla/kernels/cuda/gemm_epilogues.cuh>
#include <dvla/kernels/cuda/gemm_plan.cuh>
#include <dvla/kernels/cuda/gemm_stationary.cuh>
#include <dvla/kernels/cuda/launch.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace gemm_cuda {

template <class Tile, bool TransA, bool TransB, precision P, class T, class Problem, class Epilogue>
void launch_tiles(basic_cuda<P> const& device, Problem const& p, tile_plan const& plan, Epilogue const& epilogue) {
  auto const arguments = arguments_of<Tile, T>(p, plan, epilogue.template takes_packets<packet_of<T>>());
  unsigned const blocks = detail::blocks_of(std::size_t{arguments.row_tiles} * arguments.column_tiles * plan.parts * p.batch, 1);
  auto const launch = [&](auto* kernel, int bytes) {
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "asking for shared memory");
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared),
               "asking for shared memory");
    detail::start(*device.queue, "running a matrix product", kernel, blocks, Tile::threads, static_cast<std::size_t>(bytes), arguments,
                  epilogue);
  };
  if constexpr (Tile::on_tensor_cores)
    launch(&tensor_kernel<T, Tile, TransA, TransB, Epilogue>, tensor_stages<T, Tile, TransA, TransB>::bytes);
  else
    launch(&plain_kernel<T, Epilogue>, Tile::template bytes<T>);
}

/// Launches the tile of the list that the plan names.
template <bool TransA, bool TransB, class T, precision P, class Problem, class Epilogue, class... Tiles>
void launch_plan(basic_cuda<P> const& device, Problem const& p, tile_plan const& plan, Epilogue const& epilogue, tile_list<Tiles...>) {
  int number = 0;
  ((plan.tile == number++ ? launch_tiles<Tiles, TransA, TransB, P, T>(device, p, plan, epilogue) : void()), ...);
}

/// Which tiles the kernels are compiled for: `direct` for products whose tiles are finished at once, `gradient` for op(A) a
/// transpose, summed in parts, and `rest` for whatever else is summed in parts.
template <class Direct, class Gradient, class Rest>
struct tile_choice {
  using direct = Direct;
  using gradient = Gradient;
  using rest = Rest;
};
template <precision P, class T>
using fused_choice = tile_choice<all_tiles<P, T>, small_tiles<P, T>, small_tiles<P, T>>;
template <precision P, class T>
using own_choice = tile_choice<all_tiles<P, T>, all_tiles<P, T>, small_tiles<P, T>>;
template <precision P, class T>
using fallback_choice = tile_choice<tile_list<>, small_tiles<P, T>, small_tiles<P, T>>;

template <class Choice, class T, precision P, class Problem, class Epilogue>
void multiply_in_parts(basic_cuda<P> const& device, Problem const& p, tile_plan const& plan, Epilogue const& epilogue) {
  using A = arithmetic_t<T>;
  std::size_t const ld = (p.n + packet_of<T> - 1) / packet_of<T> * packet_of<T>;
  detail::device_scratch<A> const scratch(device, p.batch * plan.parts * p.m * ld);
  store_sums<A> const sums{scratch.data(), ld};
  auto of_one = p;
  of_one.alpha = 1;
  if (p.trans_a && !p.trans_b)
    launch_plan<true, false, T>(device, of_one, plan, sums, typename Choice::gradient{});
  else if (p.trans_a)
    launch_plan<true, true, T>(device, of_one, plan, sums, typename Choice::rest{});
  else if (p.trans_b)
    launch_plan<false, true, T>(device, of_one, plan, sums, typename Choice::rest{});
  else
    launch_plan<false, false, T>(device, of_one, plan, sums, typename Choice::rest{});
  finish_parts<T>(device, p.batch, p.m, p.n, plan.parts, p.alpha, sums, epilogue);
}

/// The product alpha op(A) op(B), finished by the epilogue.
template <class Choice, precision P, class T, class R, class Epilogue>
void multiply(basic_cuda<P> const& device, gemm_problem<T, R> const& p, Epilogue const& epilogue) {
  if (p.m == 0 || p.n == 0 || p.batch == 0) return;
  if (p.k == 0 || p.alpha == 0) return finish_parts<T>(device, p.batch, p.m, p.n, 0, p.alpha, {}, epilogue);
  tile_plan const direct = plan_tiles<T>(p, *device.queue, false, typename Choice::direct{});
  tile_plan const parts = p.trans_a && !p.trans_b ? plan_tiles<T>(p, *device.queue, true, typename Choice::gradient{})
                                                  : plan_tiles<T>(p, *device.queue, true, typename Choice::rest{});
  bool const at_once = direct.tile >= 0 && (!Choice::direct::on_tensor_cores || !p.trans_a) && direct.clocks <= parts.clocks;
  if (!at_once && (parts.parts > 1 || p.trans_a || direct.tile < 0)) return multiply_in_parts<Choice, T>(device, p, parts, epilogue);
  if (p.trans_b)
    launch_plan<false, true, T>(device, p, direct, epilogue, typename Choice::direct{});
  else
    launch_plan<false, false, T>(device, p, direct, epilogue, typename Choice::direct{});
}

/// The epilogue that gives gemm's result.
template <class T, class R>
[[nodiscard]] store_result<R> result_of(gemm_problem<T, R> const& p) {
  bool const dense = p.batch == 1 || p.batch_stride_c == p.m * p.ldc;
  return {p.c, p.ldc, static_cast<arithmetic_t<R>>(p.beta), dense ? 0 : p.m, dense ? 0 : p.batch_stride_c, p.addend};
}

}  // namespace gemm_cuda

/// Computes alpha op(A) op(B) and hands it to the epilogue (see gemm_epilogues.cuh), which stores what it wants: p.c, p.ldc and
/// p.batch_stride_c are not used, p.c may be null, and p.beta must be 0. bfloat16, and float for precision::tf32, are multiplied on
/// tensor cores with sums in float; double and other float exactly in their type. With k = 0 the epilogue gets zeros; an empty
/// m, n or batch does nothing. The same bits in every run on a card.
template <precision P, class T, class R, class Epilogue>
void gemm_with(basic_cuda<P> const& device, gemm_problem<T, R> const& p, Epilogue const& epilogue) {
  static_assert(std::is_trivially_copyable_v<Epilogue>, "gemm_with: an epilogue is copied to the card as it is");
  expect(p.beta == 0, "gemm_with: beta is ", p.beta, " but C is not read here; let the epilogue add it, and set beta to 0");
  expect(p.epilogue.apply == nullptr, "gemm_with: an epilogue on the host cannot run on the card; pass a device epilogue instead");
  if (gemm_cuda::try_stationary<true>(device, p, epilogue) || gemm_cuda::try_stationary<false>(device, p, epilogue)) return;
  gemm_cuda::multiply<gemm_cuda::fused_choice<P, T>>(device, p, epilogue);
}

/// gemm() by the library's own kernels, whatever the problem.
template <precision P, class T, class R>
void gemm_own(basic_cuda<P> const& device, gemm_problem<T, R> const& p) {
  expect(p.epilogue.apply == nullptr, "gemm_own: an epilogue on the host cannot run on the card; use gemm_with instead");
  gemm_cuda::multiply<gemm_cuda::own_choice<P, T>>(device, p, gemm_cuda::result_of(p));
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
