// An image whose channels are not those of the kernel.
// message: shape_mismatch<op::convolution, shape<dyn, 32, 32, 3>, shape<16, 3, 3, 4>>
#include <dvla/nn/layers.hpp>

using namespace dvla;

auto stem(tape<>& t, nn::conv2d<WRONG ? 4 : 3, 16, 3> const& layer, tensor<float, shape<dyn, 32, 32, 3>> const& images) {
  return layer(t(images));
}
