#include "cases.hpp"
#include "episode_case.hpp"

template <>
void parity::episode_224<dvla::cpu, float>(report& found, golden_file const& golden, bool training) {
  episode<dvla::visformer_tiny_224, dvla::cpu, float>(found, golden, training);
}
