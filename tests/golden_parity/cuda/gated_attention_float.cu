#include <dvla/cuda.hpp>

#include "../cases.hpp"
#include "../gated_attention_case.hpp"

template <>
void parity::gated_attention<dvla::cuda, float>(report& found, golden_file const& golden) {
  gated_attention_case<dvla::cuda, float>(found, golden);
}
