// The core with the CUDA device: tensors, expressions, autodiff, layers and optimizers on a card, from the same sources as on
// the CPU. For .cu files, compiled by nvcc as C++20 with --expt-relaxed-constexpr (the CMake target dvla::cuda sets both).
#pragma once

#if defined(__CUDACC__)
#include <dvla/dvla.hpp>
#include <dvla/kernels/cuda/attention.cuh>
#include <dvla/kernels/cuda/attention_backward.cuh>
#include <dvla/kernels/cuda/axis.cuh>
#include <dvla/kernels/cuda/beta_policy.cuh>
#include <dvla/kernels/cuda/classification.cuh>
#include <dvla/kernels/cuda/clip.cuh>
#include <dvla/kernels/cuda/conv.cuh>
#include <dvla/kernels/cuda/cross_entropy.cuh>
#include <dvla/kernels/cuda/device.cuh>
#include <dvla/kernels/cuda/elementwise.cuh>
#include <dvla/kernels/cuda/fold_norm.cuh>
#include <dvla/kernels/cuda/gemm.cuh>
#include <dvla/kernels/cuda/gemm_evaluate.cuh>
#include <dvla/kernels/cuda/gradient_sums.cuh>
#include <dvla/kernels/cuda/layer_norm.cuh>
#include <dvla/kernels/cuda/memory.cuh>
#include <dvla/kernels/cuda/norm.cuh>
#include <dvla/kernels/cuda/optimizer.cuh>
#include <dvla/kernels/cuda/pooling.cuh>
#include <dvla/kernels/cuda/random.cuh>
#include <dvla/kernels/cuda/reduce.cuh>
#include <dvla/kernels/cuda/replay.cuh>
#include <dvla/kernels/cuda/softmax.cuh>
#include <dvla/kernels/cuda/staging.cuh>
#include <dvla/kernels/cuda/statistics.cuh>
#else
#error "dvla/cuda.hpp is for CUDA sources: name the file .cu and compile it with nvcc, or include dvla/dvla.hpp for the CPU"
#endif
