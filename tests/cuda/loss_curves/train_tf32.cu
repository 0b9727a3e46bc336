#include <dvla/models/visformer.hpp>

#include "train.hpp"

std::vector<double> curves::train_tf32(pictures const& all, std::uint64_t seed) {
  return train<dvla::basic_cuda<dvla::precision::tf32>>(all, seed);
}
