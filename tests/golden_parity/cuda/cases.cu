#include <dvla/cuda.hpp>

#include "../device_cases.hpp"

bool parity::cuda_is_there() {
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}

bool parity::cuda_network(std::string const& name, golden_file const& golden) {
  return device_cases<dvla::cuda, float>::check_network(name, golden);
}

bool parity::cuda_block(std::string const& name, golden_file const& golden) {
  return device_cases<dvla::cuda, float>::check_block(name, golden);
}
