// Matrix products by cuBLASLt. The algorithm of a problem is asked for once and kept in the queue; those whose result depends on
// the order in which blocks finish are left out, so a product has the same bits in every run.
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
#include <dvla/kernels/gemm_problem.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace gemm_cuda {

/// Throws dvla::error unless the call succeeded. `doing` completes "cuBLASLt error while ...".
inline void blas_check(cublasStatus_t status, char const* doing) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  fail("cuBLASLt error while ", doing, ": ", cublasLtGetStatusString(status),
       "; check that its library fits the driver and that the device's memory is not full");
}

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

/// A chosen algorithm with the descriptions it is called with. `found` is false if cuBLASLt has none.
struct blas_plan {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t a, b, c;
  cublasLtMatmulAlgo_t algorithm;
  bool found = false;
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

/// Asks for the fastest algorithm that is deterministic and fits the workspace and the operands' alignments.
template <class Alignments>
void choose_algorithm(cuda_queue const& queue, blas_plan& plan, Alignments const& alignments) {
  cublasLtMatmulPreferenceOpaque_t preference;
  blas_check(cublasLtMatmulPreferenceInit(&preference), "preparing a choice");
  auto const prefer = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
    blas_check(cublasLtMatmulPreferenceSetAttribute(&preference, what, &value, sizeof value), "preparing a choice");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{cuda_queue::blas_workspace_bytes});
  // Parts of k are summed apart and added in order, in the type of computation, if at all.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignments[0]);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignments[1]);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignments[2]);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignments[2]);
  cublasLtMatmulHeuristicResult_t result{};
  int count = 0;
  auto const status = cublasLtMatmulAlgoGetHeuristic(queue.blas(), &plan.operation, &plan.a, &plan.b, &plan.c, &plan.c, &preference, 1,
                                                     &result, &count);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) blas_check(status, "choosing an algorithm");
  plan.found = status == CUBLAS_STATUS_SUCCESS && count > 0 && result.state == CUBLAS_STATUS_SUCCESS;
  plan.algorithm = result.algo;
}

/// What cuBLASLt is to do for a problem: C^T = op(B)^T op(A)^T, whose operands lie in memory as C, B and A do row-major.
template <precision P, class T, class R, class Alignments>
[[nodiscard]] blas_plan plan_blas(cuda_queue const& queue, gemm_problem<T, R> const& p, Alignments const& alignments) {
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
  choose_algorithm(queue, plan, alignments);
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
  if (found == plans.end()) found = plans.emplace(key, plan_blas<P>(queue, p, alignments)).first;
  return found->second;
}

/// The product by cuBLASLt, for k > 0 and non-empty results; false, with nothing done, if it has no algorithm for the problem.
template <precision P, class T, class R>
[[nodiscard]] bool multiply_by_blas(basic_cuda<P> const& device, gemm_problem<T, R> const& p) {
  cuda_queue& queue = *device.queue;
  if (p.batch > 0x7FFFFFFFu) return false;
  blas_plan& plan = blas_plan_of<P>(queue, p);
  if (!plan.found) return false;
  R const* const addend = p.addend == nullptr ? p.c : p.addend;
  if (p.bias != nullptr)
    blas_check(cublasLtMatmulDescSetAttribute(&plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias, sizeof p.bias),
               "describing a product");
  blas_check(cublasLtMatmul(queue.blas(), &plan.operation, &p.alpha, p.b, &plan.a, p.a, &plan.b, &p.beta, addend, &plan.c, p.c, &plan.c,
                            &plan.algorithm, queue.blas_workspace(), cuda_queue::blas_workspace_bytes, device.stream()),
             "running a matrix product");
  return true;
}

}  // namespace gemm_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
