// Attention against a plain reference in double, and its gradients also against central differences.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <vector>

#include <dvla/core/thread_pool.hpp>
#include <dvla/kernels/cpu/attention.hpp>
#include <dvla/kernels/cpu/attention_backward.hpp>
#include <kernels/reference.hpp>

using namespace dvla;
using namespace dvla::kernels;

namespace {

using sizes = std::initializer_list<std::size_t>;

struct problem {
  attention_shape shape;
  bool packed = false;                                        // q, k, v in one [batch, token, 3, heads, head_dim]
  bool shared_q = false, shared_k = false, shared_v = false;  // batch stride 0
  double spread = 1;                                          // of the elements of q and k
};

/// [batch, token, heads, head_dim], or a part of the packed projection.
attention_strides layout(problem const& p, std::size_t tokens, bool shared, bool packed) {
  std::size_t const token = (packed ? 3 : 1) * p.shape.heads * p.shape.head_dim;
  return {shared ? 0 : tokens * token, p.shape.head_dim, token};
}

template <class T>
struct attention_case {
  problem p;
  T scale;
  attention_strides sq, sk, sv, so;
  guarded<T> q, k, v, o, lse, d_o, dq, dk, dv;  // packed: k and v are empty, everything lies in q, and likewise dq
  std::size_t k_at = 0, v_at = 0;

  explicit attention_case(problem const& given)
      : p(given),
        scale(T(1) / std::sqrt(T(given.shape.head_dim))),
        sq(layout(p, p.shape.queries, p.shared_q, p.packed)),
        sk(layout(p, p.shape.keys, p.shared_k, p.packed)),
        sv(layout(p, p.shape.keys, p.shared_v, p.packed)),
        so(layout(p, p.shape.queries, false, false)) {
    auto const& s = p.shape;
    std::size_t const qs = size(s.queries, p.shared_q), ks = size(s.keys, p.shared_k), vs = size(s.keys, p.shared_v);
    if (p.packed) {
      q = random<T>(3 * qs, 1, p.spread), dq = poisoned<T>(3 * qs);
      k_at = s.heads * s.head_dim, v_at = 2 * k_at;
    } else {
      q = random<T>(qs, 1, p.spread), k = random<T>(ks, 2, p.spread), v = random<T>(vs, 3);
      dq = poisoned<T>(qs), dk = poisoned<T>(ks), dv = poisoned<T>(vs);
    }
    o = poisoned<T>(size(s.queries, false)), lse = poisoned<T>(s.batch * s.heads * s.queries);
    d_o = random<T>(size(s.queries, false), 4);
  }

  [[nodiscard]] std::size_t size(std::size_t tokens, bool shared) const {
    return (shared ? 1 : p.shape.batch) * tokens * p.shape.heads * p.shape.head_dim;
  }
  guarded<T>& k_of() { return p.packed ? q : k; }
  guarded<T>& v_of() { return p.packed ? q : v; }
  guarded<T>& dk_of() { return p.packed ? dq : dk; }
  guarded<T>& dv_of() { return p.packed ? dq : dv; }

