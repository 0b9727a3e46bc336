// The card, and what was compiled for it.
#include "device_info.hpp"

#include <dvla/kernels/cuda/device.cuh>

namespace {

std::string version_text(int version) { return dvla::concat(version / 1000, ".", version % 1000 / 10); }

}  // namespace

std::string cli::describe_device() {
  using dvla::kernels::cuda_check;
  std::string text = dvla::concat("CUDA ", version_text(CUDART_VERSION), " compiled in, for the architectures ",
                                  DVLA_TOOL_ARCHITECTURES, "; precisions f32, tf32, bf16\n");
  int driver = 0, count = 0;
  cuda_check(cudaDriverGetVersion(&driver), "asking for the driver");
  if (driver == 0) return text + "no driver: a card cannot be used\n";
  cuda_check(cudaGetDeviceCount(&count), "looking for cards");
  text += dvla::concat("driver for CUDA ", version_text(driver), ", ", count, count == 1 ? " card\n" : " cards\n");
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp card{};
    cuda_check(cudaGetDeviceProperties(&card, i), "asking for a card's properties");
    cuda_check(cudaSetDevice(i), "choosing a card");
    std::size_t unused = 0, total = 0;
    cuda_check(cudaMemGetInfo(&unused, &total), "asking for a card's memory");
    text += dvla::concat("  ", i, ": ", static_cast<char const*>(card.name), ", compute ", card.major, ".", card.minor, ", ",
                         card.multiProcessorCount, " multiprocessors, ", unused >> 20, " of ", total >> 20, " MiB free\n");
  }
  return text;
}
