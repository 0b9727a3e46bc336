// Matrix products by cuBLASLt. The algorithm of a problem is chosen once and kept in the queue; those whose result depends on the
// order in which blocks finish are left out, so a product has the same bits in every run.
#pragma once

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <unordered_map>

#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/gemm_blas_choice.cuh>
#include <dvla/kernels/gemm_problem.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace gemm_cuda {

template <class T>
inline constexpr cudaDataType_t blas_type = std::is_same_v<T, double> ? CUDA_R_64F : std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_16BF;

/// How products of T are computed: in double, in float, or from floats rounded to tf32 where the precision says so.
template <precision P, class T>
inline constexpr cublasComputeType_t blas_compute = std::is_same_v<T, double>                             ? CUBLAS_COMPUTE_64F
                                                    : std::is_same_v<T, float> && P == precision::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                                                       : CUBLAS_COMPUTE_32F;

/// All that an algorithm is chosen by.
struct blas_key {
  std::array<std::size_t, 16> numbers;

  friend bool operator==(blas_key const&, blas_key const&) = default;
  struct hash {
    std::size_t operator()(blas_key const& key) const {
      std::uint64_t state = 0xCBF29CE484222325u;  // Fowler-Noll-Vo, a number at a time
      for (std::size_t const n : key.numbers) state = (state ^ n) * 0x100000001B3u, state ^= state >> 29;
      return static_cast<std::size_t>(state);
    }
  };
};

using blas_plans = std::unordered_map<blas_key, blas_plan, blas_key::hash>;

/// The largest power of two, at most 256, that divides an address.
[[nodiscard]] inline std::uint32_t alignment_of(void const* at) {
  auto const address = reinterpret_cast<std::uintptr_t>(at) | 256;
  return static_cast<std::uint32_t>(address & (~address + 1));
}

/// A row-major matrix of `rows` rows as cuBLASLt sees it: the column-major transpose.
inline void describe(cublasLtMatrixLayoutOpaque_t& layout, cudaDataType_t type, std::size_t rows, std::size_t columns, std::size_t ld,
                     std::size_t batch, std::size_t batch_stride) {
  blas_check(cublasLtMatrixLayoutInit(&layout, type, columns, rows, static_cast<std::int64_t>(ld)), "describing a matrix");
  auto const members = static_cast<std::int32_t>(batch);
  auto const stride = static_cast<std::int64_t>(batch_stride);
  blas_check(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &members, sizeof members), "describing a batch");
  blas_check(cublasLtMatrixLayoutSetAttribute(&layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
             "describing a batch");
}

/// What cuBLASLt is to do for a problem: C^T = op(B)^T op(A)^T, whose operands lie in memory as C, B and A do row-major.
template <precision P, class T, class R>
[[nodiscard]] blas_plan describe_product(gemm_problem<T, R> const& p) {
  blas_plan plan{};
  blas_check(cublasLtMatmulDescInit(&plan.operation, blas_compute<P, T>, blas_type<arithmetic_t<T>>), "describing a product");
  auto const transpose = [&](cublasLtMatmulDescAttributes_t which, bool transposed) {
    cublasOperation_t const operation = transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    blas_check(cublasLtMatmulDescSetAttribute(&plan.operation, which, &operation, sizeof operation), "describing a product");
  };
  transpose(CUBLASLT_MATMUL_DESC_TRANSA, p.trans_b);
  transpose(CUBLASLT_MATMUL_DESC_TRANSB, p.trans_a);
  cublasLtEpilogue_t const epilogue = p.bias == nullptr ? CUBLASLT_EPILOGUE_DEFAULT : CUBLASLT_EPILOGUE_BIAS;
  blas_check(cublasLtMatmulDescSetAttribute(&plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue),
             "describing a product");
  describe(plan.a, blas_type<T>, p.trans_b ? p.n : p.k, p.trans_b ? p.k : p.n, p.ldb, p.batch, p.batch_stride_b);
  describe(plan.b, blas_type<T>, p.trans_a ? p.k : p.m, p.trans_a ? p.m : p.k, p.lda, p.batch, p.batch_stride_a);
  describe(plan.c, blas_type<R>, p.m, p.n, p.ldc, p.batch, p.batch_stride_c);
  return plan;
}

