// From the bytes of a batch to the network's input: normalised, erased and mixed in one pass over pairs of mirror images; and the
// targets that belong to it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <dvla/data/augment/normalise.hpp>
#include <dvla/data/cuda/image_plan.hpp>
#include <dvla/kernels/cuda/access.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/divisor.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace augmenting {

inline constexpr unsigned finish_threads = 256;
inline constexpr int finish_share = 16384;  // elements of an image that a block works on, a multiple of 8 a thread

/// Value i of an erased box: the i-th normal of its stream (data/augment/erasing.hpp).
__device__ inline float erased_value(std::uint64_t seed, std::uint32_t i) {
  random_stream const noise(seed, draw::augment, 0, 0);
  auto const uniform = [&](std::uint64_t at) {
    std::uint64_t const high = noise.at(at) >> 5, low = noise.at(at + 1) >> 6;
    return static_cast<double>((high << 26) | low) * 0x1p-53;
  };
  double const u = 1.0 - uniform(std::uint64_t{i} * 4), v = uniform(std::uint64_t{i} * 4 + 2);
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * cospi(2 * v));
}

template <class X>
struct finish_job {
  int count, side, size;          // images, and elements of each
  detail::divisor row;            // by the elements of a row of pixels
  int shares;                     // blocks of a pair of images
  std::size_t pitch;              // bytes from image to image
  std::uint8_t const* bytes;
  image_plan const* plans;
  mix_plan const* mix;            // may be null
  channel_statistics statistics;
  X* out;

  struct place {
    int y, x, channel;
  };
  __device__ place locate(int element) const {
    int const y = static_cast<int>(row.quotient(static_cast<std::uint32_t>(element))), rest = element - y * side * 3;
    return {y, rest / 3, rest % 3};
  }

  /// Elements of image i from `first` on: normalised, or noise.
  template <int N>
  __device__ packet<float, N> values(float const (*table)[256], int i, int first) const {
    std::uint8_t const* const from = bytes + static_cast<std::size_t>(i) * pitch + first;
    packet<int, N> raw;
    if constexpr (N == 1) raw.at[0] = *from;
    else raw = load_packet<int, N>(from);
    packet<float, N> normalised;
    int channel = first % 3;
#pragma unroll
    for (int k = 0; k < N; ++k) {
      normalised.at[k] = table[channel][raw.at[k]];
      channel = channel == 2 ? 0 : channel + 1;
    }
    if (plans[i].erased.height > 0) erase(plans[i], first, normalised);
    return normalised;
  }

  template <int N>
  __device__ void erase(image_plan const& plan, int first, packet<float, N>& values) const {
    plan_box const box = plan.erased;
#pragma unroll 1
    for (int k = 0; k < N; ++k) {
      auto const at = locate(first + k);
      if (!box.holds(at.y, at.x)) continue;
      auto const i = static_cast<std::uint32_t>(((at.y - box.top) * box.width + at.x - box.left) * 3 + at.channel);
      float const noise = erased_value(plan.noise_seed, i);
#pragma unroll
      for (int slot = 0; slot < N; ++slot)  // by constant indices, so that the values stay in registers
        if (slot == k) values.at[slot] = noise;
    }
  }

  template <int N>
  __device__ void exchange(mix_plan const& how, int first, packet<float, N>& a, packet<float, N>& b) const {
    auto const own = static_cast<float>(how.weight), other = static_cast<float>(1 - how.weight);
    bool const cuts = how.cuts();
#pragma unroll
    for (int k = 0; k < N; ++k) {
      float const x = a.at[k], y = b.at[k];
      if (cuts) {
        auto const at = locate(first + k);
        bool const swapped = how.box.holds(at.y, at.x);
        a.at[k] = swapped ? y : x;
        b.at[k] = swapped ? x : y;
      } else {
        a.at[k] = own * x + other * y;
        b.at[k] = own * y + other * x;
      }
    }
  }
};

