// Devices are types. A kernel is a function whose first argument is the device: kernels/cpu/ defines it for cpu,
// kernels/cuda/ for cuda, and an operation that calls gemm(device, ...) finds the right one by argument-dependent lookup.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>

#include <dvla/core/parallel.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// The processor. A value: copies refer to the same executor; without one, everything runs on the calling thread.
struct cpu {
  executor* pool = nullptr;

  static constexpr std::size_t alignment = 64;  // bytes; a cache line and an AVX-512 register
  static constexpr bool is_host = true;         // its memory can be read and written like any other

  /// What activations of a model of T are stored as.
  template <class T>
  using stored = T;

  [[nodiscard]] static void* allocate(std::size_t bytes) { return ::operator new(bytes, std::align_val_t{alignment}); }
  static void deallocate(void* memory) noexcept { ::operator delete(memory, std::align_val_t{alignment}); }
  /// Copies between memories of the device; complete on return, whatever runs on it.
  static void copy_bytes(void* to, void const* from, std::size_t bytes) { std::memmove(to, from, bytes); }
  static void clear_bytes(void* memory, std::size_t bytes) { std::memset(memory, 0, bytes); }
};

}  // namespace kernels

using kernels::cpu;

}  // namespace dvla::inline DVLA_ABI
