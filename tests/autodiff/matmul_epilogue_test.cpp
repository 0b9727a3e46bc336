// Products with an epilogue against the same expression on the plain product.
#include <doctest/doctest.h>
#include <dvla/autodiff/gradient_check.hpp>
#include <dvla/autodiff/matmul_epilogue.hpp>
#include <dvla/core/thread_pool.hpp>
#include <dvla/expr/functions.hpp>

using namespace dvla;

namespace {

template <class T, class S>
tensor<T, S> random_tensor(S const& extents, std::uint32_t which) {
  tensor<T, S> out(extents);
  random_stream random(7, draw::test, which, 0);
  for (std::size_t i = 0; i < out.size(); ++i) out.data()[i] = static_cast<T>(random.uniform(-1, 1));
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("a fused epilogue equals the expression on the plain product", T, float, double) {
  for (std::size_t const m : {1u, 3u, 17u, 49u, 196u, 197u})
    for (std::size_t const n : {1u, 3u, 17u, 49u, 197u}) {
      auto const x = random_tensor<T>(shape<dyn, dyn>(m, 33), 1);
      auto const w = random_tensor<T>(shape<dyn, dyn>(n, 33), 2);
      auto const bias = random_tensor<T>(shape<dyn>(n), 3);
      auto const residual = random_tensor<T>(shape<dyn, dyn>(m, n), 4);
      auto const scale = random_tensor<T>(shape<dyn, 1>(m), 5);
      inference<> context;
      auto const b = context(bias);
      auto const r = context(residual);
      auto const s = context(scale);
      auto const fused = matmul(context(x), transpose(context(w)), gelu(accumulator + b) * s + r);
      auto const plain = matmul(context(x), transpose(context(w)));
      auto const expected = evaluate(gelu(plain + b) * s + r);
      for (std::size_t i = 0; i < fused.size(); ++i) CHECK(fused.value().data[i] == expected.value().data[i]);
    }
}

TEST_CASE("gradients of a fused epilogue pass the check, with leading extents and every kind of leaf") {
  auto x = random_tensor<double>(shape<dyn, 5, 4>(3), 1);
  auto w = random_tensor<double>(shape<4, 6>(), 2);
  auto bias = random_tensor<double>(shape<6>(), 3);
  auto residual = random_tensor<double>(shape<dyn, 5, 6>(3), 4);
  auto const f = [](auto const& vx, auto const& vw, auto const& vb, auto const& vr) { return matmul(vx, vw, tanh(accumulator + vb) * vr); };
  CHECK(gradient_check(f, false, x, w, bias, residual).error <= 1e-7);
}

TEST_CASE("a fused epilogue has the same bits on one thread and on two") {
  auto const x = random_tensor<float>(shape<dyn, 64>(1000), 1);
  auto const w = random_tensor<float>(shape<64, 96>(), 2);
  thread_pool pool(2);
  inference<> one, two(cpu{&pool});
  auto const a = matmul(one(x), one(w), relu(accumulator * 2.0));
  auto const b = matmul(two(x), two(w), relu(accumulator * 2.0));
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a.value().data[i] == b.value().data[i]);
}

TEST_CASE("a residual sum and a value a sample pass the gradient check, also where the sum's term has other readers") {
  auto x = random_tensor<double>(shape<dyn, 5, 4>(3), 1);
  auto w = random_tensor<double>(shape<4, 6>(), 2);
  auto residual = random_tensor<double>(shape<dyn, 5, 6>(3), 3);
  auto kept = random_tensor<double>(shape<dyn, 1, 1>(3), 4);
  auto const sum = [](auto const& vx, auto const& vw, auto const& vr) { return matmul(vx, vw, vr + accumulator); };
  CHECK(gradient_check(sum, false, x, w, residual).error <= 1e-7);
  auto const shared = [](auto const& vx, auto const& vw, auto const& vr) {
    auto const inner = evaluate(vr * vr);
    return matmul(vx, vw, inner + accumulator) * inner;
  };
  CHECK(gradient_check(shared, false, x, w, residual).error <= 1e-7);
  auto const dropped = [](auto const& vx, auto const& vw, auto const& vr, auto const& vk) { return matmul(vx, vw, vr + accumulator * vk); };
  auto const plain = [](auto const& vx, auto const& vw, auto const& vr, auto const& vk) { return evaluate(vr + matmul(vx, vw) * vk); };
  inference<> context;
  auto const fused = dropped(context(x), context(w), context(residual), context(kept));
  auto const expected = plain(context(x), context(w), context(residual), context(kept));
  for (std::size_t i = 0; i < fused.size(); ++i) CHECK(fused.value().data[i] == expected.value().data[i]);
  auto const with_constant = [&](auto const& vx, auto const& vw, auto const& vr) { return dropped(vx, vw, vr, vx.context()(kept)); };
  CHECK(gradient_check(with_constant, false, x, w, residual).error <= 1e-7);
}
