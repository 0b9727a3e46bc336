// Which of cuBLASLt's algorithms computes a product. Its first proposal was found up to 1.7 times slower than the best of them (3920 x
// 384 x 1152 in tf32 on an H100), so where several are asked for, those that give the same bits are timed once. Whichever wins, results
// are the same.
#pragma once

#include <cublasLt.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include <dvla/kernels/cuda/device.cuh>

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

/// A chosen algorithm with the descriptions it is called with. `found` is false if cuBLASLt has none.
struct blas_plan {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t a, b, c;
  cublasLtMatmulAlgo_t algorithm;
  bool found = false;
};

inline constexpr int most_proposals = 8;

/// Some of cuBLASLt's algorithms. (nvcc 13 fails on a vector of its nameless struct.)
class blas_algorithms {
 public:
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] cublasLtMatmulAlgo_t const& operator[](int i) const { return at_[i]; }
  void push_back(cublasLtMatmulAlgo_t const& algorithm) { at_[size_++] = algorithm; }

 private:
  cublasLtMatmulAlgo_t at_[most_proposals]{};
  int size_ = 0;
};

/// cuBLASLt's proposals, `most` at most, the likely fastest first: those that are deterministic and fit the workspace and the
/// operands' alignments.
template <class Alignments>
[[nodiscard]] blas_algorithms propose_algorithms(cuda_queue const& queue, blas_plan& plan, Alignments const& alignments, int most) {
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
  cublasLtMatmulHeuristicResult_t results[most_proposals]{};
  int count = 0;
  auto const status = cublasLtMatmulAlgoGetHeuristic(queue.blas(), &plan.operation, &plan.a, &plan.b, &plan.c, &plan.c, &preference,
                                                     std::min(most, most_proposals), results, &count);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) blas_check(status, "choosing an algorithm");
  blas_algorithms out;
  if (status != CUBLAS_STATUS_SUCCESS) return out;
  for (int i = 0; i < count; ++i)
    if (results[i].state == CUBLAS_STATUS_SUCCESS) out.push_back(results[i].algo);
  return out;
}

/// Into how many parts an algorithm cuts k; 1 if none. Some tell -1, and their sums were seen to differ.
[[nodiscard]] inline int parts_of_k(cublasLtMatmulAlgo_t const& algorithm) {
  int parts = 0;
  std::size_t written = 0;
  blas_check(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts, &written),
             "reading an algorithm");
  return parts == 0 ? 1 : parts;
}

/// The kind of arithmetic that an algorithm uses.
[[nodiscard]] inline std::uint64_t arithmetic_of(cublasLtMatmulAlgo_t const& algorithm) {
  std::uint64_t flags = 0;
  std::size_t written = 0;
  blas_check(cublasLtMatmulAlgoCapGetAttribute(&algorithm, CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS, &flags, sizeof flags, &written),
             "reading an algorithm");
  return flags;
}

/// The proposals that give the same bits: with the same arithmetic, each sum over k in one piece from front to back. Where the
/// likely fastest cuts k into parts, it alone.
[[nodiscard]] inline blas_algorithms equal_algorithms(blas_algorithms const& proposed) {
  blas_algorithms equal;
  bool const in_parts = proposed.size() > 0 && parts_of_k(proposed[0]) > 1;
  for (int i = 0; i < proposed.size() && !in_parts; ++i)
    if (parts_of_k(proposed[i]) == 1 && (equal.size() == 0 || arithmetic_of(proposed[i]) == arithmetic_of(equal[0])))
      equal.push_back(proposed[i]);
  if (equal.size() == 0 && proposed.size() > 0) equal.push_back(proposed[0]);
  return equal;
}

/// Whether a stream is recorded into a graph now: then nothing can be timed.
[[nodiscard]] inline bool is_recording(cudaStream_t stream) {
  cudaStreamCaptureStatus status{};
  cuda_check(cudaStreamIsCapturing(stream, &status), "asking whether a graph is recorded");
  return status != cudaStreamCaptureStatusNone;
}

/// The place of the algorithm that run(algorithm), which starts work on the stream, has done in the shortest time.
template <class Run>
[[nodiscard]] int fastest_of(cudaStream_t stream, blas_algorithms const& algorithms, Run const& run) {
  constexpr int repeats = 3;
  cudaEvent_t events[repeats + 1];
  for (auto& event : events) cuda_check(cudaEventCreate(&event), "creating an event");
  int best = 0;
  float best_time = std::numeric_limits<float>::infinity();
  for (int i = 0; i < algorithms.size(); ++i) {
    run(algorithms[i]);  // the first time, its code is loaded
    for (int j = 0; j <= repeats; ++j) {
      cuda_check(cudaEventRecord(events[j], stream), "recording an event");
      if (j < repeats) run(algorithms[i]);
    }
    cuda_check(cudaEventSynchronize(events[repeats]), "timing a matrix product");
    for (int j = 0; j < repeats; ++j) {
      float time = 0;
      cuda_check(cudaEventElapsedTime(&time, events[j], events[j + 1]), "reading a time");
      if (time < best_time) best_time = time, best = i;
    }
  }
  for (auto const event : events) cuda_check(cudaEventDestroy(event), "deleting an event");
  return best;
}

}  // namespace gemm_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
