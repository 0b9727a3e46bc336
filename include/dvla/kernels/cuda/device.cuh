// The CUDA device: a queue of work on one card. Kernels take it as their first argument, as those of the CPU take theirs.
//
// Everything of a queue runs on one stream in the order of the calls, so memory may be handed from one kernel to the next as
// soon as the host has issued both: that is what lets an arena reuse addresses without waiting.
#pragma once

#include <cublasLt.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <unordered_map>
#include <utility>

#include <dvla/core/arena.hpp>
#include <dvla/kernels/cuda/check.cuh>
#include <dvla/kernels/precision.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// Device memory, as tensor and arena take it.
struct cuda_memory {
  static constexpr std::size_t alignment = 256;  // bytes; what cudaMalloc gives, and enough for any vector access

  [[nodiscard]] static void* allocate(std::size_t bytes) {
    void* memory = nullptr;
    auto const status = cudaMalloc(&memory, bytes);
    if (status == cudaErrorMemoryAllocation) [[unlikely]]
      fail_for_memory(bytes);
    cuda_check(status, "allocating device memory");
    allocations_.fetch_add(1, std::memory_order_relaxed);
    return memory;
  }
  /// How often this process has taken device memory so far: steps that are alike take none after the first.
  [[nodiscard]] static std::size_t allocations() { return allocations_.load(std::memory_order_relaxed); }
  static void deallocate(void* memory) noexcept { (void)cudaFree(memory); }

  /// Copies between memories of the device or the host. Waits for all work of the card first and is complete on return: for
  /// setting up and taking down, not for a step.
  static void copy_bytes(void* to, void const* from, std::size_t bytes) {
    cuda_check(cudaDeviceSynchronize(), "waiting for the device");
    if (bytes > 0) cuda_check(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "copying memory");
    cuda_check(cudaDeviceSynchronize(), "copying memory");  // a copy from pageable memory returns before it has arrived
  }
  static void clear_bytes(void* memory, std::size_t bytes) {
    cuda_check(cudaDeviceSynchronize(), "waiting for the device");
    if (bytes > 0) cuda_check(cudaMemset(memory, 0, bytes), "clearing memory");
    cuda_check(cudaDeviceSynchronize(), "clearing memory");
  }

 private:
  [[noreturn]] static void fail_for_memory(std::size_t wanted) {
    (void)cudaGetLastError();  // the device itself is well
    std::size_t free = 0, all = 0;
    cuda_check(cudaMemGetInfo(&free, &all), "asking for the free memory");
    fail("CUDA: ", wanted, " bytes of device memory were wanted, but ", free, " of ", all,
         " are free; use a smaller batch, a lower precision or another card");
  }

  inline static std::atomic<std::size_t> allocations_{0};
};

/// Where blocks of a kernel wait for each other (grid_barrier.cuh); starts as zeros.
struct grid_barrier {
  unsigned word;
};