/// A block finishes a share of an image and of its mirror image in the batch.
template <class X, int N>
__global__ void __launch_bounds__(finish_threads) finish_kernel(__grid_constant__ finish_job<X> const job) {
  __shared__ float table[3][256];
  for (int c = 0; c < 3; ++c)
    table[c][threadIdx.x] = (static_cast<float>(threadIdx.x) / 255.0f - job.statistics.mean[c]) / job.statistics.deviation[c];
  __syncthreads();
  int const pair = static_cast<int>(blockIdx.x) / job.shares, share = static_cast<int>(blockIdx.x) % job.shares;
  int const i = pair, j = job.count - 1 - pair;
  mix_plan const mix = job.mix == nullptr ? mix_plan{} : *job.mix;
  bool const mixes = i != j && (mix.cuts() || mix.weight != 1);
  int const end = ::min(job.size, (share + 1) * finish_share);
  for (int e = share * finish_share + static_cast<int>(threadIdx.x) * N; e < end; e += static_cast<int>(finish_threads) * N) {
    auto a = job.template values<N>(table, i, e);
    if (i == j) {
      store_packet(job.out + static_cast<std::size_t>(i) * job.size + e, a);
      continue;
    }
    auto b = job.template values<N>(table, j, e);
    if (mixes) job.exchange(mix, e, a, b);
    store_packet(job.out + static_cast<std::size_t>(i) * job.size + e, a);
    store_packet(job.out + static_cast<std::size_t>(j) * job.size + e, b);
  }
}

/// Normalises, erases and mixes `count` images of side x side pixels, `pitch` bytes apart, into out (count, side, side, 3).
template <class X, precision P>
void finish(basic_cuda<P> const& device, std::size_t count, std::size_t side, std::size_t pitch, std::uint8_t const* bytes,
            image_plan const* plans, mix_plan const* mix, channel_statistics const& statistics, X* out) {
  auto const size = static_cast<int>(side * side * 3);
  int const shares = (size + finish_share - 1) / finish_share;
  detail::divisor const row(static_cast<std::uint32_t>(side * 3));
  finish_job<X> const job{static_cast<int>(count), static_cast<int>(side), size, row, shares, pitch, bytes,
                          plans, mix, statistics, out};
  unsigned const blocks = detail::blocks_of((count + 1) / 2 * static_cast<std::size_t>(shares), 1);
  if (size % 8 == 0 && allows_packets<8>(out)) finish_kernel<X, 8><<<blocks, finish_threads, 0, device.stream()>>>(job);
  else finish_kernel<X, 1><<<blocks, finish_threads, 0, device.stream()>>>(job);
  cuda_launched("normalising a batch of images");
}

template <class>
__global__ void soft_target_kernel(int count, int classes, std::uint32_t const* labels, double smoothing,
                                   mix_plan const* given, float* out) {
  mix_plan const mix = given == nullptr ? mix_plan{} : *given;
  double const off = smoothing / classes;
  for (int i = static_cast<int>(blockIdx.x); i < count; i += static_cast<int>(gridDim.x)) {
    std::uint32_t const label = labels[i], partner = labels[count - 1 - i];
    for (int c = static_cast<int>(threadIdx.x); c < classes; c += static_cast<int>(blockDim.x)) {
      double value = off;
      if (c == static_cast<int>(label)) value = off + mix.weight * (1 - smoothing);
      if (c == static_cast<int>(partner)) value = off + (label == partner ? 1 : 1 - mix.weight) * (1 - smoothing);
      out[static_cast<std::size_t>(i) * static_cast<std::size_t>(classes) + c] = static_cast<float>(value);
    }
  }
}

}  // namespace augmenting

/// Targets (count, classes) as soft_targets of data/augment/mix.hpp makes them. `labels`, all below `classes`, and `mix`, null for
/// none, lie in the device's memory.
template <precision P>
void soft_targets(basic_cuda<P> const& device, std::size_t count, std::uint32_t const* labels, std::size_t classes,
                  double smoothing, mix_plan const* mix, float* out) {
  expect(smoothing >= 0 && smoothing < 1, "soft targets: a label smoothing of ", smoothing, "; expected 0 <= smoothing < 1");
  if (count == 0 || classes == 0) return;
  augmenting::soft_target_kernel<void><<<detail::blocks_of(count, 1), 128, 0, device.stream()>>>(
      static_cast<int>(count), static_cast<int>(classes), labels, smoothing, mix, out);
  cuda_launched("making soft targets");
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
