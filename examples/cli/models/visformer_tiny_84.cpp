// visformer-tiny-84 in a translation unit of its own.
#include "../model_tool_of.hpp"

std::unique_ptr<cli::model_tool> cli::make_visformer_tiny_84() {
  return std::make_unique<model_tool_of<dvla::cpu, dvla::visformer<dvla::visformer_tiny_84>, dvla::dvla_rl<dvla::visformer_tiny_84>>>(
      "visformer-tiny-84");
}
