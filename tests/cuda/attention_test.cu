// Attention on the GPU against a plain reference in double: every precision, both placements of q, k and v, all odd lengths.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <vector>

#include <device_buffer.hpp>
#include <dvla/kernels/cuda/attention.cuh>
#include <dvla/kernels/cuda/attention_backward.cuh>

using namespace dvla;
using namespace dvla::kernels;

namespace {

/// What is computed with, and how near that comes.
template <class T, precision P>
struct arithmetic {
  using type = T;
  using number = arithmetic_t<T>;
  static constexpr bool rounds_products = std::is_same_v<T, bfloat16> || (P == precision::tf32 && std::is_same_v<T, float>);
  static constexpr double forward_bound = std::is_same_v<T, double>     ? 1e-12
                                          : std::is_same_v<T, bfloat16> ? 4e-3
                                          : rounds_products             ? 1e-3
                                                                        : 1e-5;
  static constexpr double backward_bound = std::is_same_v<T, double>     ? 1e-12
                                           : std::is_same_v<T, bfloat16> ? 1e-2
                                           : rounds_products             ? 2e-3
                                                                         : 1e-5;
  basic_cuda<P> device;
};
using in_double = arithmetic<double, precision::f32>;
using in_float = arithmetic<float, precision::f32>;
using in_tf32 = arithmetic<float, precision::tf32>;
using in_bfloat16 = arithmetic<bfloat16, precision::bf16>;
#define EVERY_ARITHMETIC in_double, in_float, in_tf32, in_bfloat16

struct problem {
  attention_shape shape;
  bool packed = false;                                        // q, k, v in one [batch, token, 3, heads, head_dim]
  bool shared_q = false, shared_k = false, shared_v = false;  // batch stride 0
  double spread = 1;                                          // of q and k
  std::size_t before = 0, between = 0;                        // elements before the first token, between two of them
  bool integers = false;                                      // and q is 0
};

std::size_t place(attention_strides const& s, std::size_t b, std::size_t h, std::size_t t, std::size_t d) {
  return b * s.batch + h * s.head + t * s.token + d;
}

/// Where an operand lies in its buffer: from `begin` on; the buffer's size, and how much of it belongs to no operand.
struct placement {
  attention_strides strides;
  std::size_t begin, size, gaps;

  placement(problem const& p, std::size_t tokens, bool shared, bool packed, std::size_t part = 0) {
    std::size_t const width = p.shape.heads * p.shape.head_dim, token = (packed ? 3 : 1) * width + p.between;
    strides = {shared ? 0 : tokens * token, p.shape.head_dim, token};
    begin = p.before + part * width;
    size = p.before + (shared ? 1 : p.shape.batch) * tokens * token;
    gaps = p.before + (shared ? 1 : p.shape.batch) * tokens * p.between;
  }
};

template <class C>
struct attention_case {
  using T = typename C::type;
  using number = typename C::number;

  problem p;
  number scale;
  placement at_q, at_k, at_v, at_o;
  std::vector<T> q, k, v, d_o;  // packed: everything lies in q, and its gradients in dq
  device_buffer<T> q_memory, k_memory, v_memory, o, d_o_memory, dq, dk, dv;
  device_buffer<number> lse;

  explicit attention_case(problem const& given)
      : p(given),
        scale(static_cast<number>(1 / std::sqrt(static_cast<double>(given.shape.head_dim)))),
        at_q(p, p.shape.queries, p.shared_q, p.packed),
        at_k(p, p.shape.keys, p.shared_k, p.packed, p.packed ? 1 : 0),
        at_v(p, p.shape.keys, p.shared_v, p.packed, p.packed ? 2 : 0),
        at_o(p, p.shape.queries, false, false),
        q(numbers(at_q.size, 1, p.spread)),
        k(p.packed ? q : numbers(at_k.size, 2, p.spread)),
        v(p.packed ? q : numbers(at_v.size, 3, 1)),
        d_o(numbers(at_o.size, 4, 1)),
        q_memory(q),
        k_memory(p.packed ? std::vector<T>() : k),
        v_memory(p.packed ? std::vector<T>() : v),
        o(at_o.size),
        d_o_memory(d_o),
        dq(at_q.size),
        dk(p.packed ? 0 : at_k.size),
        dv(p.packed ? 0 : at_v.size),
        lse(p.shape.batch * p.shape.heads * p.shape.queries) {
    if (p.integers) set_q(std::vector<T>(q.size(), T(0)));
  }

