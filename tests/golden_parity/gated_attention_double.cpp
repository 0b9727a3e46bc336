#include "cases.hpp"
#include "gated_attention_case.hpp"

template <>
void parity::gated_attention<dvla::cpu, double>(report& found, golden_file const& golden) {
  gated_attention_case<dvla::cpu, double>(found, golden);
}
