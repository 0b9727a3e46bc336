// The inner extents of a product.
// message: shape_mismatch<op::matmul, shape<4, 9>, shape<8, 3>>
#include <dvla/autodiff/matmul.hpp>

using namespace dvla;

auto product(tape<>& t, tensor<float, shape<4, 9>> const& a, tensor<float, shape<WRONG ? 8 : 9, 3>> const& b) {
  return matmul(t(a), t(b));
}
