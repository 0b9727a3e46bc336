// An expression over a temporary tensor would dangle.
// message: deleted function
#include <dvla/expr/functions.hpp>

using namespace dvla;

using matrix = tensor<float, shape<4, 9>>;
auto total(matrix const& a, matrix const& b) {
#if WRONG
  return a + b.clone();
#else
  return a + b;
#endif
}
