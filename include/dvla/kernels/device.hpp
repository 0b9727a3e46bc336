// Devices are types. A kernel is a function whose first argument is the device: kernels/cpu/ defines it for cpu,
// kernels/cuda/ for cuda, and an operation that calls gemm(device, ...) finds the right one by argument-dependent lookup.
#pragma once

#include <cstddef>
#include <new>

#include <dvla/core/parallel.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// The processor. A value: copies refer to the same executor; without one, everything runs on the calling thread.
struct cpu {
  executor* pool = nullptr;

  static constexpr std::size_t alignment = 64;  // bytes; a cache line and an AVX-512 register

  [[nodiscard]] static void* allocate(std::size_t bytes) { return ::operator new(bytes, std::align_val_t{alignment}); }
  static void deallocate(void* memory) noexcept { ::operator delete(memory, std::align_val_t{alignment}); }
};

}  // namespace kernels

using kernels::cpu;

}  // namespace dvla::inline DVLA_ABI