/// A stream of a card with what its kernels need beside their operands. Not for concurrent use; must outlive what refers to it.
class cuda_queue {
 public:
  /// On the given card; throws if there is none of that number.
  explicit cuda_queue(int card = 0) : card_(card) {
    cuda_check(cudaSetDevice(card), "choosing the card");
    cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream");
    cuda_check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, card), "asking for the multiprocessors");
    cuda_check(cudaDeviceGetAttribute(&generation_, cudaDevAttrComputeCapabilityMajor, card), "asking for the compute capability");
    cuda_check(cudaDeviceGetAttribute(&shared_memory_, cudaDevAttrMaxSharedMemoryPerBlockOptin, card), "asking for the shared memory");
    if (cublasLtCreate(&blas_) != CUBLAS_STATUS_SUCCESS)
      fail("cuBLASLt could not be started; check that its library fits the driver");
    blas_workspace_ = cuda_memory::allocate(blas_workspace_bytes);
    steps_later_ = static_cast<unsigned long long*>(cuda_memory::allocate(sizeof(*steps_later_)));
    cuda_memory::clear_bytes(steps_later_, sizeof(*steps_later_));
    auto const barrier_bytes = static_cast<std::size_t>(multiprocessors_) * sizeof(grid_barrier);
    barriers_ = static_cast<grid_barrier*>(cuda_memory::allocate(barrier_bytes));
    cuda_memory::clear_bytes(barriers_, barrier_bytes);
  }
  cuda_queue(cuda_queue const&) = delete;
  cuda_queue& operator=(cuda_queue const&) = delete;
  ~cuda_queue() {
    (void)cudaStreamSynchronize(stream_);
    cuda_memory::deallocate(barriers_);
    cuda_memory::deallocate(steps_later_);
    cuda_memory::deallocate(blas_workspace_);
    (void)cublasLtDestroy(blas_);
    (void)cudaStreamDestroy(stream_);
  }

  /// The queue of card 0 that a default device uses; made at its first use.
  [[nodiscard]] static cuda_queue& standard() {
    static cuda_queue queue;
    return queue;
  }

  [[nodiscard]] int card() const { return card_; }
  [[nodiscard]] cudaStream_t stream() const { return stream_; }
  [[nodiscard]] int multiprocessors() const { return multiprocessors_; }
  /// Bytes that a block may ask for.
  [[nodiscard]] std::size_t shared_memory() const { return static_cast<std::size_t>(shared_memory_); }
  [[nodiscard]] cublasLtHandle_t blas() const { return blas_; }
  [[nodiscard]] void* blas_workspace() const { return blas_workspace_; }
  static constexpr std::size_t blas_workspace_bytes = std::size_t{32} << 20;  // NVIDIA's recommendation for Hopper
  /// Whether steps are recorded and replayed (kernels/replay.hpp), as they are at first. Off, the host issues each of them anew,
  /// with the same results: slower, but a debugger or profiler then sees every kernel at its call.
  [[nodiscard]] bool records_steps() const { return records_steps_; }
  void records_steps(bool on) { records_steps_ = on; }
  /// In device memory: how many steps after its recording a replayed step runs. Random kernels add it to their stream's step.
  [[nodiscard]] unsigned long long* steps_later() const { return parent_ == nullptr ? steps_later_ : parent_->steps_later_; }
  /// In device memory: a barrier for each multiprocessor, all of them free between kernels.
  [[nodiscard]] grid_barrier* barriers() const { return barriers_; }
  /// Memory that kernels use and give back before they return; the next kernel may get the same.
  [[nodiscard]] arena<cuda_memory>& scratch() { return scratch_; }
  /// What was compiled for a kernel; asked for once.
  [[nodiscard]] cudaFuncAttributes const& properties(void const* kernel) {
    auto const [known, fresh] = properties_.try_emplace(kernel);
    if (fresh) cuda_check(cudaFuncGetAttributes(&known->second, kernel), "asking for a kernel's properties");
    return known->second;
  }
  /// Whether a kernel that waits for its predecessors itself may be set up while they run: the card and the kernel's code, which
  /// may have been compiled for older cards, must know how.
  [[nodiscard]] bool can_overlap(void const* kernel) { return generation_ >= 9 && properties(kernel).ptxVersion >= 90; }
  /// What matrix products have planned so far: theirs to make and to read.
  [[nodiscard]] std::shared_ptr<void>& product_plans() { return product_plans_; }

  /// What may run beside a queue: gradients of weights, and branches of a computation (autodiff/branch.hpp).
  enum class beside { weights, branch };
  /// A further queue of the card for such work; made at its first use.
  [[nodiscard]] cuda_queue& side(beside which);
  /// What the side is given from now on begins after everything that this queue was given so far; a branch, after the weights' too.
  void begin_side(beside which);
  /// A mark of all that the side was given so far.
  [[nodiscard]] std::size_t end_side(beside which);
  [[nodiscard]] std::size_t next_mark(beside which) const;
  /// What this queue is given from now on begins after the side has come to a mark.
  void await_side(beside which, std::size_t mark);
  /// The queue waits for all sides; or for none of them ever, whose work was part of a recording that was given up.
  void await_sides();
  void forget_sides();
  /// Whether this is a side of another queue. Nothing runs beside it.
  [[nodiscard]] bool is_side() const { return parent_ != nullptr; }
  /// Whether the next kernel may be set up early: not the first one after a wait for another stream.
  [[nodiscard]] bool overlaps_next() { return std::exchange(overlaps_next_, true); }

  /// Waits for all work issued so far.
  void wait() const { cuda_check(cudaStreamSynchronize(stream_), "waiting for the device"); }

 private:
  struct side_queue;  // side_queue.cuh

  int card_, multiprocessors_ = 0, generation_ = 0, shared_memory_ = 0;
  bool records_steps_ = true;
  cudaStream_t stream_ = nullptr;
  cublasLtHandle_t blas_ = nullptr;
  void* blas_workspace_ = nullptr;
  unsigned long long* steps_later_ = nullptr;
  grid_barrier* barriers_ = nullptr;
  arena<cuda_memory> scratch_{std::size_t{16} << 20};
  std::unordered_map<void const*, cudaFuncAttributes> properties_;
  std::shared_ptr<void> product_plans_;
  cuda_queue* parent_ = nullptr;
  std::array<std::shared_ptr<side_queue>, 2> sides_;
  bool overlaps_next_ = false;
};

