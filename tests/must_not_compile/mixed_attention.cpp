// double keys for float queries.
// message: one_element_type<
#include <type_traits>

#include <dvla/autodiff/attention.hpp>

using namespace dvla;

using key_element = std::conditional_t<WRONG, double, float>;

auto attend(tape<>& t, tensor<float, shape<dyn, 9, 2, 8>> const& q, tensor<key_element, shape<dyn, 5, 2, 8>> const& k) {
  return attention(t(q), t(k), t(k), 0.5);
}
