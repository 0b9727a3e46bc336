// The inner extents of a product whose right side is read transposed: shapes are named as they are stored.
// message: shape_mismatch<op::matmul, shape<4, 9>, shape<3, 8>>
#include <dvla/autodiff/matmul.hpp>

using namespace dvla;

auto product(tape<>& t, tensor<float, shape<4, 9>> const& a, tensor<float, shape<3, WRONG ? 8 : 9>> const& b) {
  return matmul(t(a), transpose(t(b)));
}
