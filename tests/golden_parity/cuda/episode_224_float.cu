#include <dvla/cuda.hpp>

#include "../cases.hpp"
#include "../episode_case.hpp"

template <>
void parity::episode_224<dvla::cuda, float>(report& found, golden_file const& golden, bool training) {
  episode<dvla::visformer_tiny_224, dvla::cuda, float>(found, golden, training);
}
