// Attention on the GPU against a plain reference in double: every precision, both placements of q, k and v, all odd lengths.
#include "attention_trial.hpp"

using namespace attending;

namespace {

/// Counts the words that differ.
template <class Word>
__global__ void count_differences(Word const* a, Word const* b, std::size_t count, unsigned* differences) {
  std::size_t const i = blockIdx.x * std::size_t{256} + threadIdx.x;
  if (i < count && a[i] != b[i]) atomicAdd(differences, 1u);
}

template <class T>
void compare(cudaStream_t stream, device_buffer<T> const& a, device_buffer<T> const& b,
             device_buffer<unsigned> const& differences) {
  std::size_t const words = a.size() * sizeof(T) / 4;
  count_differences<<<static_cast<unsigned>((words + 255) / 256), 256, 0, stream>>>(
      reinterpret_cast<unsigned const*>(a.data()), reinterpret_cast<unsigned const*>(b.data()), words, differences.data());
}

}  // namespace

TEST_CASE_TEMPLATE("attention agrees with the plain formula at odd lengths and head sizes", C, EVERY_ARITHMETIC) {
  for (std::size_t const dim : {8, 17, 24}) {
    for (std::size_t const queries : {1, 3, 17, 49})
      for (std::size_t const keys : {1, 3, 17, 49}) check_case<C>({.shape = {2, 2, queries, keys, dim}});
    check_case<C>({.shape = {1, 2, 197, 252, dim}});
  }
  for (std::size_t const dim : {1, 2, 40, 48, 64, 65, 120, 128, 160}) check_case<C>({.shape = {1, 2, 45, 67, dim}});
  check_case<C>({.shape = {1, 1, 300, 1030, 16}});
  check_case<C>({.shape = {1, 1, 1030, 70, 32}});
  for (std::size_t const dim : {48, 64, 128}) check_case<C>({.shape = {1, 1, 300, 260, dim}});
}

TEST_CASE_TEMPLATE("attention on tensor cores agrees with the plain formula for every compiled length of rows", C,
                   TENSOR_ARITHMETIC) {
  for (std::size_t const dim : {24, 48, 64, 128}) {
    for (std::size_t const queries : {1, 33, 70}) check_case<C>({.shape = {1, 2, queries, 67, dim}});
    check_case<C>({.shape = {1, 1, 101, 133, dim}});
    check_case<C>({.shape = {50, 4, 20, 33, dim}});
  }
  check_case<C>({.shape = {2, 3, 196, 196, 64}, .packed = true});
  check_case<C>({.shape = {1, 2, 210, 210, 64}, .packed = true});
  check_case<C>({.shape = {1, 2, 196, 241, 64}});
  check_case<C>({.shape = {2, 3, 49, 49, 128}, .packed = true});
  check_case<C>({.shape = {1, 2, 98, 98, 128}});
  check_case<C>({.shape = {3, 2, 45, 196, 24}, .shared_k = true, .shared_v = true});
  check_case<C>({.shape = {1, 1, 130, 770, 64}});  // whose keys leave queries little shared memory
  check_case<C>({.shape = {67, 3, 290, 40, 64}});  // two tiles of queries a warp, in rounds; of the last two one exists
}

TEST_CASE("attention in bfloat16 agrees with the plain formula at the lengths that warpgroups attend to") {
  for (std::size_t const queries : {129, 137, 192, 200})
    for (std::size_t const keys : {129, 150, 192, 193, 256}) check_case<in_bfloat16>({.shape = {1, 2, queries, keys, 64}});
  check_case<in_bfloat16>({.shape = {2, 2, 131, 170, 40}, .before = 8, .between = 24});
  check_case<in_bfloat16>({.shape = {3, 2, 196, 210, 24}, .shared_q = true, .shared_k = true, .shared_v = true});
  check_case<in_bfloat16>({.shape = {45, 3, 130, 130, 8}, .packed = true});  // two heads a block, and a last one
  for (std::size_t const keys : {150, 196}) {  // whose weights grow without bound
    attention_case<in_bfloat16> c({.shape = {1, 2, 196, keys, 64}, .spread = 6});
    auto const r = attend_plainly(c);
    c.forward();
    CHECK(relative_error(c.o.get(), r.o) <= in_bfloat16::forward_bound);
    CHECK(relative_error(c.lse.get(), r.lse) <= in_bfloat16::forward_bound);
    auto k = c.k;
    k[place(c.at_k.strides, 0, 0, keys - 1, 3)] = static_cast<bfloat16>(std::numeric_limits<float>::quiet_NaN());
    c.k_memory.put(k);
    c.forward();
    auto const o = c.o.get();
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < 196; ++i)
      for (std::size_t d = 0; d < 64; ++d) {
        wrong += !std::isnan(as_double(o[place(c.at_o.strides, 0, 0, i, d)]));
        wrong += !std::isfinite(as_double(o[place(c.at_o.strides, 0, 1, i, d)]));
      }
    CHECK(wrong == 0);
  }
}

