// Optimizers, random numbers and the Beta policy on the card against the same formulas on the host.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <dvla/kernels/cuda/beta_policy.cuh>
#include <dvla/kernels/cuda/optimizer.cuh>
#include <dvla/kernels/cuda/random.cuh>
#include <dvla/kernels/cuda/replay.cuh>

#include "placed.hpp"

using namespace dvla;
using namespace dvla::kernels;

namespace {

constexpr std::size_t odd_sizes[] = {1, 3, 17, 196, 197, 4099, 300007};
constexpr double lr = 0.01, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, decay = 0.05;

/// AdamW's buffers in double.
struct adamw_reference {
  std::vector<double> p, m, v;

  template <class T>
  void step(std::vector<T> const& g, double rate, double step) {
    double const correction1 = 1 - std::pow(beta1, step), correction2 = 1 - std::pow(beta2, step);
    for (std::size_t i = 0; i < p.size(); ++i) {
      p[i] *= 1 - rate * decay;
      m[i] = beta1 * m[i] + (1 - beta1) * double(g[i]);
      v[i] = beta2 * v[i] + (1 - beta2) * double(g[i]) * double(g[i]);
      p[i] -= rate / correction1 * m[i] / (std::sqrt(v[i]) / std::sqrt(correction2) + epsilon);
    }
  }
};

template <class T>
std::vector<bfloat16> as_bfloat16(std::vector<T> const& x) {
  std::vector<bfloat16> out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) out[i] = static_cast<bfloat16>(static_cast<float>(x[i]));
  return out;
}

/// A model's flat buffers on the device at one alignment, or gradients at another.
template <class T>
struct adamw_case {
  std::vector<T> parameter, gradient;
  placed<T> p, g, m, v;
  placed<bfloat16> rounded;

  adamw_case(std::size_t size, std::size_t shift, std::size_t gradient_shift)
      : parameter(normal_numbers<T>(size, 1)),
        gradient(normal_numbers<T>(size, 2)),
        p(parameter, shift),
        g(gradient, gradient_shift),
        m(std::vector<T>(size, T(0)), shift),
        v(std::vector<T>(size, T(0)), shift),
        rounded(size, shift) {}

  void check(adamw_reference const& expected) const {
    CHECK(relative_error(p.get(), expected.p) <= bound<T>);
    CHECK(relative_error(m.get(), expected.m) <= bound<T>);
    CHECK(relative_error(v.get(), expected.v) <= bound<T>);
    CHECK((p.intact() && m.intact() && v.intact() && rounded.intact()));
  }
  [[nodiscard]] adamw_reference reference() const {
    return {as_doubles(parameter), std::vector<double>(parameter.size()), std::vector<double>(parameter.size())};
  }
};

template <class T>
void check_adamw(std::size_t size, std::size_t shift, std::size_t gradient_shift) {
  adamw_case<T> const c(size, shift, gradient_shift), at(size, shift, gradient_shift);
  device_buffer<adamw_state> const state(std::vector<adamw_state>{{0.5, 0}});
  auto expected = c.reference();
  cuda const device;
  for (std::uint64_t step = 1; step <= 3; ++step) {
    expected.step(c.gradient, lr * 0.5, static_cast<double>(step));
    adamw_step(device, size, c.p.data(), c.g.read(), c.m.data(), c.v.data(), lr * 0.5, beta1, beta2, epsilon, decay, step);
    advance_step(device, state.data());
    adamw_step_at(device, size, at.p.data(), at.g.read(), at.m.data(), at.v.data(), lr, beta1, beta2, epsilon, decay,
                  static_cast<adamw_state const*>(state.data()), step == 2 ? nullptr : at.rounded.data());
  }
  c.check(expected);
  at.check(expected);
  CHECK(same_bits(at.rounded.get(), as_bfloat16(at.p.get())));
  CHECK(state.get()[0].step == 3);
}

/// Steps of gradient descent in double.
template <class T>
std::vector<double> sgd_reference(std::vector<T> const& parameter, std::vector<T> const& gradient, double momentum, bool nesterov,
                                  int steps) {
  auto p = as_doubles(parameter);
  std::vector<double> b(p.size());
  for (int s = 0; s < steps; ++s)
    for (std::size_t i = 0; i < p.size(); ++i) {
      double const g = double(gradient[i]) + decay * p[i];
      b[i] = momentum * b[i] + g;
      p[i] -= lr * (nesterov ? g + momentum * b[i] : b[i]);
    }
  return p;
}

__global__ void words_kernel(std::size_t count, random_stream const random, std::uint32_t* words) {
  std::size_t const i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x;
  if (i < count) words[i] = random.at(i);
}
__global__ void streams_kernel(std::uint32_t count, std::uint32_t* words) {
  std::uint32_t const i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  random_stream random(i * 977ull << 13, draw::action, i, std::uint64_t{i} << 20);
  words[i] = random.next() ^ random.next() ^ random.below(i + 1) ^ random.later(i).at(5);
}