  void forward(cpu const& device) {
    attention_forward<T>(device, p.shape, scale, {q.data(), sq}, {k_of().data() + k_at, sk}, {v_of().data() + v_at, sv},
                         {o.data(), so}, lse.data());
  }
  void backward(cpu const& device, bool accumulate) {
    attention_backward<T>(device, p.shape, scale, {q.data(), sq}, {k_of().data() + k_at, sk}, {v_of().data() + v_at, sv},
                          {o.data(), so}, lse.data(), {d_o.data(), so}, {dq.data(), sq}, {dk_of().data() + k_at, sk},
                          {dv_of().data() + v_at, sv}, accumulate);
  }
};

std::size_t place(attention_strides const& s, std::size_t b, std::size_t h, std::size_t t, std::size_t d) {
  return b * s.batch + h * s.head + t * s.token + d;
}

/// The reference's results, laid out as the case's buffers.
struct reference {
  exact_sums o, lse, dq, dk, dv;
};

template <class T>
reference attend_plainly(attention_case<T>& c) {
  auto const& s = c.p.shape;
  reference r{exact_sums(c.o.size()), exact_sums(c.lse.size()), exact_sums(c.dq.size()), exact_sums(c.dk.size()),
              exact_sums(c.dv.size())};
  auto& dk = c.p.packed ? r.dq : r.dk;
  auto& dv = c.p.packed ? r.dq : r.dv;
  T const* const k = c.k_of().data() + c.k_at;
  T const* const v = c.v_of().data() + c.v_at;
  std::vector<double> weight(s.keys), d_weight(s.keys), size(s.keys);
  for (std::size_t b = 0; b < s.batch; ++b)
    for (std::size_t h = 0; h < s.heads; ++h)
      for (std::size_t i = 0; i < s.queries; ++i) {
        double top = -std::numeric_limits<double>::infinity(), sum = 0, delta = 0, delta_size = 0;
        for (std::size_t j = 0; j < s.keys; ++j) {
          weight[j] = d_weight[j] = size[j] = 0;
          for (std::size_t d = 0; d < s.head_dim; ++d)
            weight[j] += double(c.scale) * double(c.q.data()[place(c.sq, b, h, i, d)]) * double(k[place(c.sk, b, h, j, d)]);
          top = std::max(top, weight[j]);
        }
        for (auto& w : weight) sum += w = std::exp(w - top);
        r.lse.add((b * s.heads + h) * s.queries + i, top + std::log(sum));
        for (std::size_t j = 0; j < s.keys; ++j) {
          weight[j] /= sum;
          for (std::size_t d = 0; d < s.head_dim; ++d) {
            double const value = double(v[place(c.sv, b, h, j, d)]), g = double(c.d_o.data()[place(c.so, b, h, i, d)]);
            r.o.add(place(c.so, b, h, i, d), weight[j] * value);
            dv.add(c.v_at + place(c.sv, b, h, j, d), weight[j] * g);
            d_weight[j] += g * value;
            size[j] += std::abs(g * value);
          }
          delta += weight[j] * d_weight[j];
          delta_size += weight[j] * size[j];
        }
        for (std::size_t j = 0; j < s.keys; ++j)
          for (std::size_t d = 0; d < s.head_dim; ++d) {
            double const left = double(c.scale) * weight[j] * double(k[place(c.sk, b, h, j, d)]);
            double const right = double(c.scale) * weight[j] * double(c.q.data()[place(c.sq, b, h, i, d)]);
            double const difference = d_weight[j] - delta, all = size[j] + delta_size;
            r.dq.add(place(c.sq, b, h, i, d), left * difference, std::abs(left) * all);
            dk.add(c.k_at + place(c.sk, b, h, j, d), right * difference, std::abs(right) * all);
          }
      }
  return r;
}

template <class T>
void check_case(problem const& p) {
  attention_case<T> c(p);
  CAPTURE(p.shape.queries);
  CAPTURE(p.shape.keys);
  CAPTURE(p.shape.head_dim);
  auto const r = attend_plainly(c);
  double const bound = 24 * std::max(1.0, p.spread * p.spread);  // an error of the scores, as large as spread^2, is one of weights
  c.forward(cpu{});
  CHECK(errors_of_rounding(c.o, r.o) <= bound);
  CHECK(errors_of_rounding(c.lse, r.lse) <= bound);
  for (double times : {1, 2}) {
    c.backward(cpu{}, times == 2);
    CHECK(errors_of_rounding(c.dq, r.dq, times) <= bound);
    CHECK(errors_of_rounding(c.dk, r.dk, times) <= bound);
    CHECK(errors_of_rounding(c.dv, r.dv, times) <= bound);
  }
  CHECK((c.o.intact() && c.lse.intact() && c.dq.intact() && c.dk.intact() && c.dv.intact()));
}

}  // namespace

TEST_CASE_TEMPLATE("attention agrees with the plain formula at odd lengths and head sizes", T, float, double) {
  for (std::size_t queries : sizes{1, 3, 17, 49, 197})
    for (std::size_t keys : sizes{1, 3, 49, 196})
      for (std::size_t dim : sizes{8, 24, 33}) check_case<T>({.shape = {2, 2, queries, keys, dim}});
  for (std::size_t dim : sizes{1, 2, 3, 5, 48, 64, 65, 128}) check_case<T>({.shape = {1, 2, 45, 67, dim}});
  check_case<T>({.shape = {1, 1, 300, 1030, 16}});
}

TEST_CASE_TEMPLATE("attention reads and writes a packed projection in place", T, float, double) {
  check_case<T>({.shape = {2, 3, 49, 49, 128}, .packed = true});
  check_case<T>({.shape = {2, 3, 196, 196, 64}, .packed = true});
  check_case<T>({.shape = {3, 2, 17, 17, 20}, .packed = true});
}

TEST_CASE_TEMPLATE("the gradient of an operand shared by all images is the sum over them", T, float, double) {
  check_case<T>({.shape = {3, 8, 45, 196, 24}, .shared_q = true});
  check_case<T>({.shape = {3, 2, 17, 45, 24}, .shared_k = true, .shared_v = true});
  check_case<T>({.shape = {4, 1, 5, 6, 7}, .shared_q = true, .shared_k = true, .shared_v = true});
}

TEST_CASE_TEMPLATE("scores of any magnitude neither overflow nor vanish", T, float, double) {
  check_case<T>({.shape = {1, 2, 19, 35, 16}, .spread = 12});
  attention_case<T> c({.shape = {1, 1, 7, 21, 8}, .spread = 1e4});
  c.forward(cpu{});
  c.backward(cpu{}, false);
  for (auto const* x : {&c.o, &c.lse, &c.dq, &c.dk, &c.dv})
    for (std::size_t i = 0; i < x->size(); ++i) CHECK(std::isfinite(x->data()[i]));
}