TEST_CASE_TEMPLATE("the gradients of heads that do not fit a block come in pieces", C, TENSOR_ARITHMETIC) {
  for (std::size_t const dim : {24, 48, 64}) {
    check_case<C>({.shape = {1, 2, 20, 270, dim}});
    check_case<C>({.shape = {1, 2, 270, 270, dim}, .packed = true});  // all three gradients in one launch
    check_case<C>({.shape = {3, 2, 33, 270, dim}, .shared_q = true, .shared_k = true, .shared_v = true});
  }
  check_case<C>({.shape = {1, 2, 101, 133, 128}});
  check_case<C>({.shape = {1, 2, 130, 130, 128}, .packed = true});
  check_case<C>({.shape = {3, 2, 33, 133, 128}, .shared_q = true, .shared_k = true, .shared_v = true});
}

TEST_CASE_TEMPLATE("weights may grow without bound along the keys", C, TENSOR_ARITHMETIC) {
  using T = typename C::type;
  for (std::size_t const dim : {24, 64, 128}) {
    attention_case<C> c({.shape = {1, 2, 50, 200, dim}, .spread = 6});
    auto const rounded = [](std::vector<T> x) {  // to numbers that every arithmetic multiplies exactly
      for (T& element : x) element = static_cast<T>(static_cast<float>(static_cast<bfloat16>(static_cast<float>(element))));
      return x;
    };
    c.set_q(rounded(c.q));
    c.k_memory.put(c.k = rounded(c.k));
    auto const r = attend_plainly(c);
    c.forward();
    CHECK(relative_error(c.o.get(), r.o) <= C::forward_bound);
    CHECK(relative_error(c.lse.get(), r.lse) <= C::forward_bound);
    CHECK(c.intact());
  }
}

TEST_CASE_TEMPLATE("attention agrees with the plain formula at the lengths of the models", C, EVERY_ARITHMETIC) {
  check_case<C>({.shape = {2, 8, 45, 196, 24}});
  check_case<C>({.shape = {2, 8, 45, 49, 48}});
  check_case<C>({.shape = {1, 8, 45, 45, 48}});
  check_case<C>({.shape = {1, 2, 196, 197, 64}});
}

TEST_CASE_TEMPLATE("attention reads and writes a packed projection in place", C, EVERY_ARITHMETIC) {
  check_case<C>({.shape = {2, 3, 196, 196, 64}, .packed = true});
  check_case<C>({.shape = {2, 3, 49, 49, 128}, .packed = true});
  check_case<C>({.shape = {1, 2, 252, 252, 64}, .packed = true});
  check_case<C>({.shape = {1, 3, 98, 98, 128}, .packed = true});
  check_case<C>({.shape = {3, 2, 17, 17, 20}, .packed = true});
}

TEST_CASE_TEMPLATE("many heads take the tiles of a head in rounds", C, TENSOR_ARITHMETIC) {
  check_case<C>({.shape = {50, 4, 20, 150, 8}});
  check_case<C>({.shape = {50, 4, 150, 20, 64}});
  check_case<C>({.shape = {50, 4, 20, 150, 64}});
  check_case<C>({.shape = {50, 4, 20, 70, 128}});
  check_case<C>({.shape = {50, 4, 150, 20, 128}});
  check_case<C>({.shape = {50, 4, 70, 70, 24}, .packed = true});
  check_case<C>({.shape = {50, 4, 20, 270, 8}});
  check_case<C>({.shape = {50, 4, 270, 270, 8}});
}

TEST_CASE_TEMPLATE("rows that no wide access fits are attended to all the same", C, EVERY_ARITHMETIC) {
  check_case<C>({.shape = {2, 2, 45, 70, 64}, .before = 1});
  check_case<C>({.shape = {2, 2, 45, 70, 64}, .between = 3});
  check_case<C>({.shape = {2, 2, 45, 70, 64}, .before = 8, .between = 24});
}

