// conv4-32 on a card, computing in tf32.
#include <dvla/cuda.hpp>
#include <dvla/models/conv4.hpp>

#include "../../model_tool_of.hpp"
#include "image_supply.cuh"

template <>
std::unique_ptr<cli::model_tool> cli::make_on_card<dvla::precision::tf32>::conv4_32() {
  using device = dvla::basic_cuda<dvla::precision::tf32>;
  return std::make_unique<model_tool_of<device, dvla::conv4<dvla::conv4_32>>>("conv4-32");
}
