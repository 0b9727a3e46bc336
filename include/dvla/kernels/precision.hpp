// How a CUDA device computes with float models.
#pragma once

#include <type_traits>

#include <dvla/core/bfloat16.hpp>

namespace dvla::inline DVLA_ABI {

/// f32: strict single precision. tf32: matrix products round their operands to 10 bits of mantissa. bf16: activations and their
/// gradients are stored as bfloat16 and multiplied as such; weights, their gradients, statistics and sums stay float.
enum class precision { f32, tf32, bf16 };

/// What activations of a model of T are stored as.
template <precision P, class T>
using activation_t = std::conditional_t<P == precision::bf16 && std::is_same_v<T, float>, bfloat16, T>;

}  // namespace dvla::inline DVLA_ABI
