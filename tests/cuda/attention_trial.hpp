// What the tests of attention on the GPU share: operands in either placement, and attention and its gradients in double.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <vector>

#include <dvla/kernels/cuda/attention.cuh>
#include <dvla/kernels/cuda/attention_backward.cuh>

#include "device_buffer.hpp"

namespace attending {

using namespace dvla;
using namespace dvla::kernels;

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
#define TENSOR_ARITHMETIC in_tf32, in_bfloat16

struct problem {
  attention_shape shape;
  bool packed = false;                                        // q, k, v in one [batch, token, 3, heads, head_dim]
  bool shared_q = false, shared_k = false, shared_v = false;  // batch stride 0
  double spread = 1;                                          // of q and k
  std::size_t before = 0, between = 0;                        // elements before the first token, between two of them
  bool integers = false;                                      // and q is 0
};

inline std::size_t place(attention_strides const& s, std::size_t b, std::size_t h, std::size_t t, std::size_t d) {
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

}  // namespace attending
