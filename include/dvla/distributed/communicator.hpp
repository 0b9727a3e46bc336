// What processes that train one model together exchange. The seam: a trainer is written against this concept; kernels/cuda/ has
// the form for several cards, single_process is what everyone else runs.
#pragma once

#include <concepts>
#include <cstddef>

#include <dvla/core/batch_share.hpp>

namespace dvla::inline DVLA_ABI {

/// A value whose copies refer to the same group of processes. Each operation works in place on `count` numbers in the device's
/// memory, in the order of the device's other work and without waiting for it, so that it may be part of a recorded step
/// (kernels/replay.hpp). All processes must call the same operations in the same order with the same count; all get the same
/// bits.
///   all_reduce_sum(device, count, data)    the sum over all processes
///   all_reduce_mean(device, count, data)   the mean over all processes
///   broadcast(device, count, data)         what rank 0 has
template <class C, class Device, class T = float>
concept communicator = std::copyable<C> && requires(C const& c, Device const& device, std::size_t count, T* data) {
  { c.rank() } -> std::same_as<std::size_t>;
  { c.size() } -> std::same_as<std::size_t>;
  c.all_reduce_sum(device, count, data);
  c.all_reduce_mean(device, count, data);
  c.broadcast(device, count, data);
};

/// A process by itself: nothing is exchanged, and nothing is left of it in the compiled step.
struct single_process {
  [[nodiscard]] static constexpr std::size_t rank() { return 0; }
  [[nodiscard]] static constexpr std::size_t size() { return 1; }
  template <class Device, class T>
  void all_reduce_sum(Device const&, std::size_t, T*) const {}
  template <class Device, class T>
  void all_reduce_mean(Device const&, std::size_t, T*) const {}
  template <class Device, class T>
  void broadcast(Device const&, std::size_t, T*) const {}
};

/// The part of every batch that falls to this process.
template <class C>
[[nodiscard]] batch_share share_of(C const& ranks) {
  return {ranks.rank(), ranks.size()};
}

}  // namespace dvla::inline DVLA_ABI