/// A card. A value: copies refer to the same queue; a default one to the process's queue on card 0.
template <precision P = precision::f32>
struct basic_cuda : cuda_memory {
  static constexpr precision arithmetic = P;
  static constexpr bool is_host = false;
  /// What activations of a model of T are stored as.
  template <class T>
  using stored = activation_t<P, T>;

  cuda_queue* queue = &cuda_queue::standard();

  [[nodiscard]] cudaStream_t stream() const { return queue->stream(); }

  /// Runs work(device of a side queue) beside the queue, after all it was given so far; the mark of its end.
  template <class Work>
  [[nodiscard]] std::size_t run_beside(Work const& work) const {
    if (queue->is_side()) {
      work(*this);
      return 0;
    }
    queue->begin_side(cuda_queue::beside::weights);
    basic_cuda side = *this;
    side.queue = &queue->side(cuda_queue::beside::weights);
    work(side);
    return queue->end_side(cuda_queue::beside::weights);
  }
  /// What `queue` is given from now on begins after the work beside it has come to a mark.
  static void await_beside(void* queue, std::size_t mark) {
    static_cast<cuda_queue*>(queue)->await_side(cuda_queue::beside::weights, mark);
  }

  /// The device of the queue's branches, how one begins and ends, the mark of its end, and how the queue waits for it.
  [[nodiscard]] basic_cuda branch() const {
    basic_cuda out = *this;
    out.queue = &queue->side(cuda_queue::beside::branch);
    return out;
  }
  void begin_branch() const { queue->begin_side(cuda_queue::beside::branch); }
  [[nodiscard]] std::size_t end_branch() const { return queue->end_side(cuda_queue::beside::branch); }
  [[nodiscard]] std::size_t next_branch_mark() const { return queue->next_mark(cuda_queue::beside::branch); }
  static void await_branch(void* queue, std::size_t mark) {
    static_cast<cuda_queue*>(queue)->await_side(cuda_queue::beside::branch, mark);
  }
};

using cuda = basic_cuda<>;

namespace detail {

/// `count` uninitialised elements of device memory for the kernels of one function.
template <class T>
class device_scratch {
 public:
  template <precision P>
  device_scratch(basic_cuda<P> const& device, std::size_t count)
      : owner_(&device.queue->scratch()), bytes_(count * sizeof(T)), data_(static_cast<T*>(owner_->allocate(bytes_))) {}
  device_scratch(device_scratch const&) = delete;
  device_scratch& operator=(device_scratch const&) = delete;
  ~device_scratch() { owner_->release(data_, bytes_); }
  [[nodiscard]] T* data() const { return data_; }

 private:
  arena<cuda_memory>* owner_;
  std::size_t bytes_;
  T* data_;
};

/// Blocks of a one-dimensional launch.
[[nodiscard]] inline unsigned blocks_of(std::size_t items, std::size_t each) {
  std::size_t const blocks = (items + each - 1) / each;
  expect(blocks <= 0x7FFFFFFFu, "CUDA: an operation of ", items, " parts is larger than one launch takes; use a smaller batch");
  return static_cast<unsigned>(blocks);
}

}  // namespace detail
}  // namespace kernels

using kernels::basic_cuda;
using kernels::cuda;
using kernels::cuda_queue;

}  // namespace dvla::inline DVLA_ABI

#include <dvla/kernels/cuda/side_queue.cuh>
