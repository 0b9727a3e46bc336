// A layer that is given features of another width.
// message: shape_mismatch<op::matmul, shape<dyn, 96>, shape<10, 97>>
#include <dvla/nn/layers.hpp>

using namespace dvla;

auto classify(tape<>& t, nn::linear<WRONG ? 97 : 96, 10> const& head, tensor<float, shape<dyn, 96>> const& features) {
  return evaluate(head(t(features)));
}
