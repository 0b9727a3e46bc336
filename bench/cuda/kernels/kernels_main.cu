// kernels_cuda [KIND]: median times of single kernels on a card at the shapes of Visformer-Tiny 224, as replayed graphs over inputs
// that stay in cache, in microseconds: of all kinds or of attention, convolution, normalisation or product.
#include <array>
#include <cstddef>
#include <cstdio>
#include <string_view>

#include <dvla/kernels/cuda/attention.cuh>
#include <dvla/kernels/cuda/attention_backward.cuh>
#include <dvla/kernels/cuda/conv.cuh>
#include <dvla/kernels/cuda/gemm_evaluate.cuh>
#include <dvla/kernels/cuda/memory.cuh>
#include <dvla/kernels/cuda/norm.cuh>
#include <dvla/kernels/cuda/random.cuh>

#include "../timing.hpp"

namespace {

using namespace dvla;
using namespace dvla::kernels;

/// Device memory of numbers between -1 and 1.
template <class T>
class numbers {
 public:
  explicit numbers(std::size_t size) : data_(static_cast<T*>(cuda_memory::allocate(size * sizeof(T)))) {
    std::vector<T> host(size);
    random_stream random(size, draw::test, 0, 0);
    for (T& x : host) x = static_cast<T>(static_cast<float>(random.next()) * 0x1p-31f - 1.0f);
    cuda_memory::copy_bytes(data_, host.data(), size * sizeof(T));
  }
  numbers(numbers const&) = delete;
  numbers& operator=(numbers const&) = delete;
  ~numbers() { cuda_memory::deallocate(data_); }
  [[nodiscard]] T* data() const { return data_; }

