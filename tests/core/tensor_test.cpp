// Owning tensors: where they live, how they start, move and are copied.
#include <doctest/doctest.h>

#include <cstdint>
#include <type_traits>

#include <dvla/core/tensor.hpp>

#include "support/tensors.hpp"

namespace {

using dvla::dyn;
using dvla::shape;
using dvla::tensor;

template <class T>
bool aligned(T const* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 64 == 0;
}

}  // namespace

TEST_CASE("Elements start at zero on a 64-byte boundary whatever the size and type") {
  for (std::size_t size : {0u, 1u, 3u, 17u, 196u, 100003u}) {
    tensor<float, shape<dyn>> const f(size);
    tensor<double, shape<dyn, 3>> const d(size);
    tensor<std::uint8_t, shape<dyn>> const b(size);
    CHECK(aligned(f.data()));
    CHECK(aligned(d.data()));
    CHECK(aligned(b.data()));
    bool zero = true;
    for (std::size_t i = 0; i < d.size(); ++i) zero = zero && d.data()[i] == 0;
    CHECK(zero);
  }
  tensor<float, shape<2, 2>> const fixed;
  CHECK(aligned(fixed.data()));
  CHECK(fixed(1, 1) == 0);
}

TEST_CASE("Only a tensor whose shape is in its type is default-constructible; none is copied silently") {
  CHECK(std::is_default_constructible_v<tensor<float, shape<2, 3>>>);
  CHECK_FALSE(std::is_default_constructible_v<tensor<float, shape<dyn, 3>>>);
  CHECK_FALSE(std::is_copy_constructible_v<tensor<float, shape<2>>>);
  CHECK_FALSE(std::is_copy_assignable_v<tensor<float, shape<2>>>);
  CHECK(std::is_nothrow_move_constructible_v<tensor<float, shape<dyn>>>);
  CHECK(std::is_nothrow_move_assignable_v<tensor<float, shape<dyn>>>);
}

TEST_CASE("Moving hands the memory over") {
  tensor<float, shape<dyn>> a(5);
  a.fill(3);
  float const* const memory = a.data();
  tensor<float, shape<dyn>> b(std::move(a));
  CHECK(b.data() == memory);
  CHECK(b(4) == 3);
  tensor<float, shape<dyn>> c(2);
  c = std::move(b);
  CHECK(c.data() == memory);
  CHECK(c.shape()[0] == 5);
  auto& same = c;
  c = std::move(same);
  CHECK(c.data() == memory);
  CHECK(c(0) == 3);
}

TEST_CASE("A clone has its own elements") {
  auto const a = uniform_tensor<double>(shape<dyn, 3>(7), 1);
  auto b = a.clone();
  CHECK(same_bits(a.size(), a.data(), b.data()));
  b(6, 2) += 1;
  CHECK(b(6, 2) == a(6, 2) + 1);
}

TEST_CASE("A scalar tensor has one element and no index") {
  tensor<float, shape<>> t;
  CHECK(t.size() == 1);
  t() = 2;
  CHECK(t() == 2);
}

TEST_CASE("A tensor of more bytes than there can be addresses is refused") {
  CHECK(contains(message_of([] { tensor<float, shape<dyn>> const t(std::size_t{1} << 62); }), "(4611686018427387904)"));
  CHECK(contains(message_of([] { tensor<float, shape<dyn, dyn>> const t(std::size_t{1} << 32, std::size_t{1} << 32); }),
                 "(4294967296, 4294967296)"));
  CHECK(contains(message_of([] { tensor<double, shape<dyn>> const t(-1); }), "more elements than memory has addresses"));
}
