// Every macro of the library but the version's two. Nothing outside this file tests the compiler or the instruction set.
#pragma once

#include <dvla/version.hpp>

// The inline namespace of all symbols: it carries version and instruction set, so that translation units built with
// different flags fail to link instead of sharing one inline function compiled in two ways.
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define DVLA_ABI v0_1_avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define DVLA_ABI v0_1_avx2
#else
#define DVLA_ABI v0_1_base
#endif

// Callable from a CUDA kernel as well; empty for a compiler that does not know CUDA.
#if defined(__CUDACC__)
#define DVLA_HD __host__ __device__
#else
#define DVLA_HD
#endif

// Whether the code at hand is compiled for a card.
#if defined(__CUDA_ARCH__)
#define DVLA_ON_DEVICE 1
#else
#define DVLA_ON_DEVICE 0
#endif

// Inlined even where the optimiser's budget is spent: the inner loops of kernels and expressions depend on it.
#define DVLA_INLINE inline __attribute__((always_inline))

#define DVLA_RESTRICT __restrict__

// Unrolls the loop that follows n times, before registers are assigned: without it g++ 12 at -O2 keeps arrays of
// accumulators in memory.
#if defined(__clang__) || DVLA_ON_DEVICE  // nvcc drops GCC's pragma where it compiles for a card
#define DVLA_PRAGMA(text) _Pragma(#text)
#define DVLA_UNROLL(n) DVLA_PRAGMA(unroll n)
#else
#define DVLA_PRAGMA(text) _Pragma(#text)
#define DVLA_UNROLL(n) DVLA_PRAGMA(GCC unroll n)
#endif
