// Side by side along the tokens, channels differ.
// message: shape_mismatch<op::concatenate, shape<dyn, 49, 96>, shape<dyn, 8, 64>>
#include <dvla/autodiff/rearrange.hpp>

using namespace dvla;

auto join(tape<>& t, tensor<float, shape<dyn, 49, 96>> const& image, tensor<float, shape<dyn, 8, WRONG ? 64 : 96>> const& words) {
  return concatenate<1>(t(image), t(words));
}