 private:
  T* data_;
};

template <precision P, class T>
void product(char const* name, std::size_t m, std::size_t n, std::size_t k) {
  basic_cuda<P> const device;
  numbers<T> const a(m * k), b(n * k), c(m * n), z(m * n);
  gemm_problem<T> forward{m, n, k, a.data(), k, false, b.data(), k, true, c.data(), n};
  double const library = timing::median_ms(
      device, [&] { gemm(device, forward); }, 20);
  double const own = timing::median_ms(
      device, [&] { gemm_own(device, forward); }, 20);
  std::array<std::ptrdiff_t, 2> const matrix{static_cast<std::ptrdiff_t>(n), 1};
  using elements = bound::elements<T, bound::inner::unit, 2>;
  auto kept = forward;
  kept.c = z.data();
  double const gelu = timing::median_ms(
      device,
      [&] {
        gemm_evaluate(device, kept, bound::operation<op::gelu, elements>{{elements{z.data(), matrix}}},
                      bound::target<T, bound::inner::unit, 2>{c.data(), matrix});
      },
      20);
  gemm_problem<T> const back{m, n, k, a.data(), k, false, b.data(), n, false, nullptr, n};  // as the map behind it has it
  double const slope = timing::median_ms(
      device, [&] { gemm_gelu_gradient(device, back, static_cast<T const*>(z.data()), c.data()); }, 20);
  gemm_problem<T> input{m, k, n, c.data(), n, false, b.data(), k, false, a.data(), k};
  double const library_input = timing::median_ms(
      device, [&] { gemm(device, input); }, 20);
  double const own_input = timing::median_ms(
      device, [&] { gemm_own(device, input); }, 20);
  numbers<float> const dw(n * k);
  gemm_problem<T, float> weight{n, k, m, c.data(), n, true, a.data(), k, false, dw.data(), k};
  weight.beta = 1;
  double const library_weight = timing::median_ms(
      device, [&] { gemm(device, weight); }, 20);
  double const own_weight = timing::median_ms(
      device, [&] { gemm_own(device, weight); }, 20);
  std::printf("%-5s %6zu x %4zu x %4zu  forward %6.1f own %6.1f gelu %6.1f its gradient %6.1f"
              " | input %6.1f own %6.1f | weight %6.1f own %6.1f us\n",
              name, m, n, k, 1e3 * library, 1e3 * own, 1e3 * gelu, 1e3 * slope, 1e3 * library_input, 1e3 * own_input, 1e3 * library_weight,
              1e3 * own_weight);
}

template <precision P, class T>
void attend(char const* name, attention_shape const& s, bool packed) {
  basic_cuda<P> const device;
  std::size_t const q_size = s.batch * s.queries * s.heads * s.head_dim, k_size = s.batch * s.keys * s.heads * s.head_dim;
  std::size_t const width = s.heads * s.head_dim, token = packed ? 3 * width : width;
  numbers<T> const q(packed ? 3 * q_size : q_size), k(k_size), v(k_size), o(q_size), d_o(q_size), dq(packed ? 3 * q_size : q_size),
      dk(k_size), dv(k_size);
  numbers<float> const lse(s.batch * s.heads * s.queries);
  auto const in = [&](numbers<T> const& part, std::size_t number, std::size_t tokens) {
    T* const data = packed ? q.data() + number * width : part.data();
    return attention_operand<T const>{data, {tokens * token, s.head_dim, token}};
  };
  auto const out = [&](numbers<T> const& part, std::size_t number, std::size_t tokens) {
    T* const data = packed ? dq.data() + number * width : part.data();
    return attention_operand<T>{data, {tokens * token, s.head_dim, token}};
  };
  attention_strides const dense{s.queries * width, s.head_dim, width};
  float const scale = 0.125f;
  auto const forward = [&] {
    attention_forward(device, s, scale, in(q, 0, s.queries), in(k, 1, s.keys), in(v, 2, s.keys),
                      attention_operand<T>{o.data(), dense}, lse.data());
  };
  auto const backward = [&] {
    attention_backward(device, s, scale, in(q, 0, s.queries), in(k, 1, s.keys), in(v, 2, s.keys),
                       attention_operand<T const>{o.data(), dense}, static_cast<float const*>(lse.data()),
                       attention_operand<T const>{d_o.data(), dense}, out(dq, 0, s.queries), out(dk, 1, s.keys), out(dv, 2, s.keys),
                       false);
  };
  double const f = timing::median_ms(device, forward, 20), b = timing::median_ms(
                                                               device, [&] { forward(), backward(); }, 20);
  std::printf("%-5s attention %3zu x %zu heads, %3zu x %3zu x %3zu  forward %6.1f  forward + backward %6.1f us\n", name, s.batch,
              s.heads, s.queries, s.keys, s.head_dim, 1e3 * f, 1e3 * b);
}

template <precision P, class T>
void convolve(char const* name, char const* what, conv_geometry const& g) {
  basic_cuda<P> const device;
  std::size_t const out = g.batch * g.out_height() * g.out_width() * g.out_channels;
  numbers<T> const x(g.batch * g.height * g.width * g.in_channels), w(g.out_channels * g.taps()), y(out), activated(out),
      dx(g.batch * g.height * g.width * g.in_channels);
  numbers<float> const dw(g.out_channels * g.taps());
  double const f = timing::median_ms(
      device, [&] { conv_forward(device, g, static_cast<T const*>(x.data()), w.data(), nullptr, y.data()); }, 20);
  double const i = timing::median_ms(
      device, [&] { conv_backward_input(device, g, static_cast<T const*>(y.data()), w.data(), dx.data(), false); }, 20);
  double const k = timing::median_ms(
      device, [&] { conv_backward_weight(device, g, static_cast<T const*>(x.data()), y.data(), dw.data(), false); }, 20);
  double const gelu = timing::median_ms(
      device, [&] { conv_forward_gelu(device, g, static_cast<T const*>(x.data()), w.data(), nullptr, y.data(), activated.data()); }, 20);
  double const slope = timing::median_ms(
      device,
      [&] { conv_backward_input_gelu(device, g, static_cast<T const*>(y.data()), w.data(), static_cast<T const*>(x.data()), dx.data()); },
      20);
  std::printf("%-5s %-8s batch %3zu  forward %6.1f with gelu %6.1f  input %6.1f through gelu %6.1f  weight %6.1f us\n", name, what,
              g.batch, 1e3 * f, 1e3 * gelu, 1e3 * i, 1e3 * slope, 1e3 * k);
}

template <precision P, class T>
void normalise(char const* name, batch_rows rows, std::size_t channels) {
  basic_cuda<P> const device;
  numbers<T> const x(rows.all * channels), y(rows.all * channels), dx(rows.all * channels);
  numbers<float> const weight(channels), bias(channels), mean(2 * channels), inverse(2 * channels), running_mean(channels),
      running_variance(channels), dweight(channels), dbias(channels);
  auto const* const from = static_cast<T const*>(x.data());
  double const f = timing::median_ms(
      device,
      [&] {
        batch_norm_forward(device, rows, channels, from, 1e-5f, 0.1, mean.data(), inverse.data(), running_mean.data(),
                           running_variance.data(), weight.data(), bias.data(), y.data());
      },
      20);
  double const b = timing::median_ms(
      device,
      [&] {
        batch_norm_backward(device, rows, channels, from, static_cast<T const*>(y.data()), mean.data(), inverse.data(), weight.data(),
                            dx.data(), dweight.data(), dbias.data(), true, true, true);
      },
      20);
  std::printf("%-5s normalisation %6zu x %3zu, %5zu apart  forward %6.1f  backward, added to dx %6.1f us\n", name, rows.all, channels,
              rows.apart, 1e3 * f, 1e3 * b);
}

template <precision P, class T>
void all(char const* name, std::string_view kind) {
  auto const wanted = [&](char const* what) { return kind.empty() || kind == what; };
  if (wanted("attention")) {
    for (std::size_t const batch : {80u, 512u}) {
      attend<P, T>(name, {batch, 3, 196, 196, 64}, true);
      attend<P, T>(name, {batch, 3, 49, 49, 128}, true);
    }
    attend<P, T>(name, {80, 3, 252, 252, 64}, true);  // the blocks that take semantic tokens in
    attend<P, T>(name, {80, 3, 98, 98, 128}, true);
    attend<P, T>(name, {80, 8, 45, 196, 24}, false);
    attend<P, T>(name, {80, 8, 45, 49, 48}, false);
  }
  if (wanted("normalisation"))
    for (batch_rows const images : {batch_rows(5), batch_rows(80), batch_rows(80, 5), batch_rows(512)}) {
      auto const maps = [&](std::size_t pixels) { return batch_rows(images.all * pixels, images.apart * pixels); };
      normalise<P, T>(name, maps(12544), 16);
      normalise<P, T>(name, maps(784), 96);
      normalise<P, T>(name, maps(196), 192);
      normalise<P, T>(name, maps(49), 384);
    }
  if (wanted("convolution")) {
    convolve<P, T>(name, "grouped", {80, 28, 28, 192, 192, 3, 3, 1, 1, 8});
    convolve<P, T>(name, "grouped", {512, 28, 28, 192, 192, 3, 3, 1, 1, 8});
    convolve<P, T>(name, "stem", {80, 224, 224, 3, 16, 7, 7, 2, 3, 1});
    convolve<P, T>(name, "patch 4", {80, 112, 112, 16, 96, 4, 4, 4, 0, 1});
  }
  if (wanted("product")) {
    struct extents {
      std::size_t rows, n, k;
    };
    for (auto const [rows, n, k] : {extents{62720, 192, 96}, {62720, 96, 192}, {15680, 576, 192}, {15680, 192, 192}, {15680, 768, 192},
                                    {15680, 192, 768}, {3920, 1152, 384}, {3920, 384, 384}, {3920, 1536, 384}, {3920, 384, 1536},
                                    {401408, 192, 96}, {401408, 96, 192}})
      product<P, T>(name, rows, n, k);
  }
}

}  // namespace

int main(int count, char** words) {
  std::string_view const kind = count > 1 ? words[1] : "";
  try {
    all<precision::bf16, bfloat16>("bf16", kind);
    all<precision::tf32, float>("tf32", kind);
  } catch (dvla::error const& problem) {
    std::fprintf(stderr, "%s\n", problem.what());
    return 1;
  }
}
