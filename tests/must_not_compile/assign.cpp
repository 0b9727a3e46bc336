// Assignment to a tensor of another shape.
// message: shape_mismatch<op::assign, shape<4, 9>, shape<4, 8>>
#include <dvla/expr/assign.hpp>
#include <dvla/expr/functions.hpp>
#include <dvla/kernels/cpu/elementwise.hpp>

using namespace dvla;

void store(tensor<float, shape<4, 9>>& to, tensor<float, shape<4, WRONG ? 8 : 9>> const& from) { to = from * 2; }
