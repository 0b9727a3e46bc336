// The mismatch inside a longer expression is reported once, where it is.
// message: shape_mismatch<op::multiply, shape<dyn, 9>, shape<8>>
#include <dvla/expr/functions.hpp>

using namespace dvla;

auto scaled(tensor<float, shape<dyn, 9>> const& x, tensor<float, shape<WRONG ? 8 : 9>> const& scale,
            tensor<float, shape<dyn, 9>> const& residual) {
  return gelu(x * scale + 1) + residual;
}
