// float and double in one product.
// message: same_elements<
#include <type_traits>

#include <dvla/autodiff/matmul.hpp>

using namespace dvla;

auto product(tape<>& t, tensor<float, shape<4, 9>> const& a, tensor<std::conditional_t<WRONG, double, float>, shape<9, 3>> const& b) {
  return matmul(t(a), t(b));
}
