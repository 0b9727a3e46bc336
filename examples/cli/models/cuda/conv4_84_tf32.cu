// conv4-84 on a card, computing in tf32.
#include <dvla/cuda.hpp>
#include <dvla/models/conv4.hpp>

#include "../../model_tool_of.hpp"
#include "image_supply.cuh"

template <>
std::unique_ptr<cli::model_tool> cli::make_on_card<dvla::precision::tf32>::conv4_84() {
  using device = dvla::basic_cuda<dvla::precision::tf32>;
  return std::make_unique<model_tool_of<device, dvla::conv4<dvla::conv4_84>>>("conv4-84");
}
