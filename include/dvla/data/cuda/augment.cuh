// Batches of augmented images from a set that lies in the device's memory. What is drawn for an image is drawn on the host, by
// data/pipeline.hpp; the bytes are those of the CPU but where a rounding falls on an edge.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <dvla/data/cuda/block_image.cuh>
#include <dvla/data/cuda/block_resample.cuh>
#include <dvla/data/cuda/finish.cuh>
#include <dvla/data/cuda/image_plan.hpp>
#include <dvla/kernels/cuda/device.cuh>

namespace dvla::inline DVLA_ABI {

/// Thrown for images that only the host can prepare: of different sizes, or too large for the device's kernels.
class unfit_images : public error {
 public:
  using error::error;
};

namespace kernels {

/// Images of one size in the device's memory: (count, height, width, 3) bytes.
struct device_images {
  std::uint8_t const* pixels = nullptr;
  std::size_t count = 0, height = 0, width = 0;

  [[nodiscard]] DVLA_HD std::size_t bytes_each() const { return height * width * 3; }
};

namespace augmenting {

/// A block makes image blockIdx.x of the batch in shared memory, or in `scratch` where it does not fit there, and leaves it in out.
template <bool Shared>
__global__ void __launch_bounds__(512) prepare_kernel(device_images const set, image_plan const* DVLA_RESTRICT plans,
                                                       block_layout const layout, std::uint8_t* scratch, std::uint8_t* out) {
  extern __shared__ uint4 prepare_memory[];
  __shared__ operation_space space;
  image_plan const& plan = plans[blockIdx.x];
  auto* at = reinterpret_cast<std::uint8_t*>(prepare_memory);
  std::uint8_t* pixels = at;
  if constexpr (Shared) at += layout.pitch;
  else pixels = scratch + blockIdx.x * layout.pitch;
  auto* const windows = reinterpret_cast<int2*>(at);
  auto* const weights = reinterpret_cast<std::int32_t*>(windows + 2 * layout.side);
  resize_tables const tables{windows, weights, layout.side, layout.taps};
  pixel_view const source{set.pixels + plan.number * set.bytes_each(), static_cast<int>(set.height), static_cast<int>(set.width)};
  resample(source, plan, layout, tables, at + layout.table_bytes(), pixels);

  block_image image(layout.side, pixels, out + blockIdx.x * layout.pitch, space);
  for (int i = 0; i < static_cast<int>(image_plan::most_operations); ++i) {
    if (plan.operations[i].what == pixel_operation::none) break;
    image.apply(plan.operations[i]);
  }
  image.finish();
}

/// The layout for a set, whether an image is made in shared memory, and how much of that a block takes.
struct launch_plan {
  block_layout layout;
  bool shared;
  std::size_t bytes;
};

/// `room` is the shared memory that a block may have. An image is kept in it if that leaves enough for the rows between the passes
/// that few of them are made twice.
[[nodiscard]] inline launch_plan plan_launch(device_images const& set, std::size_t side, std::size_t room) {
  if (side > 4096 || set.height > 16384 || set.width > 16384)
    throw unfit_images(concat("augmentation on the device: images of ", set.height, "x", set.width, " pixels for inputs of ", side, "x",
                              side, "; the largest are 16384x16384 and 4096x4096"));
  resample_axis const widest(std::max(set.height, set.width), side, interpolation::bicubic);
  block_layout layout{static_cast<int>(side), static_cast<int>(widest.most_taps()), 0, (side * side * 3 + 15) / 16 * 16};
  std::size_t const taps = widest.most_taps(), row = static_cast<std::size_t>(layout.row_pitch());
  auto const rows_beside = [&](std::size_t taken) { return room > taken ? std::min((room - taken) / row, set.height) : 0; };
  std::size_t const beside_image = rows_beside(layout.pitch + layout.table_bytes());
  bool const shared = beside_image >= std::min(set.height, 4 * taps);
  std::size_t const rows = shared ? beside_image : rows_beside(layout.table_bytes());
  if (rows < std::min(set.height, taps))
    throw unfit_images(concat("augmentation on the device: images of ", set.height, "x", set.width,
                              " pixels are too large to be resized to ", side, "x", side, " in a block's ", room,
                              " bytes of shared memory; prepare them on the host (host_loader)"));
  layout.rows = static_cast<int>(rows);
  return {layout, shared, (shared ? layout.pitch : 0) + layout.table_bytes() + rows * row};
}

template <bool Shared, precision P>
void prepare(basic_cuda<P> const& device, device_images const& set, std::size_t count, image_plan const* plans,
             launch_plan const& plan, std::uint8_t* scratch, std::uint8_t* out) {
  auto* const kernel = &prepare_kernel<Shared>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(plan.bytes)),
             "setting the shared memory of augmentation");
  unsigned const threads = plan.layout.side <= 64 ? 256 : 512;
  kernel<<<detail::blocks_of(count, 1), threads, plan.bytes, device.stream()>>>(set, plans, plan.layout, scratch, out);
  cuda_launched("augmenting a batch of images");
}

/// Shared memory that a block may have beside what its kernel declares.
[[nodiscard]] inline std::size_t shared_room(cuda_queue const& queue) {
  int most = 0;
  cuda_check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, queue.card()), "asking for the shared memory");
  return static_cast<std::size_t>(most) - (sizeof(operation_space) + 255) / 256 * 256;
}

}  // namespace augmenting

/// The network's inputs (count, how.image, how.image, 3) for `count` images of the set, as the plans say (plan_of, with the same
/// `how`), normalised and mixed with their mirror images. Plans and mix, null for none, lie in the device's memory; X is float or
/// bfloat16. Throws for images that are too large.
template <class X, precision P>
void augment_images(basic_cuda<P> const& device, device_images const& set, preprocessing const& how, std::size_t count,
                    image_plan const* plans, mix_plan const* mix, X* out) {
  if (count == 0 || how.image == 0) return;
  expect(set.count > 0 && set.height > 0 && set.width > 0, "augmentation on the device: the set has no images");
  auto const plan = augmenting::plan_launch(set, how.image, augmenting::shared_room(*device.queue));
  detail::device_scratch<std::uint8_t> const bytes(device, count * plan.layout.pitch);
  if (plan.shared) {
    augmenting::prepare<true>(device, set, count, plans, plan, nullptr, bytes.data());
  } else {
    detail::device_scratch<std::uint8_t> const scratch(device, count * plan.layout.pitch);
    augmenting::prepare<false>(device, set, count, plans, plan, scratch.data(), bytes.data());
  }
  augmenting::finish(device, count, how.image, plan.layout.pitch, bytes.data(), plans, mix, how.statistics, out);
}

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