/// Means and actions of a policy, and what the host says of them.
template <class T>
struct policy_case {
  std::vector<T> p, action;
  std::vector<double> log_density, entropy, d_log_density, d_entropy;

  policy_case(std::size_t size, T kappa) : p(size), action(size) {
    random_stream random(size, draw::test, 5, 0);
    for (T& x : p) x = static_cast<T>(random.uniform(0.02, 0.98));
    for (T& x : action) x = static_cast<T>(random.uniform(0.001, 0.999));
    for (std::size_t i = 0; i < size; ++i) {
      auto const d = beta_from_mean(p[i], kappa);
      auto const score = d.d_log_density(action[i]), spread = d.d_entropy();
      log_density.push_back(d.log_density(action[i]));
      entropy.push_back(d.entropy());
      d_log_density.push_back(kappa * (score.alpha - score.beta));
      d_entropy.push_back(kappa * (spread.alpha - spread.beta));
    }
  }
};

}  // namespace

TEST_CASE_TEMPLATE("AdamW takes PyTorch's steps, with the step on the host or on the device", T, double, float) {
  for (std::size_t const size : odd_sizes) {
    CAPTURE(size);
    check_adamw<T>(size, 0, 0);
    check_adamw<T>(size, 1, 1);
    check_adamw<T>(size, 1, 0);
  }
}

TEST_CASE("A recorded step of AdamW is the same as one that is issued") {
  adamw_case<float> const c(4099, 0, 0);
  device_buffer<adamw_state> const state(std::vector<adamw_state>{{1, 0}});
  auto expected = c.reference();
  cuda const device;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cuda_check(cudaStreamBeginCapture(device.stream(), cudaStreamCaptureModeRelaxed), "recording");
  advance_step(device, state.data());
  adamw_step_at(device, 4099, c.p.data(), c.g.read(), c.m.data(), c.v.data(), lr, beta1, beta2, epsilon, decay,
                static_cast<adamw_state const*>(state.data()), c.rounded.data());
  cuda_check(cudaStreamEndCapture(device.stream(), &graph), "recording");
  cuda_check(cudaGraphInstantiate(&executable, graph, 0), "making a graph");
  for (int step = 1; step <= 4; ++step) {
    expected.step(c.gradient, lr, step);
    cuda_check(cudaGraphLaunch(executable, device.stream()), "launching a graph");
  }
  c.check(expected);
  CHECK(state.get()[0].step == 4);
  cuda_check(cudaGraphExecDestroy(executable), "freeing a graph");
  cuda_check(cudaGraphDestroy(graph), "freeing a graph");
}

TEST_CASE_TEMPLATE("Gradient descent takes PyTorch's steps, with and without momentum", T, double, float) {
  for (std::size_t const size : odd_sizes)
    for (std::size_t const shift : {0, 1})
      for (double const momentum : {0.0, 0.9})
        for (bool const nesterov : {false, true}) {
          auto const parameter = normal_numbers<T>(size, 1), gradient = normal_numbers<T>(size, 2);
          placed<T> const p(parameter, shift), g(gradient, shift), b(std::vector<T>(size, T(0)), shift);
          cuda const device;
          for (int step = 0; step < 3; ++step)
            sgd_step(device, size, p.data(), g.read(), momentum == 0 ? nullptr : b.data(), lr, momentum, nesterov, decay);
          CHECK(relative_error(p.get(), sgd_reference(parameter, gradient, momentum, nesterov, 3)) <= bound<T>);
          CHECK((p.intact() && b.intact()));
        }
}

TEST_CASE_TEMPLATE("Squared norms, scaling and averaging agree with plain loops", T, double, float) {
  for (std::size_t const size :
       {std::size_t{1}, std::size_t{3}, std::size_t{17}, std::size_t{197}, std::size_t{4099}, std::size_t{3000001}})
    for (std::size_t const shift : {0, 1}) {
      CAPTURE(size);
      auto const x = normal_numbers<T>(size, 1), average = normal_numbers<T>(size, 2), integers = small_integers<T>(size, 3);
      double expected = 0, exact = 0;
      std::vector<double> scaled(size), blended(size);
      for (std::size_t i = 0; i < size; ++i) {
        expected += double(x[i]) * double(x[i]);
        exact += double(integers[i]) * double(integers[i]);
        scaled[i] = -3.0 * double(x[i]);
        blended[i] = 0.99 * double(average[i]) + 0.01 * double(x[i]);
      }
      placed<T> const in(x, shift), mean(average, shift), whole(integers, shift);
      cuda const device;
      double const norm = squared_norm(device, size, in.read());
      CHECK(std::abs(norm - expected) <= bound<T> * expected);
      CHECK(squared_norm(device, size, in.read()) == norm);
      CHECK(squared_norm(device, size, whole.read()) == exact);
      lerp(device, size, mean.data(), in.read(), 0.99);
      CHECK(relative_error(mean.get(), blended) <= bound<T>);
      scale(device, size, in.data(), T(-3));
      CHECK(relative_error(in.get(), scaled) <= bound<T>);
      CHECK((in.intact() && mean.intact()));
    }
  placed<T> const nothing(0, 0);
  CHECK(squared_norm(cuda{}, 0, nothing.read()) == 0);
}

