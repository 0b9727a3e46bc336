// A causal mask on a device that has no kernel for it.
// message: causal attention has no kernel on this device
#include <dvla/autodiff/attention.hpp>

using namespace dvla;

struct other_device {};

void attend(kernels::attention_operand<float const> x, kernels::attention_operand<float> y) {
  std::conditional_t<WRONG, other_device, cpu> const device{};
  float* const lse = nullptr;
  detail::forward_attention<attention_mask::causal>(device, kernels::attention_shape{1, 1, 2, 2, 4}, 0.5f, x, x, x, y, lse);
}
