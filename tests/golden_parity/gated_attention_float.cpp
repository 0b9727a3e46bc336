#include "cases.hpp"
#include "gated_attention_case.hpp"

template <>
void parity::gated_attention<dvla::cpu, float>(report& found, golden_file const& golden) {
  gated_attention_case<dvla::cpu, float>(found, golden);
}
