// conv4-32 in a translation unit of its own.
#include <dvla/models/conv4.hpp>

#include "../model_tool_of.hpp"

std::unique_ptr<cli::model_tool> cli::make_conv4_32() {
  return std::make_unique<model_tool_of<dvla::cpu, dvla::conv4<dvla::conv4_32>>>("conv4-32");
}
