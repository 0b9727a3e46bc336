// A norm of another number of channels than the map has.
// message: shape_mismatch<op::batch_norm, shape<dyn, 7, 7, 96>, shape<97>>
#include <dvla/nn/layers.hpp>

using namespace dvla;

auto normalise(tape<>& t, nn::batch_norm<WRONG ? 97 : 96> const& norm, tensor<float, shape<dyn, 7, 7, 96>> const& map) {
  return norm(t(map));
}
