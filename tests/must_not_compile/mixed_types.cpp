// float and double in one expression.
// message: an expression mixes float and double tensors
#include <type_traits>

#include <dvla/expr/functions.hpp>

using namespace dvla;

auto total(tensor<float, shape<4, 9>> const& a, tensor<std::conditional_t<WRONG, double, float>, shape<4, 9>> const& b) { return a + b; }
