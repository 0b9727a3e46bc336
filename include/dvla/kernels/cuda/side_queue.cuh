// Work beside a queue: a second stream, and events by which the two wait for each other.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include <dvla/kernels/cuda/device.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// A mark's event is used again 16 marks later: waiting for it then waits for more than was asked.
struct cuda_queue::side_queue {
  explicit side_queue(int card) : queue(card) {
    auto const make = [](cudaEvent_t& event) {
      cuda_check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
    };
    make(begun);
    for (auto& event : ended) make(event);
  }
  side_queue(side_queue const&) = delete;
  side_queue& operator=(side_queue const&) = delete;
  ~side_queue() {
    (void)cudaEventDestroy(begun);
    for (auto const event : ended) (void)cudaEventDestroy(event);
  }

  cuda_queue queue;
  cudaEvent_t begun = nullptr;
  std::array<cudaEvent_t, 16> ended{};
  std::size_t marks = 0, awaited = 0;
};

inline cuda_queue& cuda_queue::side() {
  if (!side_) side_ = std::make_shared<side_queue>(card_);
  return side_->queue;
}

inline void cuda_queue::begin_side() {
  cuda_queue& beside = side();
  cuda_check(cudaEventRecord(side_->begun, stream_), "branching off a second stream");
  cuda_check(cudaStreamWaitEvent(beside.stream(), side_->begun), "branching off a second stream");
  beside.overlaps_next_ = false;
}

inline std::size_t cuda_queue::end_side() {
  std::size_t const mark = ++side_->marks;
  cuda_check(cudaEventRecord(side_->ended[mark % side_->ended.size()], side_->queue.stream()), "marking the second stream");
  return mark;
}

inline void cuda_queue::await_side(std::size_t mark) {
  if (mark <= side_->awaited) return;
  side_->awaited = mark;  // also where waiting fails: work of a recording that was given up cannot be waited for later
  cuda_check(cudaStreamWaitEvent(stream_, side_->ended[mark % side_->ended.size()]), "joining the second stream");
  overlaps_next_ = false;
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
