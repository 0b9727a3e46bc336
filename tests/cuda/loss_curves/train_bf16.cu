#include <dvla/models/visformer.hpp>

#include "train.hpp"

std::vector<double> curves::train_bf16(pictures const& all, std::uint64_t seed) {
  return train<dvla::basic_cuda<dvla::precision::bf16>>(all, seed);
}
