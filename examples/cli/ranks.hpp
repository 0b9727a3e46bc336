// The processes of one run: which of them this is, its device, and what joins them.
#pragma once

#include <utility>

#include <dvla/core/parallel.hpp>
#include <dvla/distributed/communicator.hpp>
#include <dvla/distributed/launch.hpp>

#if defined(DVLA_TOOL_NCCL) && defined(__CUDACC__)
#include <dvla/kernels/cuda/nccl_communicator.cuh>
#endif

namespace cli {

/// Throws where this is one of several processes, which `what` does not know how to share.
inline void expect_one_process(char const* what) {
  auto const who = dvla::launch_from_environment();
  dvla::expect(who.alone(), what, " works in a single process, but this is rank ", who.rank, " of ", who.size,
               "; start it once, without RANK and WORLD_SIZE or mpirun");
}

/// The device that this process of a run takes, and its communicator, which has met the others.
template <class Device>
[[nodiscard]] auto join_ranks([[maybe_unused]] dvla::executor& pool) {
  if constexpr (Device::is_host) {
    expect_one_process("pre-training on the CPU");
    return std::pair(Device{&pool}, dvla::single_process{});
  } else {
#if defined(DVLA_TOOL_NCCL) && defined(__CUDACC__)
    auto const who = dvla::launch_from_environment();
    static dvla::cuda_queue queue(dvla::card_of(who));
    Device const device{{}, &queue};
    return std::pair(device, dvla::nccl_communicator(device, who));
#else
    expect_one_process("pre-training in a build of dvla without NCCL (DVLA_NCCL=ON)");
    return std::pair(Device{}, dvla::single_process{});
#endif
  }
}

}  // namespace cli
