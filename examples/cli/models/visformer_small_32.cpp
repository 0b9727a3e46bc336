// visformer-small-32 in a translation unit of its own.
#include "../model_tool_of.hpp"

std::unique_ptr<cli::model_tool> cli::make_visformer_small_32() {
  return std::make_unique<model_tool_of<dvla::cpu, dvla::visformer<dvla::visformer_small_32>, dvla::dvla_rl<dvla::visformer_small_32>>>(
      "visformer-small-32");
}
