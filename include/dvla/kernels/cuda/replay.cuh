// Steps as CUDA graphs: issued once by the host, then launched as a whole.
#pragma once

#include <cstdint>

#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/launch.cuh>
#include <dvla/kernels/replay.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace detail {

template <class Value>
__global__ void put_kernel(Value* to, __grid_constant__ Value const value) {
  await_predecessors();
  *to = value;
}

}  // namespace detail

/// Writes a small value to the device's memory, in the order of the work that is issued. The value travels with the launch, so
/// no host memory has to outlive it.
template <precision P, class Value>
void put(basic_cuda<P> const& device, Value* to, Value const& value) {
  static_assert(sizeof(Value) <= 3072, "put: a kernel takes no larger value; upload it");
  detail::start(*device.queue, "writing a value", detail::put_kernel<Value>, 1, 1, 0, to, value);
}

/// The first run issues the work, so that memory is allocated and kernels are loaded; the second records it as a graph.
template <precision P>
class replay<basic_cuda<P>> {
 public:
  replay() = default;
  replay(replay const&) = delete;
  replay& operator=(replay const&) = delete;
  ~replay() {
    if (graph_ != nullptr) (void)cudaGraphExecDestroy(graph_);
  }

  template <class Body>
  void run(basic_cuda<P> const& device, std::uint64_t step, Body&& body) {
    if (runs_++ == 0 || !device.queue->records_steps()) {
      body();
      return;
    }
    if (graph_ == nullptr) record(device, step, body);
    put(device, device.queue->steps_later(), static_cast<unsigned long long>(step - recorded_at_));
    cuda_check(cudaGraphLaunch(graph_, device.stream()), "launching a recorded step");
    put(device, device.queue->steps_later(), 0ull);
  }

 private:
  template <class Body>
  void record(basic_cuda<P> const& device, std::uint64_t step, Body&& body) {
    recorded_at_ = step;
    device.queue->await_sides();  // of a run that was given up: a recording cannot wait for what was issued before it
    // Relaxed: another thread may use the card, and an arena may still have to grow.
    cuda_check(cudaStreamBeginCapture(device.stream(), cudaStreamCaptureModeRelaxed), "beginning to record a step");
    cudaGraph_t issued = nullptr;
    try {
      body();
    } catch (...) {
      if (cudaStreamEndCapture(device.stream(), &issued) == cudaSuccess) (void)cudaGraphDestroy(issued);
      (void)cudaGetLastError();
      device.queue->forget_sides();
      throw;
    }
    auto const ended = cudaStreamEndCapture(device.stream(), &issued);
    if (ended != cudaSuccess) device.queue->forget_sides();
    cuda_check(ended, "recording a step; a step must not wait for the device");
    auto const status = cudaGraphInstantiate(&graph_, issued, 0);
    (void)cudaGraphDestroy(issued);
    cuda_check(status, "making a graph of a recorded step");
  }

  cudaGraphExec_t graph_ = nullptr;
  std::uint64_t recorded_at_ = 0, runs_ = 0;
};

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
