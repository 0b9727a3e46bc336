// A variable of a tape and one of an inference context in one expression.
// message: an expression mixes variables of a tape with variables of an inference context
#include <type_traits>

#include <dvla/autodiff/evaluate.hpp>
#include <dvla/expr/functions.hpp>

using namespace dvla;

auto total(tape<>& t, std::conditional_t<WRONG, inference<>, tape<>>& other, tensor<float, shape<4, 9>> const& a) {
  return evaluate(t(a) + other(a));
}
