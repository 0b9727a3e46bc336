// A block of threads changes one image by the operations of colour jitter and RandAugment, to the bytes of data/augment/.
#pragma once

#include <cstddef>
#include <cstdint>

#include <dvla/data/augment/rand_augment.hpp>
#include <dvla/data/cuda/block_resample.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace augmenting {

/// Shared memory of a block's operations.
struct operation_space {
  std::uint32_t counts[3][256];
  std::uint8_t tables[3][256];
  int lowest[3], highest[3];
  unsigned long long sum;
};

/// An image that a block works on in `pixels`, packed. Operations that look at a pixel's neighbours write to `slot`, the image's
/// place in the batch, from where it is fetched back if need be. All functions are called by the whole block, and end with all
/// threads met.
class block_image {
 public:
  __device__ block_image(int side, std::uint8_t* pixels, std::uint8_t* slot, operation_space& space)
      : side_(side), pixels_(pixels), slot_(slot), space_(space) {}

  __device__ void apply(drawn_operation const& operation) {
    if (in_slot_) move(slot_, pixels_);
    in_slot_ = false;
    switch (operation.what) {
      case pixel_operation::auto_contrast: stretch_contrast(); break;
      case pixel_operation::equalise: equalise_histogram(); break;
      case pixel_operation::brightness: blend_with(0, operation.factor); break;
      case pixel_operation::contrast: blend_with(mean_luma(), operation.factor); break;
      case pixel_operation::colour: saturate(operation.factor); break;
      case pixel_operation::sharpness: sharpen(operation.factor); break;
      case pixel_operation::rotate:
      case pixel_operation::shear_x:
      case pixel_operation::shear_y:
      case pixel_operation::translate_x:
      case pixel_operation::translate_y: transform(operation.map); break;
      default: replace([&](int, int value) { return changed_value(operation, value); }); break;
    }
  }

  /// Puts the finished image into its slot.
  __device__ void finish() {
    if (!in_slot_) move(pixels_, slot_);
  }

 private:
  [[nodiscard]] __device__ pixel_view view() const { return {pixels_, side_, side_}; }
  [[nodiscard]] __device__ int bytes() const { return side_ * side_ * 3; }

  /// f(y, x) for every pixel; a warp takes a row.
  template <class F>
  __device__ void each_pixel(F f) const {
    for (int y = static_cast<int>(threadIdx.x / 32); y < side_; y += static_cast<int>(blockDim.x / 32))
      for (int x = static_cast<int>(threadIdx.x % 32); x < side_; x += 32) f(y, x);
  }

  /// f(word, channel of its first byte) for every four bytes; those behind the last pixel are there, and mean nothing.
  template <class F>
  __device__ void each_word(F f) const {
    auto* const words = reinterpret_cast<std::uint32_t*>(pixels_);
    for (int k = static_cast<int>(threadIdx.x); k < (bytes() + 3) / 4; k += static_cast<int>(blockDim.x)) f(words[k], k, k % 3);
  }

  __device__ void move(std::uint8_t const* from, std::uint8_t* to) const {
    for (int i = static_cast<int>(threadIdx.x); i < (bytes() + 15) / 16; i += static_cast<int>(blockDim.x))
      reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<uint4 const*>(from)[i];
    __syncthreads();
  }

  /// entry(channel, value) becomes what each value is replaced by.
  template <class Entry>
  __device__ void replace(Entry entry) {
    for (int i = static_cast<int>(threadIdx.x); i < 768; i += static_cast<int>(blockDim.x))
      space_.tables[i / 256][i % 256] = entry(i / 256, i % 256);
    __syncthreads();
    replace_by_tables();
  }

  __device__ void replace_by_tables() {
    each_word([&](std::uint32_t& word, int, int channel) {
      std::uint32_t changed = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        changed |= std::uint32_t{space_.tables[channel][word >> (8 * i) & 0xFF]} << (8 * i);
        channel = channel == 2 ? 0 : channel + 1;
      }
      word = changed;
    });
    __syncthreads();
  }

  __device__ void count_values() {
    for (int i = static_cast<int>(threadIdx.x); i < 768; i += static_cast<int>(blockDim.x)) space_.counts[i / 256][i % 256] = 0;
    __syncthreads();
    each_word([&](std::uint32_t word, int k, int channel) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (4 * k + i < bytes()) atomicAdd(&space_.counts[channel][word >> (8 * i) & 0xFF], 1u);
        channel = channel == 2 ? 0 : channel + 1;
      }
    });
    __syncthreads();
  }

  __device__ void stretch_contrast() {
    if (threadIdx.x < 3) {
      space_.lowest[threadIdx.x] = 255;
      space_.highest[threadIdx.x] = 0;
    }
    count_values();
    for (int i = static_cast<int>(threadIdx.x); i < 768; i += static_cast<int>(blockDim.x)) {
      if (space_.counts[i / 256][i % 256] == 0) continue;
      atomicMin(&space_.lowest[i / 256], i % 256);
      atomicMax(&space_.highest[i / 256], i % 256);
    }
    __syncthreads();
    replace([&](int channel, int value) {
      int const low = space_.lowest[channel], high = space_.highest[channel];
      return high > low ? dvla::detail::stretched(value, low, high) : static_cast<std::uint8_t>(value);
    });
  }

  __device__ void equalise_histogram() {
    count_values();
    if (threadIdx.x < 3) dvla::detail::equalise(space_.counts[threadIdx.x], space_.tables[threadIdx.x]);
    __syncthreads();
    replace_by_tables();
  }

  __device__ void blend_with(int degenerate, float factor) {
    replace([&](int, int value) { return dvla::detail::blend(degenerate, value, factor); });
  }

  [[nodiscard]] __device__ int mean_luma() {
    if (threadIdx.x == 0) space_.sum = 0;
    __syncthreads();
    unsigned sum = 0;
    each_pixel([&](int y, int x) { sum += static_cast<unsigned>(dvla::detail::luma(view().at(y, x))); });
    sum = __reduce_add_sync(0xFFFFFFFFu, sum);
    if (threadIdx.x % 32 == 0) atomicAdd(&space_.sum, static_cast<unsigned long long>(sum));
    __syncthreads();
    return dvla::detail::mean_grey(space_.sum, static_cast<std::size_t>(side_) * static_cast<std::size_t>(side_));
  }

  __device__ void saturate(float factor) {
    each_pixel([&](int y, int x) {
      std::uint8_t* const rgb = pixels_ + (y * side_ + x) * 3;
      int const grey = dvla::detail::luma(rgb);
      for (int c = 0; c < 3; ++c) rgb[c] = dvla::detail::blend(grey, rgb[c], factor);
    });
    __syncthreads();
  }

  __device__ void sharpen(float factor) {
    each_pixel([&](int y, int x) {
      for (int c = 0; c < 3; ++c) slot_[(y * side_ + x) * 3 + c] = dvla::detail::sharpened(view(), y, x, c, factor);
    });
    leave_in_slot();
  }

  __device__ void transform(affine_map const map) {
    std::uint8_t const fill[3] = {imagenet_grey[0], imagenet_grey[1], imagenet_grey[2]};
    each_pixel([&](int y, int x) { dvla::detail::mapped_pixel(view(), map, y, x, fill, slot_ + (y * side_ + x) * 3); });
    leave_in_slot();
  }

  __device__ void leave_in_slot() {
    in_slot_ = true;
    __syncthreads();
  }

  int side_;
  std::uint8_t* pixels_;
  std::uint8_t* slot_;
  operation_space& space_;
  bool in_slot_ = false;
};

}  // namespace augmenting
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