/// Starts the product of a plan with an algorithm; its result goes to `to`.
template <class T, class R>
void run_product(cuda_queue const& queue, blas_plan& plan, gemm_problem<T, R> const& p, cublasLtMatmulAlgo_t const& algorithm, R* to) {
  R const* const addend = p.addend == nullptr ? p.c : p.addend;
  if (p.bias != nullptr)
    blas_check(cublasLtMatmulDescSetAttribute(&plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias, sizeof p.bias),
               "describing a product");
  blas_check(cublasLtMatmul(queue.blas(), &plan.operation, &p.alpha, p.b, &plan.a, p.a, &plan.b, &p.beta, addend, &plan.c, to, &plan.c,
                            &algorithm, queue.blas_workspace(), cuda_queue::blas_workspace_bytes, queue.stream()),
             "running a matrix product");
}

/// Chooses among algorithms of equal results by trying them, where the product is large enough to be worth it, the stream is not
/// recorded and there is memory for a result; else the likely fastest.
template <class T, class R>
[[nodiscard]] cublasLtMatmulAlgo_t choose_algorithm(cuda_queue const& queue, blas_plan& plan, gemm_problem<T, R> const& p,
                                                    blas_algorithms const& algorithms) {
  constexpr double worth_it = 1e8;  // multiplications
  double const multiplications = static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
  if (algorithms.size() == 1 || p.batch > 1 || multiplications < worth_it || is_recording(queue.stream())) return algorithms[0];
  R* result = nullptr;
  if (cudaMalloc(&result, p.m * p.ldc * sizeof(R)) != cudaSuccess) {
    (void)cudaGetLastError();
    return algorithms[0];
  }
  std::unique_ptr<R, decltype(&cuda_memory::deallocate)> const owned(result, &cuda_memory::deallocate);
  auto const run = [&](cublasLtMatmulAlgo_t const& algorithm) { run_product(queue, plan, p, algorithm, result); };
  return algorithms[fastest_of(queue.stream(), algorithms, run)];
}

/// cuBLASLt's algorithms for a plan that give the same bits, for floats rounded to tf32. For others its first proposal alone: of
/// bfloat16 that is hardly slower than the fastest, and without tensor cores each may sum in an order of its own.
template <precision P, class T, class Alignments>
[[nodiscard]] blas_algorithms algorithms_of(cuda_queue const& queue, blas_plan& plan, Alignments const& alignments) {
  constexpr bool is_rounded = std::is_same_v<T, float> && P == precision::tf32;
  return equal_algorithms(propose_algorithms(queue, plan, alignments, is_rounded ? most_proposals : 1));
}

/// The plan of a problem on operands of such alignments.
template <precision P, class T, class R, class Alignments>
[[nodiscard]] blas_plan plan_product(cuda_queue const& queue, gemm_problem<T, R> const& p, Alignments const& alignments) {
  blas_plan plan = describe_product<P>(p);
  blas_algorithms const algorithms = algorithms_of<P, T>(queue, plan, alignments);
  plan.found = algorithms.size() > 0;
  if (plan.found) plan.algorithm = choose_algorithm(queue, plan, p, algorithms);
  return plan;
}

/// The plan of a problem, made at its first use.
template <precision P, class T, class R>
[[nodiscard]] blas_plan& blas_plan_of(cuda_queue& queue, gemm_problem<T, R> const& p) {
  if (queue.product_plans() == nullptr) queue.product_plans() = std::make_shared<blas_plans>();
  auto& plans = *static_cast<blas_plans*>(queue.product_plans().get());
  std::array const alignments{alignment_of(p.b), alignment_of(p.a), std::min(alignment_of(p.c), alignment_of(p.addend))};
  std::size_t const kind =
      ((std::size_t{blas_compute<P, T>} * 64 + std::size_t{blas_type<T>}) * 64 + std::size_t{blas_type<R>}) * 2 + (p.bias != nullptr);
  blas_key const key{{kind, p.m, p.n, p.k, p.lda, p.ldb, p.ldc, std::size_t{p.trans_a}, std::size_t{p.trans_b}, p.batch, p.batch_stride_a,
                      p.batch_stride_b, p.batch_stride_c, alignments[0], alignments[1], alignments[2]}};
  auto found = plans.find(key);
  if (found == plans.end()) found = plans.emplace(key, plan_product<P>(queue, p, alignments)).first;
  return found->second;
}

/// The product by cuBLASLt, for k > 0 and non-empty results; false, with nothing done, if it has no algorithm for the problem.
template <precision P, class T, class R>
[[nodiscard]] bool multiply_by_blas(basic_cuda<P> const& device, gemm_problem<T, R> const& p) {
  cuda_queue& queue = *device.queue;
  if (p.batch > 0x7FFFFFFFu) return false;
  blas_plan& plan = blas_plan_of<P>(queue, p);
  if (!plan.found) return false;
  run_product(queue, plan, p, plan.algorithm, p.c);
  return true;
}

}  // namespace gemm_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
