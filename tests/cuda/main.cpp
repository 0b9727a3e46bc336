// The tests of the CUDA device. Without one they are skipped: exit status 77.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cuda_runtime_api.h>

#include <cstdio>

int main(int argc, char** argv) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("no CUDA device: the kernels were compiled, not run");
    return 77;
  }
  return doctest::Context(argc, argv).run();
}
