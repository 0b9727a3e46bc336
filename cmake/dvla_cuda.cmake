# The CUDA device: DVLA_CUDA=AUTO takes it where nvcc and its libraries are, ON demands it, OFF leaves it out. The target
# dvla::cuda is for .cu files that include dvla/cuda.hpp.
set(DVLA_CUDA AUTO CACHE STRING "The CUDA device: AUTO, ON or OFF")
set_property(CACHE DVLA_CUDA PROPERTY STRINGS AUTO ON OFF)
set(DVLA_HAS_CUDA OFF)

if(DVLA_CUDA)
  dvla_find_dependencies(cuda missing)
  if(NOT missing)
    if(NOT CMAKE_CUDA_COMPILER AND CUDAToolkit_NVCC_EXECUTABLE)
      set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
    endif()
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 90 CACHE STRING "Cards to compile for, as CMake names them: 80, 90, native, ...")
    endif()
    include(CheckLanguage)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
      enable_language(CUDA)
      set(DVLA_HAS_CUDA ON)
    endif()
  endif()
  if(NOT DVLA_HAS_CUDA)
    if(NOT missing)
      set(missing " nvcc was not found.")
    endif()
    if(DVLA_CUDA STREQUAL "AUTO")
      message(STATUS "dvla: without dvla::cuda:${missing}")
    else()
      message(FATAL_ERROR "dvla:${missing} Install the CUDA toolkit, name its nvcc with -DCMAKE_CUDA_COMPILER, or set DVLA_CUDA=OFF")
    endif()
  endif()
endif()

if(DVLA_HAS_CUDA)
  dvla_component(cuda dvla_dvla CUDA::cudart_static CUDA::cublasLt)
  # As a feature, cuda_std_20 is unknown to CMake 3.25 with nvcc 13; as an option it works with every version.
  # Warnings: 128 and 186, loops over no extents; 1675, GCC's pragmas; 20011 and 20012, expressions that hold variables, which stay
  # on the host, in a tuple that works on both sides.
  target_compile_options(dvla_cuda INTERFACE
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-std=c++20 --expt-relaxed-constexpr -diag-suppress 128,186,1675,20011,20012>")
endif()
