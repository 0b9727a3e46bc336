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
  explicit side_queue(cuda_queue& of) : queue(of.card_) {
    queue.parent_ = &of;
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

  /// `waiting` goes on when the side has come to a mark.
  void hold(cuda_queue& waiting, std::size_t mark) const {
    cuda_check(cudaStreamWaitEvent(waiting.stream_, ended[mark % ended.size()]), "joining another stream");
    waiting.overlaps_next_ = false;
  }

  cuda_queue queue;
  cudaEvent_t begun = nullptr;
  std::array<cudaEvent_t, 16> ended{};
  std::size_t marks = 0, awaited = 0;
};

inline cuda_queue& cuda_queue::side(beside which) {
  auto& found = sides_[static_cast<std::size_t>(which)];
  if (!found) found = std::make_shared<side_queue>(*this);
  return found->queue;
}

inline void cuda_queue::begin_side(beside which) {
  cuda_queue& queue = side(which);
  auto const& begun = sides_[static_cast<std::size_t>(which)]->begun;
  cuda_check(cudaEventRecord(begun, stream_), "branching off another stream");
  cuda_check(cudaStreamWaitEvent(queue.stream(), begun), "branching off another stream");
  queue.overlaps_next_ = false;
  for (auto const& other : sides_)
    if (other && &other->queue != &queue && which == beside::branch && other->marks > other->awaited) other->hold(queue, other->marks);
}

inline std::size_t cuda_queue::end_side(beside which) {
  auto& at = *sides_[static_cast<std::size_t>(which)];
  std::size_t const mark = ++at.marks;
  cuda_check(cudaEventRecord(at.ended[mark % at.ended.size()], at.queue.stream()), "marking another stream");
  return mark;
}

inline std::size_t cuda_queue::next_mark(beside which) const { return sides_[static_cast<std::size_t>(which)]->marks + 1; }

inline void cuda_queue::await_side(beside which, std::size_t mark) {
  if (mark == 0) return;
  auto& at = *sides_[static_cast<std::size_t>(which)];
  if (mark <= at.awaited || mark > at.marks) return;  // waited for, or of a branch that is still being issued: by that branch itself
  at.awaited = mark;  // also where waiting fails: work of a recording that was given up cannot be waited for later
  at.hold(*this, mark);
}

inline void cuda_queue::await_sides() {
  for (auto const which : {beside::weights, beside::branch})
    if (auto const& at = sides_[static_cast<std::size_t>(which)]) await_side(which, at->marks);
}

inline void cuda_queue::forget_sides() {
  for (auto const& at : sides_)
    if (at) at->awaited = at->marks;
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