TEST_CASE("a NaN in a key reaches every result of its head and no other head") {
  attention_case<float> c({.shape = {1, 2, 7, 21, 8}});
  c.k.data()[place(c.sk, 0, 0, 20, 3)] = std::numeric_limits<float>::quiet_NaN();
  c.forward(cpu{});
  for (std::size_t i = 0; i < 7; ++i)
    for (std::size_t d = 0; d < 8; ++d) {
      CHECK(std::isnan(c.o.data()[place(c.so, 0, 0, i, d)]));
      CHECK(std::isfinite(c.o.data()[place(c.so, 0, 1, i, d)]));
    }
}

TEST_CASE_TEMPLATE("attention gives the same bits on one thread and on several", T, float, double) {
  thread_pool pool(2);
  for (bool shared : {false, true}) {
    attention_case<T> one({.shape = {5, 3, 65, 70, 24}, .shared_q = shared}), two = one;
    one.forward(cpu{}), two.forward(cpu{&pool});
    one.backward(cpu{}, false), two.backward(cpu{&pool}, false);
    CHECK(one.o == two.o);
    CHECK(one.lse == two.lse);
    CHECK(one.dq == two.dq);
    CHECK(one.dk == two.dk);
    CHECK(one.dv == two.dv);
  }
}

TEST_CASE("attention does without the log sum exp, and skips the gradients that nobody asks for") {
  attention_case<float> whole({.shape = {2, 2, 17, 33, 24}}), part = whole;
  whole.forward(cpu{}), whole.backward(cpu{}, false);
  auto const& p = part;
  attention_forward<float>(cpu{}, p.p.shape, p.scale, {p.q.data(), p.sq}, {p.k.data(), p.sk}, {p.v.data(), p.sv},
                           {part.o.data(), p.so}, nullptr);
  CHECK(part.o == whole.o);
  for (int which = 0; which < 3; ++which) {
    attention_operand<float> dq{which == 0 ? part.dq.data() : nullptr, p.sq}, dk{which == 1 ? part.dk.data() : nullptr, p.sk},
        dv{which == 2 ? part.dv.data() : nullptr, p.sv};
    attention_backward<float>(cpu{}, p.p.shape, p.scale, {p.q.data(), p.sq}, {p.k.data(), p.sk}, {p.v.data(), p.sv},
                              {p.o.data(), p.so}, whole.lse.data(), {p.d_o.data(), p.so}, dq, dk, dv, false);
  }
  CHECK(part.dq == whole.dq);
  CHECK(part.dk == whole.dk);
  CHECK(part.dv == whole.dv);
}

TEST_CASE("attention's gradients agree with central differences") {
  attention_case<double> c({.shape = {1, 2, 5, 9, 6}});
  c.forward(cpu{});
  c.backward(cpu{}, false);
  auto const loss = [&] {
    auto probe = c;
    probe.forward(cpu{});
    double total = 0;
    for (std::size_t i = 0; i < c.o.size(); ++i) total += probe.o.data()[i] * c.d_o.data()[i];
    return total;
  };
  double const step = 1e-5;
  guarded<double>* const inputs[] = {&c.q, &c.k, &c.v};
  guarded<double> const* const gradients[] = {&c.dq, &c.dk, &c.dv};
  for (int which = 0; which < 3; ++which)
    for (std::size_t i = 0; i < inputs[which]->size(); ++i) {
      double& x = inputs[which]->data()[i];
      double const kept = x;
      x = kept + step;
      double const above = loss();
      x = kept - step;
      double const below = loss();
      x = kept;
      CHECK(std::abs((above - below) / (2 * step) - gradients[which]->data()[i]) <= 1e-8);
    }
}

TEST_CASE("the softmax's exponential is accurate from minus infinity to 88") {
  constexpr std::size_t n = lanes<float>;
  double worst = 0;
  for (double x = -87.2; x < 88; x += 0.00371 * double(n)) {
    float in[n], out[n];
    for (std::size_t i = 0; i < n; ++i) in[i] = float(x + 0.00371 * double(i));
    simd::store(out, exp_bounded(simd::load(in)));
    for (std::size_t i = 0; i < n; ++i) worst = std::max(worst, std::abs(double(out[i]) / std::exp(double(in[i])) - 1));
  }
  CHECK(worst <= 1.2e-7);
  auto const all = [](auto x) {
    using T = decltype(x);
    T out[lanes<T>];
    simd::store(out, exp_bounded(batch<T>(x)));
    return out[lanes<T> - 1];
  };
  CHECK(all(0.0f) == 1.0f);
  CHECK(all(0.0) == 1.0);
  CHECK(all(-std::numeric_limits<float>::infinity()) == 0.0f);
  CHECK(all(-std::numeric_limits<double>::infinity()) == 0.0);
  CHECK(all(-3.0e38f) == 0.0f);
  CHECK(all(-1e308) == 0.0);
  CHECK(std::isnan(all(std::numeric_limits<float>::quiet_NaN())));
  CHECK(std::isnan(all(std::numeric_limits<double>::quiet_NaN())));
}
