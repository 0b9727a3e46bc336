// Timing of device work: medians of replayed graphs, in milliseconds.
#pragma once

#include <algorithm>
#include <vector>

#include <dvla/kernels/cuda/replay.cuh>

namespace timing {

/// The median time of body() as a replayed graph, each replay timed by events on the stream. A graph holds `inner` runs of it: for
/// kernels so short that the launch of a graph would count.
template <class Device, class Body>
double median_ms(Device const& device, Body&& once, int inner = 1, int repeats = 30, int warm = 5) {
  dvla::replay<Device> recorded;
  auto const body = [&] {
    for (int i = 0; i < inner; ++i) once();
  };
  for (int i = 0; i < warm; ++i) recorded.run(device, 0, body);
  std::vector<float> times;
  cudaEvent_t begin = nullptr, end = nullptr;
  dvla::kernels::cuda_check(cudaEventCreate(&begin), "creating an event");
  dvla::kernels::cuda_check(cudaEventCreate(&end), "creating an event");
  for (int i = 0; i < repeats; ++i) {
    dvla::kernels::cuda_check(cudaEventRecord(begin, device.stream()), "recording an event");
    recorded.run(device, 0, body);
    dvla::kernels::cuda_check(cudaEventRecord(end, device.stream()), "recording an event");
    dvla::kernels::cuda_check(cudaEventSynchronize(end), "waiting for an event");
    float ms = 0;
    dvla::kernels::cuda_check(cudaEventElapsedTime(&ms, begin, end), "reading a time");
    times.push_back(ms / static_cast<float>(inner));
  }
  (void)cudaEventDestroy(begin);
  (void)cudaEventDestroy(end);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace timing