TEST_CASE_TEMPLATE("the gradient of an operand shared by all images is the sum over them", C, EVERY_ARITHMETIC) {
  check_case<C>({.shape = {11, 8, 45, 49, 24}, .shared_q = true});
  check_case<C>({.shape = {3, 2, 17, 45, 24}, .shared_k = true, .shared_v = true});
  check_case<C>({.shape = {4, 1, 5, 6, 7}, .shared_q = true, .shared_k = true, .shared_v = true});
  check_case<C>({.shape = {1, 2, 45, 45, 24}, .shared_q = true, .shared_k = true, .shared_v = true});
}

TEST_CASE_TEMPLATE("attention of one key is its value, and of equal scores the mean, exactly", C, EVERY_ARITHMETIC) {
  for (std::size_t const dim : {17, 24, 64, 128}) {
    attention_case<C> one({.shape = {2, 2, 49, 1, dim}, .integers = true});
    auto const r = attend_plainly(one);
    one.forward();
    one.backward();
    CHECK(relative_error(one.o.get(), r.o) == 0);
    CHECK(relative_error(one.dv.get(), r.dv) == 0);
    CHECK(relative_error(one.dq.get(), r.dq) == 0);
    CHECK(relative_error(one.dk.get(), r.dk) == 0);
    attention_case<C> many({.shape = {2, 2, 17, 64, dim}, .integers = true});
    many.forward(false);
    auto const o = many.o.get();
    auto const expected = attend_plainly(many).o;
    bool same = true;
    for (std::size_t i = 0; i < o.size(); ++i)
      same = same && o[i] == static_cast<typename C::type>(static_cast<typename C::number>(expected[i]));
    CHECK(same);
  }
}

TEST_CASE_TEMPLATE("scores of any magnitude neither overflow nor vanish", C, EVERY_ARITHMETIC) {
  for (std::size_t const dim : {8, 17}) {
    attention_case<C> c({.shape = {1, 2, 19, 85, dim}, .spread = 1e4});
    c.forward();
    c.backward();
    CHECK(relative_error(c.lse.get(), attend_plainly(c).lse) <= C::forward_bound);
    for (auto const* x : {&c.o, &c.dq, &c.dk, &c.dv}) {
      auto const values = x->get();
      CHECK(std::all_of(values.begin(), values.end(), [](auto y) { return std::isfinite(as_double(y)); }));
    }
  }
}

TEST_CASE_TEMPLATE("a NaN in a key reaches every result of its head and no other head", C, EVERY_ARITHMETIC) {
  attention_case<C> c({.shape = {1, 2, 7, 21, 8}});
  auto k = c.k;
  k[place(c.at_k.strides, 0, 0, 20, 3)] = static_cast<typename C::type>(std::numeric_limits<typename C::number>::quiet_NaN());
  c.k_memory.put(k);
  c.forward();
  auto const o = c.o.get();
  for (std::size_t i = 0; i < 7; ++i)
    for (std::size_t d = 0; d < 8; ++d) {
      CHECK(std::isnan(as_double(o[place(c.at_o.strides, 0, 0, i, d)])));
      CHECK(std::isfinite(as_double(o[place(c.at_o.strides, 0, 1, i, d)])));
    }
}

TEST_CASE_TEMPLATE("attention does without the log sum exp, and skips the gradients that nobody asks for", C, EVERY_ARITHMETIC) {
  for (problem const& p : {problem{.shape = {2, 2, 33, 33, 24}}, problem{.shape = {2, 2, 33, 33, 24}, .packed = true},
                           problem{.shape = {2, 2, 33, 33, 64}}, problem{.shape = {1, 2, 33, 270, 64}}}) {
    attention_case<C> whole(p), part(p);
    whole.forward();
    whole.backward();
    part.forward(false);
    CHECK(same_bits(part.o.get(), whole.o.get()));
    part.forward();
    auto const none = [](auto operand) { return decltype(operand){nullptr, operand.strides}; };
    part.backward(false, part.dq_operand(), none(part.dk_operand()), none(part.dv_operand()));
    if (p.packed) {  // nothing has been written to the others' places
      auto const dq = part.dq.get();
      auto const k_rows = elements_of(dq, part.at_k, p.shape, 33, false), v_rows = elements_of(dq, part.at_v, p.shape, 33, false);
      CHECK(std::all_of(k_rows.begin(), k_rows.end(), [](auto x) { return std::isnan(as_double(x)); }));
      CHECK(std::all_of(v_rows.begin(), v_rows.end(), [](auto x) { return std::isnan(as_double(x)); }));
    }
    part.backward(false, none(part.dq_operand()), part.dk_operand(), none(part.dv_operand()));
    part.backward(false, none(part.dq_operand()), none(part.dk_operand()), part.dv_operand());
    CHECK(same_bits(part.dq.get(), whole.dq.get()));
    CHECK(same_bits(part.dk.get(), whole.dk.get()));
    CHECK(same_bits(part.dv.get(), whole.dv.get()));
    CHECK(part.intact());
  }
}

