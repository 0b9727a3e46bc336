// visformer-small-32 on a card, computing in bf16.
#include <dvla/cuda.hpp>

#include "../../model_tool_of.hpp"
#include "image_supply.cuh"

template <>
std::unique_ptr<cli::model_tool> cli::make_on_card<dvla::precision::bf16>::visformer_small_32() {
  using device = dvla::basic_cuda<dvla::precision::bf16>;
  return std::make_unique<
      model_tool_of<device, dvla::visformer<dvla::visformer_small_32>, dvla::dvla_rl<dvla::visformer_small_32>>>(
      "visformer-small-32");
}
