// Several cards through NCCL: a process a card, each with a copy of the model. For .cu files linked with dvla::nccl; dvla/cuda.hpp
// does not include it.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <type_traits>

#include <dvla/distributed/communicator.hpp>
#include <dvla/distributed/rendezvous.hpp>
#include <dvla/kernels/cuda/device.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// Throws dvla::error unless the call succeeded. `doing` completes "NCCL error while ...".
inline void nccl_check(ncclResult_t status, char const* doing) {
  if (status == ncclSuccess) [[likely]]
    return;
  char const* const detail = ncclGetLastError(nullptr);
  fail("NCCL error while ", doing, ": ", ncclGetErrorString(status), detail != nullptr && *detail != '\0' ? " (" : "",
       detail != nullptr ? detail : "", detail != nullptr && *detail != '\0' ? ")" : "",
       "; give each process a card of its own, start all of them again, and look closer with NCCL_DEBUG=INFO");
}

/// The number of the card that a process of a launch takes: its local rank. Throws if the machine shows fewer.
[[nodiscard]] inline int card_of(launch const& who) {
  int count = 0;
  cuda_check(cudaGetDeviceCount(&count), "looking for cards");
  expect(who.local_rank < static_cast<std::size_t>(count), "rank ", who.rank, " has the local rank ", who.local_rank,
         ", but this machine shows ", count, count == 1 ? " card" : " cards",
         "; start one process a card, or set LOCAL_RANK and CUDA_VISIBLE_DEVICES so that each finds one");
  return static_cast<int>(who.local_rank);
}

/// The communicator (distributed/communicator.hpp) of processes that have a card each. Sums and means are equal to the bit on all
/// ranks; from run to run where the cards, their connections and NCCL's settings are the same. A recorded step that communicates
/// must be destroyed before the last copy of its communicator.
class nccl_communicator {
 public:
  /// A process by itself, which exchanges nothing.
  nccl_communicator() = default;

  /// Meets the other processes of the launch, on the device's card; all must do so. Throws where one does not come in time.
  template <precision P>
  nccl_communicator(basic_cuda<P> const& device, launch const& who) : rank_(who.rank), size_(who.size) {
    if (who.alone()) return;
    cuda_check(cudaSetDevice(device.queue->card()), "choosing the card");
    ncclUniqueId id{};
    if (who.rank == 0) nccl_check(ncclGetUniqueId(&id), "preparing a meeting of processes");
    std::string const common = meet(who, std::string(id.internal, sizeof id.internal));
    expect(common.size() == sizeof id.internal, "rank 0 has another NCCL than rank ", who.rank, "; start the same program on all ranks");
    common.copy(id.internal, sizeof id.internal);
    ncclComm_t made = nullptr;
    nccl_check(ncclCommInitRank(&made, static_cast<int>(who.size), id, static_cast<int>(who.rank)), "joining the other processes");
    group_ = std::shared_ptr<ncclComm>(made, leave);
  }

  [[nodiscard]] std::size_t rank() const { return rank_; }
  [[nodiscard]] std::size_t size() const { return size_; }

  template <precision P, class T>
  void all_reduce_sum(basic_cuda<P> const& device, std::size_t count, T* data) const {
    reduce(device, count, data, ncclSum);
  }
  template <precision P, class T>
  void all_reduce_mean(basic_cuda<P> const& device, std::size_t count, T* data) const {
    reduce(device, count, data, ncclAvg);
  }
  template <precision P, class T>
  void broadcast(basic_cuda<P> const& device, std::size_t count, T* data) const {
    if (size_ == 1 || count == 0) return;
    nccl_check(ncclBroadcast(data, data, count, type_of<T>(), 0, group_.get(), device.stream()), "sending what rank 0 has");
  }

 private:
  template <class T>
  [[nodiscard]] static constexpr ncclDataType_t type_of() {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>, "processes exchange float or double");
    return std::is_same_v<T, float> ? ncclFloat32 : ncclFloat64;
  }

  template <precision P, class T>
  void reduce(basic_cuda<P> const& device, std::size_t count, T* data, ncclRedOp_t how) const {
    if (size_ == 1 || count == 0) return;
    nccl_check(ncclAllReduce(data, data, count, type_of<T>(), how, group_.get(), device.stream()), "adding up what the processes have");
  }

  /// A process that ends by an error must not wait for others, which may be waiting for it.
  static void leave(ncclComm_t group) {
    (void)(std::uncaught_exceptions() > 0 ? ncclCommAbort(group) : ncclCommDestroy(group));
  }

  std::size_t rank_ = 0, size_ = 1;
  std::shared_ptr<ncclComm> group_;
};

}  // namespace kernels

using kernels::card_of;
using kernels::nccl_communicator;

}  // namespace dvla::inline DVLA_ABI