  [[nodiscard]] std::vector<T> numbers(std::size_t size, std::uint64_t seed, double spread) const {
    return p.integers ? small_integers<T>(size, seed) : normal_numbers<T>(size, seed, spread);
  }
  void set_q(std::vector<T> const& values) { q_memory.put(q = values); }

  [[nodiscard]] T* k_data() const { return (p.packed ? q_memory : k_memory).data() + at_k.begin; }
  [[nodiscard]] T* v_data() const { return (p.packed ? q_memory : v_memory).data() + at_v.begin; }
  [[nodiscard]] attention_operand<T> dq_operand() const { return {dq.data() + at_q.begin, at_q.strides}; }
  [[nodiscard]] attention_operand<T> dk_operand() const { return {(p.packed ? dq : dk).data() + at_k.begin, at_k.strides}; }
  [[nodiscard]] attention_operand<T> dv_operand() const { return {(p.packed ? dq : dv).data() + at_v.begin, at_v.strides}; }

  void forward(bool keep_lse = true) {
    using operand = attention_operand<T const>;
    attention_forward(C{}.device, p.shape, scale, operand{q_memory.data() + at_q.begin, at_q.strides},
                      operand{k_data(), at_k.strides}, operand{v_data(), at_v.strides},
                      attention_operand<T>{o.data() + at_o.begin, at_o.strides}, keep_lse ? lse.data() : nullptr);
  }
  void backward(bool accumulate, attention_operand<T> const& to_q, attention_operand<T> const& to_k,
                attention_operand<T> const& to_v) {
    using operand = attention_operand<T const>;
    attention_backward(C{}.device, p.shape, scale, operand{q_memory.data() + at_q.begin, at_q.strides},
                       operand{k_data(), at_k.strides}, operand{v_data(), at_v.strides},
                       operand{o.data() + at_o.begin, at_o.strides}, lse.data(),
                       operand{d_o_memory.data() + at_o.begin, at_o.strides}, to_q, to_k, to_v, accumulate);
  }
  void backward(bool accumulate = false) { backward(accumulate, dq_operand(), dk_operand(), dv_operand()); }
  [[nodiscard]] bool intact() const {
    return q_memory.intact() && o.intact() && lse.intact() && dq.intact() && dk.intact() && dv.intact();
  }
};

/// One head of an operand, in double.
template <class T>
std::vector<double> head_of(std::vector<T> const& x, placement const& at, attention_shape const& s, std::size_t b, std::size_t h,
                            std::size_t tokens) {
  std::vector<double> out(tokens * s.head_dim);
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t d = 0; d < s.head_dim; ++d) out[t * s.head_dim + d] = as_double(x[at.begin + place(at.strides, b, h, t, d)]);
  return out;
}

void add_head(std::vector<double>& to, placement const& at, attention_shape const& s, std::size_t b, std::size_t h,
              std::size_t tokens, std::vector<double> const& x) {
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t d = 0; d < s.head_dim; ++d) to[at.begin + place(at.strides, b, h, t, d)] += x[t * s.head_dim + d];
}

/// [rows, columns] = left [rows, depth] right [columns, depth]^T.
std::vector<double> products(std::size_t rows, std::size_t columns, std::size_t depth, std::vector<double> const& left,
                             std::vector<double> const& right) {
  std::vector<double> out(rows * columns);
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < columns; ++j) {
      double sum = 0;
      for (std::size_t d = 0; d < depth; ++d) sum += left[i * depth + d] * right[j * depth + d];
      out[i * columns + j] = sum;
    }
  return out;
}

