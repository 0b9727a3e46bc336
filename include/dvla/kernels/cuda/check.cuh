// Errors of the CUDA runtime as sentences: what was being done, what came, and what helps.
#pragma once

#include <cuda_runtime.h>

#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// What helps against an error of the CUDA runtime.
[[nodiscard]] inline char const* cuda_remedy(cudaError_t status) {
  switch (status) {
    case cudaErrorMemoryAllocation:
      return "the device's memory is full; use a smaller batch, a lower precision or another card";
    case cudaErrorNoDevice:
      return "no CUDA device was found; run on the CPU or check that the driver sees the card (nvidia-smi)";
    case cudaErrorInsufficientDriver:
      return "the driver is older than the CUDA runtime of this program; update the driver";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
      return "the program has no code for this card; build it for the card's architecture (CMAKE_CUDA_ARCHITECTURES)";
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
      return "a step that is recorded must not wait for the device or read from it; read what it gave after it";
    case cudaErrorInvalidDevice:
      return "there is no card of that number; nvidia-smi -L lists them, from 0 on";
    case cudaErrorDevicesUnavailable:
      return "the card is busy or in exclusive use by another process; free it or choose another one";
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorMisalignedAddress:
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorAssert:
      return "the device is lost to this process; start it again, from the last checkpoint if it was training";
    default:
      return "the work on the device was given up";
  }
}

/// Throws dvla::error unless the call succeeded. `doing` completes "CUDA error while ...".
inline void cuda_check(cudaError_t status, char const* doing) {
  if (status == cudaSuccess) [[likely]]
    return;
  (void)cudaGetLastError();  // the error is reported once
  fail("CUDA error while ", doing, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), "); ", cuda_remedy(status));
}

/// After a kernel launch: throws if it could not be started, naming the kernel.
inline void cuda_launched(char const* kernel) { cuda_check(cudaGetLastError(), kernel); }

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
