#include <dvla/cuda.hpp>

#include "../cases.hpp"
#include "../visformer_case.hpp"

template <>
void parity::visformer_224<dvla::cuda, float>(report& found, golden_file const& golden, bool training) {
  if (training)
    visformer_training<dvla::visformer_tiny_224, dvla::cuda, float>(found, golden);
  else
    visformer_evaluation<dvla::visformer_tiny_224, dvla::cuda, float>(found, golden);
}
