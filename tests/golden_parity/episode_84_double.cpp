#include "cases.hpp"
#include "episode_case.hpp"

template <>
void parity::episode_84<dvla::cpu, double>(report& found, golden_file const& golden, bool training) {
  episode<dvla::visformer_tiny_84, dvla::cpu, double>(found, golden, training);
}
