// Queries and keys of different head_dim.
// message: shape_mismatch<op::attention, shape<2, 5, 3, 64>, shape<2, 7, 3, 32>>
#include <dvla/autodiff/attention.hpp>

using namespace dvla;

auto attend(tape<>& t, tensor<float, shape<2, 5, 3, 64>> const& q, tensor<float, shape<2, 7, 3, WRONG ? 32 : 64>> const& k) {
  return attention(t(q), t(k), t(k), 0.125);
}