/// The reference's results, laid out as the case's buffers.
struct reference {
  std::vector<double> o, lse, dq, dk, dv;
};

template <class C>
reference attend_plainly(attention_case<C> const& c) {
  auto const& s = c.p.shape;
  std::size_t const dim = s.head_dim;
  reference r{std::vector<double>(c.o.size()),
              {},
              std::vector<double>(c.dq.size()),
              std::vector<double>(c.dk.size()),
              std::vector<double>(c.dv.size())};
  for (std::size_t b = 0; b < s.batch; ++b)
    for (std::size_t h = 0; h < s.heads; ++h) {
      auto const q = head_of(c.q, c.at_q, s, b, h, s.queries), k = head_of(c.k, c.at_k, s, b, h, s.keys);
      auto const v = head_of(c.v, c.at_v, s, b, h, s.keys), g = head_of(c.d_o, c.at_o, s, b, h, s.queries);
      std::vector<double> o(q.size()), dq(q.size()), dk(k.size()), dv(k.size());
      auto weights = products(s.queries, s.keys, dim, q, k);
      auto const d_weights = products(s.queries, s.keys, dim, g, v);
      for (std::size_t i = 0; i < s.queries; ++i) {
        double* const w = &weights[i * s.keys];
        double top = -std::numeric_limits<double>::infinity(), sum = 0, delta = 0;
        for (std::size_t j = 0; j < s.keys; ++j) top = std::max(top, w[j] *= static_cast<double>(c.scale));
        for (std::size_t j = 0; j < s.keys; ++j) sum += w[j] = std::exp(w[j] - top);
        r.lse.push_back(top + std::log(sum));
        for (std::size_t j = 0; j < s.keys; ++j) delta += (w[j] /= sum) * d_weights[i * s.keys + j];
        for (std::size_t j = 0; j < s.keys; ++j) {
          double const ds = static_cast<double>(c.scale) * w[j] * (d_weights[i * s.keys + j] - delta);
          for (std::size_t d = 0; d < dim; ++d) {
            o[i * dim + d] += w[j] * v[j * dim + d];
            dv[j * dim + d] += w[j] * g[i * dim + d];
            dq[i * dim + d] += ds * k[j * dim + d];
            dk[j * dim + d] += ds * q[i * dim + d];
          }
        }
      }
      add_head(r.o, c.at_o, s, b, h, s.queries, o);
      add_head(r.dq, c.at_q, s, b, h, s.queries, dq);
      add_head(c.p.packed ? r.dq : r.dk, c.at_k, s, b, h, s.keys, dk);
      add_head(c.p.packed ? r.dq : r.dv, c.at_v, s, b, h, s.keys, dv);
    }
  return r;
}

/// The elements of an operand one after the other, without what lies between.
template <class T>
std::vector<T> elements_of(std::vector<T> const& x, placement const& at, attention_shape const& s, std::size_t tokens,
                           bool shared) {
  std::vector<T> out;
  for (std::size_t b = 0; b < (shared ? 1 : s.batch); ++b)
    for (std::size_t h = 0; h < s.heads; ++h)
      for (std::size_t t = 0; t < tokens; ++t) {
        auto const row = x.begin() + static_cast<std::ptrdiff_t>(at.begin + place(at.strides, b, h, t, 0));
        out.insert(out.end(), row, row + static_cast<std::ptrdiff_t>(s.head_dim));
      }
  return out;
}

/// |x - times * expected| / |times * expected|; where that is 0, against products of the order of 1.
template <class T>
double error_of(std::vector<T> const& x, std::vector<double> expected, double times) {
  double size = 0;
  for (double& e : expected) e *= times, size += e * e;
  if (size > 1e-12 * static_cast<double>(x.size())) return relative_error(x, expected);
  double worst = 0;
  for (T const element : x) worst = std::abs(as_double(element)) <= worst ? worst : std::abs(as_double(element));
  return std::isnan(worst) ? std::numeric_limits<double>::infinity() : worst;
}

