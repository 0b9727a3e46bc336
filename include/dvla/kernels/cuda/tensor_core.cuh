// The tensor cores, as matrix products use them.
#pragma once

#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/core/config.hpp>
#include <dvla/kernels/cuda/instructions.cuh>
#include <dvla/kernels/precision.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels::tensor_core {

/// Whether products of T may use the tensor cores.
template <precision P, class T>
inline constexpr bool takes = std::is_same_v<T, bfloat16> || (std::is_same_v<T, float> && P == precision::tf32);

using instructions::as_tf32, instructions::await_threads, instructions::copies_commit, instructions::copies_wait, instructions::copy_async;
using instructions::load_matrices, instructions::load_matrices_transposed, instructions::load_word, instructions::multiply_add;
using instructions::prefetch, instructions::round_words, instructions::shared_address, instructions::store_words;

}  // namespace kernels::tensor_core
}  // namespace dvla::inline DVLA_ABI