TEST_CASE("The card's random words are the host's") {
  constexpr std::size_t count = 1000000;
  random_stream const random(0x123456789ABCDEF0ull, draw::test, 42, std::uint64_t{7} << 33);
  placed<std::uint32_t> const words(count, 0), mixed(count, 0);
  cuda const device;
  words_kernel<<<(count + 255) / 256, 256, 0, device.stream()>>>(count, random, words.data());
  streams_kernel<<<(count + 255) / 256, 256, 0, device.stream()>>>(count, mixed.data());
  auto const of_card = words.get(), of_streams = mixed.get();
  std::size_t different = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    random_stream own(i * 977ull << 13, draw::action, i, std::uint64_t{i} << 20);
    std::uint32_t const first = own.next(), second = own.next(), third = own.below(i + 1);
    different += of_card[i] != random.at(i) || of_streams[i] != (first ^ second ^ third ^ own.later(i).at(5)) ? 1 : 0;
  }
  CHECK(different == 0);
}

TEST_CASE_TEMPLATE("Dropped samples are those of the CPU, and a replayed step's own", T, double, float, bfloat16) {
  using A = arithmetic_t<T>;
  for (std::size_t const size : odd_sizes)
    for (double const rate : {0.0, 0.1, 0.75}) {
      random_stream const random(3, draw::drop_path, 2, 11);
      cuda const device;
      for (unsigned long long const later : {0ull, 5ull}) {
        random_stream const own(3, draw::drop_path, 2, 11 + later);
        std::vector<T> expected(size);
        for (std::size_t i = 0; i < size; ++i)
          expected[i] = own.at(i) < static_cast<std::uint64_t>(rate * 4294967296.0) ? T(A(0)) : T(static_cast<A>(1 / (1 - rate)));
        placed<T> const kept(size, 1);
        put(device, device.queue->steps_later(), later);
        drop_samples(device, size, rate, random, kept.data());
        put(device, device.queue->steps_later(), 0ull);
        CHECK(same_bits(kept.get(), expected));
        CHECK(kept.intact());
      }
    }
}

TEST_CASE_TEMPLATE("A Beta policy's densities, entropies and derivatives are the host's", T, double, float) {
  for (double const kappa : {0.5, 10.0, 400.0})
    for (std::size_t const size : {std::size_t{1}, std::size_t{25}, std::size_t{300}}) {
      policy_case<T> const c(size, T(kappa));
      placed<T> const p(c.p, 0), action(c.action, 0), density(size, 0), entropy(size, 0), d_density(size, 0), d_entropy(size, 0);
      beta_policy(cuda{}, size, T(kappa), p.read(), action.read(),
                  beta_policy_values<T>{density.data(), entropy.data(), d_density.data(), d_entropy.data()});
      constexpr double most = sizeof(T) == 8 ? 1e-11 : 1e-5;
      CHECK(relative_error(density.get(), c.log_density) <= most);
      CHECK(relative_error(entropy.get(), c.entropy) <= most);
      CHECK(relative_error(d_density.get(), c.d_log_density) <= most);
      CHECK(relative_error(d_entropy.get(), c.d_entropy) <= most);
      CHECK((density.intact() && entropy.intact() && d_density.intact() && d_entropy.intact()));
    }
}

TEST_CASE_TEMPLATE("The card draws the host's actions, and a replayed step its own", T, double, float) {
  cuda const device;
  for (double const kappa : {0.3, 10.0, 400.0})
    for (unsigned long long const later : {0ull, 3ull}) {
      policy_case<T> const c(200, T(kappa));
      random_stream const random(9, draw::action, 1, 100);
      random_stream own(9, draw::action, 1, 100 + later);
      std::vector<double> expected;
      for (T const p : c.p) expected.push_back(beta_from_mean(p, T(kappa)).sample(own));
      placed<T> const p(c.p, 0), action(c.p.size(), 0);
      put(device, device.queue->steps_later(), later);
      beta_sample(device, c.p.size(), T(kappa), p.read(), random, action.data());
      put(device, device.queue->steps_later(), 0ull);
      CHECK(relative_error(action.get(), expected) <= (sizeof(T) == 8 ? 1e-10 : 1e-5));
      CHECK(action.intact());
    }
}

TEST_CASE("A Beta policy that is none gives NaN on the card, and a concentration that is none throws") {
  placed<double> const p(std::vector<double>{0.5, 0, 1, -1, std::numeric_limits<double>::quiet_NaN(), 0.5}, 0), action(6, 0);
  cuda const device;
  random_stream const random(9, draw::action, 1, 100);
  beta_sample(device, 6, 10, p.read(), random, action.data());
  auto const found = action.get();
  for (std::size_t i = 0; i < 6; ++i) CHECK((i == 0 || i == 5 ? found[i] > 0 && found[i] < 1 : found[i] != found[i]));
  CHECK_THROWS_AS(beta_sample(device, 6, 0, p.read(), random, action.data()), error);
}