/// Elements that nothing has been written to.
template <class T>
std::size_t poisoned(std::vector<T> const& x) {
  return static_cast<std::size_t>(std::count_if(x.begin(), x.end(), [](T element) { return std::isnan(as_double(element)); }));
}

template <class C>
void check_case(problem const& p) {
  auto const& s = p.shape;
  CAPTURE(s.batch);
  CAPTURE(s.heads);
  CAPTURE(s.queries);
  CAPTURE(s.keys);
  CAPTURE(s.head_dim);
  attention_case<C> c(p);
  auto const r = attend_plainly(c);
  auto const error = [&](auto const& x, std::vector<double> const& expected, placement const& at, std::size_t tokens, bool shared,
                         double times) {
    return error_of(elements_of(x, at, s, tokens, shared), elements_of(expected, at, s, tokens, shared), times);
  };
  c.forward();
  CHECK(error(c.o.get(), r.o, c.at_o, s.queries, false, 1) <= C::forward_bound);
  CHECK(error_of(c.lse.get(), r.lse, 1) <= C::forward_bound);
  for (double const times : {1, 2}) {
    c.backward(times == 2);
    auto const dq = c.dq.get();
    CHECK(error(dq, r.dq, c.at_q, s.queries, p.shared_q, times) <= C::backward_bound);
    CHECK(error(p.packed ? dq : c.dk.get(), p.packed ? r.dq : r.dk, c.at_k, s.keys, p.shared_k, times) <= C::backward_bound);
    CHECK(error(p.packed ? dq : c.dv.get(), p.packed ? r.dq : r.dv, c.at_v, s.keys, p.shared_v, times) <= C::backward_bound);
  }
  CHECK(poisoned(c.o.get()) == c.at_o.gaps);
  CHECK(poisoned(c.dq.get()) == c.at_q.gaps);
  CHECK(c.intact());
}

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

TEST_CASE_TEMPLATE("many heads take the tiles of a head in rounds", C, in_tf32, in_bfloat16) {
  check_case<C>({.shape = {50, 4, 20, 150, 8}});
  check_case<C>({.shape = {50, 4, 150, 20, 64}});
  check_case<C>({.shape = {50, 4, 20, 150, 64}});
  check_case<C>({.shape = {50, 4, 20, 70, 128}});
  check_case<C>({.shape = {50, 4, 70, 70, 24}, .packed = true});
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
  for (bool const packed : {false, true}) {
    problem const p{.shape = {2, 2, 33, 33, 24}, .packed = packed};
    attention_case<C> whole(p), part(p);
    whole.forward();
    whole.backward();
    part.forward(false);
    CHECK(same_bits(part.o.get(), whole.o.get()));
    part.forward();
    auto const none = [](auto operand) { return decltype(operand){nullptr, operand.strides}; };
    part.backward(false, part.dq_operand(), none(part.dk_operand()), none(part.dv_operand()));
    if (packed) {  // nothing has been written to the others' places
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
  for (std::size_t const dim : {24, 17}) {
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
  attention_case<in_bfloat16> first({.shape = {80, 3, 196, 196, 64}, .packed = true}), again(first.p);
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
  for (int i = 0; i < 1000; ++i) cuda_check(cudaGraphLaunch(replay, stream), "replaying a test");
  CHECK(differences.get()[0] == 0);
  (void)cudaGraphExecDestroy(replay);
  (void)cudaGraphDestroy(graph);
}

TEST_CASE_TEMPLATE("attention gives the same bits again", C, EVERY_ARITHMETIC) {
  for (problem const& p : {problem{.shape = {5, 3, 65, 70, 24}}, problem{.shape = {5, 3, 65, 70, 17}, .shared_q = true}}) {
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
