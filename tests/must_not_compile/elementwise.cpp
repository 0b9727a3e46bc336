// Operands of an element-wise expression that do not broadcast.
// message: shape_mismatch<op::add, shape<4, 9>, shape<8, 9>>
#include <dvla/expr/functions.hpp>

using namespace dvla;

auto total(tensor<float, shape<4, 9>> const& a, tensor<float, shape<WRONG ? 8 : 4, 9>> const& b) { return a + b; }
