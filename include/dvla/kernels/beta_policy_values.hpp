// What is computed of a Beta policy at its actions.
#pragma once

#include <dvla/core/config.hpp>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// What beta_policy computes, element by element; arrays of `count`.
template <class T>
struct beta_policy_values {
  T* log_density;
  T* entropy;
  T* d_log_density;  // by p
  T* d_entropy;
};

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