TEST_CASE_TEMPLATE("the gradients of x attending to itself gather in one place", C, EVERY_ARITHMETIC) {
  using T = typename C::type;
  for (std::size_t const dim : {24, 17, 64}) {
    attention_case<C> c({.shape = {3, 2, 49, 49, dim}});
    c.forward();
    c.backward();
    auto const q = c.dq.get(), k = c.dk.get(), v = c.dv.get();
    std::vector<double> expected(q.size());
    for (std::size_t i = 0; i < q.size(); ++i) expected[i] = as_double(q[i]) + as_double(k[i]) + as_double(v[i]);
    device_buffer<T> const sum(std::vector<T>(q.size(), T(0)));
    attention_operand<T> const all{sum.data(), c.at_q.strides};
    c.backward(true, all, all, all);
    CHECK(relative_error(sum.get(), expected) <= C::forward_bound);
  }
}

TEST_CASE_TEMPLATE("attention of nothing is nothing", C, EVERY_ARITHMETIC) {
  for (attention_shape const& shape :
       {attention_shape{0, 2, 3, 4, 8}, attention_shape{2, 0, 3, 4, 8}, attention_shape{2, 2, 0, 4, 8}}) {
    attention_case<C> c({.shape = shape});
    c.forward();
    c.backward();
    for (auto const x : c.dk.get()) CHECK(as_double(x) == 0);  // no query looks at these keys
    CHECK(c.intact());
  }
}

TEST_CASE("attention replays as a graph, and a thousand times to the same bits") {
  attention_case<in_bfloat16> first({.shape = {small_tests() ? 2u : 80u, 3, 196, 196, 64}, .packed = true}), again(first.p);
  auto const step = [](auto& c) {
    c.forward();
    c.backward();
  };
  step(first);
  step(again);  // allocates what the graph must not
  cudaStream_t const stream = in_bfloat16{}.device.stream();
  device_buffer<unsigned> differences(std::vector<unsigned>{0});
  cuda_check(cudaDeviceSynchronize(), "waiting for a test");
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "capturing a test");
  step(again);
  compare(stream, first.o, again.o, differences);
  compare(stream, first.lse, again.lse, differences);
  compare(stream, first.dq, again.dq, differences);
  cuda_check(cudaStreamEndCapture(stream, &graph), "capturing a test");
  cuda_check(cudaGraphInstantiate(&replay, graph, 0), "capturing a test");
  for (int i = 0; i < (small_tests() ? 3 : 1000); ++i) cuda_check(cudaGraphLaunch(replay, stream), "replaying a test");
  CHECK(differences.get()[0] == 0);
  (void)cudaGraphExecDestroy(replay);
  (void)cudaGraphDestroy(graph);
}

TEST_CASE_TEMPLATE("attention gives the same bits again", C, EVERY_ARITHMETIC) {
  for (problem const& p : {problem{.shape = {5, 3, 65, 70, 24}}, problem{.shape = {5, 3, 65, 70, 64}},
                           problem{.shape = {5, 3, 65, 70, 17}, .shared_q = true}}) {
    attention_case<C> once(p), again(p);
    for (auto* c : {&once, &again}) {
      c->forward();
      c->backward();
    }
    CHECK(same_bits(once.o.get(), again.o.get()));
    CHECK(same_bits(once.lse.get(), again.lse.get()));
    CHECK(same_bits(once.dq.get(), again.dq.get()));
    CHECK(same_bits(once.dk.get(), again.dk.get()));
    CHECK(same_bits(once.dv.get(), again.dv.get()));
  }
}
