// More keys than values.
// message: shape_mismatch<op::attention, shape<2, 7, 3, 64>, shape<2, 6, 3, 64>>
#include <dvla/autodiff/attention.hpp>

using namespace dvla;

auto attend(tape<>& t, tensor<float, shape<2, 5, 3, 64>> const& q, tensor<float, shape<2, 7, 3, 64>> const& k,
            tensor<float, shape<2, WRONG ? 6 : 7, 3, 64>> const& v) {
  return attention(t(q), t(k), t(v), 0.125);
}
