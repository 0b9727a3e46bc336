// Convolution on the GPU and its gradients against direct loops in double: every geometry in every precision, and every special
// path at its edges. Outputs are poisoned and guarded.
#include <doctest/doctest.h>

#include <cstddef>
#include <type_traits>
#include <vector>

#include <device_buffer.hpp>
#include <dvla/kernels/cuda/conv.cuh>

using namespace dvla;
using namespace dvla::kernels;

namespace {

/// What is computed with, and how near that comes.
template <class T, precision P>
struct arithmetic {
  using type = T;
  using number = arithmetic_t<T>;
  static constexpr bool is_double = std::is_same_v<T, double>, is_bfloat16 = std::is_same_v<T, bfloat16>, is_tf32 = P == precision::tf32;
  static constexpr double bound = is_double ? 1e-12 : is_bfloat16 ? 4e-3 : is_tf32 ? 5e-4 : 1e-5;
  static constexpr double weight_bound = is_bfloat16 ? 1e-4 : bound;  // its gradient is not rounded to bfloat16
  basic_cuda<P> device;
};
using in_double = arithmetic<double, precision::f32>;
using in_float = arithmetic<float, precision::f32>;
using in_tf32 = arithmetic<float, precision::tf32>;
using in_bfloat16 = arithmetic<bfloat16, precision::bf16>;

std::size_t x_size(conv_geometry const& g) { return g.batch * g.height * g.width * g.in_channels; }
std::size_t y_size(conv_geometry const& g) { return g.batch * g.out_height() * g.out_width() * g.out_channels; }
std::size_t w_size(conv_geometry const& g) { return g.out_channels * g.taps(); }

template <class T>
std::vector<double> in_doubles(std::vector<T> const& values) {
  std::vector<double> out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = as_double(values[i]);
  return out;
}

/// Operands, drawn as normal numbers or small integers, and what the outputs held before.
template <class T>
struct operands {
  using number = arithmetic_t<T>;
  std::vector<T> x, w, dy, old_dx;
  std::vector<number> bias, old_dw;

  operands(conv_geometry const& g, bool integers) {
    auto const draw = [&]<class E>(std::vector<E>& to, std::size_t size, std::uint64_t seed) {
      to = integers ? small_integers<E>(size, seed) : normal_numbers<E>(size, seed);
    };
    draw(x, x_size(g), 1), draw(w, w_size(g), 2), draw(dy, y_size(g), 3), draw(old_dx, x_size(g), 4);
    draw(bias, g.out_channels, 5), draw(old_dw, w_size(g), 6);
  }
};

/// The outputs without bias and what was there, in double.
struct results {
  std::vector<double> y, dx, dw;

  template <class T>
  results(conv_geometry const& g, operands<T> const& in) : y(y_size(g)), dx(x_size(g)), dw(w_size(g)) {
    auto const x = in_doubles(in.x), w = in_doubles(in.w), dy = in_doubles(in.dy);
    std::size_t const ig = g.group_in(), og = g.group_out();
    std::size_t at_y = 0;
    for (std::size_t n = 0; n < g.batch; ++n)
      for (std::size_t i = 0; i < g.out_height(); ++i)
        for (std::size_t j = 0; j < g.out_width(); ++j)
          for (std::size_t o = 0; o < g.out_channels; ++o, ++at_y)
            for (std::size_t r = 0; r < g.kernel_h; ++r)
              for (std::size_t s = 0; s < g.kernel_w; ++s) {
                std::size_t const row = i * g.stride + r, column = j * g.stride + s;  // in the padded image
                if (row < g.padding || row >= g.height + g.padding) continue;
                if (column < g.padding || column >= g.width + g.padding) continue;
                std::size_t const pixel = (n * g.height + row - g.padding) * g.width + column - g.padding;
                std::size_t const at_x = pixel * g.in_channels + o / og * ig, at_w = ((o * g.kernel_h + r) * g.kernel_w + s) * ig;
                double sum = 0;
                for (std::size_t c = 0; c < ig; ++c) {
                  sum += x[at_x + c] * w[at_w + c];
                  dx[at_x + c] += w[at_w + c] * dy[at_y];
                  dw[at_w + c] += x[at_x + c] * dy[at_y];
                }
                y[at_y] += sum;
              }
  }
};

template <class A, class B>
std::vector<double> sum_of(std::vector<A> const& a, std::vector<B> const& b) {
  std::vector<double> out(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) out[i] = as_double(a[i]) + as_double(b[i % b.size()]);
  return out;
}

/// A buffer whose elements begin `shift` elements after an aligned address.
template <class T>
struct shifted {
  std::size_t shift;
  device_buffer<T> buffer;

  shifted(std::size_t size, std::size_t by) : shift(by), buffer(size + by) {}
  shifted(std::vector<T> const& values, std::size_t by) : shifted(values.size(), by) { put(values); }
  void put(std::vector<T> const& values) {
    cuda_check(cudaMemcpy(data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "filling a test buffer");
  }
  [[nodiscard]] T* data() const { return buffer.data() + shift; }
  [[nodiscard]] std::vector<T> get() const {
    auto const all = buffer.get();
    return {all.begin() + static_cast<std::ptrdiff_t>(shift), all.end()};
  }
};

/// The three functions on the device, every output in memory of its own.
template <class C>
struct computed {
  using T = typename C::type;
  using A = typename C::number;
  std::vector<T> y, dx;
  std::vector<A> dw;
  bool intact;

  computed(conv_geometry const& g, operands<T> const& in, bool with_bias, bool accumulate, std::size_t shift = 0) {
    C const c{};
    shifted<T> const x(in.x, shift), w(in.w, shift), dy(in.dy, shift), to_y(y_size(g), shift);
    shifted<A> const bias(in.bias, shift);
    shifted<T> to_dx(x_size(g), shift);
    shifted<A> to_dw(w_size(g), shift);
    if (accumulate) to_dx.put(in.old_dx), to_dw.put(in.old_dw);
    cuda_check(cudaDeviceSynchronize(), "waiting for a test's operands");
    conv_forward(c.device, g, x.data(), w.data(), with_bias ? bias.data() : nullptr, to_y.data());
    conv_backward_input(c.device, g, dy.data(), w.data(), to_dx.data(), accumulate);
    conv_backward_weight(c.device, g, x.data(), dy.data(), to_dw.data(), accumulate);
    y = to_y.get(), dx = to_dx.get(), dw = to_dw.get();
    intact = to_y.buffer.intact() && to_dx.buffer.intact() && to_dw.buffer.intact();
  }
};

/// Normal numbers within the bounds, with and without bias and accumulation; `shift` moves all operands off alignment.
template <class C>
void check_normal(conv_geometry const& g, std::size_t shift = 0) {
  operands<typename C::type> const in(g, false);
  results const expected(g, in);
  for (bool const more : {false, true}) {
    CAPTURE(more);
    computed<C> const got(g, in, more, more, shift);
    CHECK(got.intact);
    CHECK(relative_error(got.y, more ? sum_of(expected.y, in.bias) : expected.y) <= C::bound);
    CHECK(relative_error(got.dx, more ? sum_of(expected.dx, in.old_dx) : expected.dx) <= C::bound);
    CHECK(relative_error(got.dw, more ? sum_of(expected.dw, in.old_dw) : expected.dw) <= C::weight_bound);
  }
}

/// The double values rounded to E.
template <class E>
std::vector<double> rounded_to(std::vector<double> const& values) {
  std::vector<double> out(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = as_double(static_cast<E>(static_cast<arithmetic_t<E>>(values[i])));
  return out;
}

template <class C>
void check_same(computed<C> const& a, computed<C> const& b) {
  CHECK(same_bits(a.y, b.y));
  CHECK(same_bits(a.dx, b.dx));
  CHECK(same_bits(a.dw, b.dw));
}

/// A convolution with its GELU, and the gradient through a GELU, against the same in two passes.
template <class C>
void check_gelu(conv_geometry const& g) {
  using T = typename C::type;
  operands<T> const in(g, false);
  C const c{};
  device_buffer<T> const x(in.x), w(in.w), dy(in.dy);
  device_buffer<typename C::number> const bias(in.bias);
  device_buffer<T> y(y_size(g)), h(y_size(g)), two_y(y_size(g)), two_h(y_size(g)), dz(x_size(g)), two_dz(x_size(g));
  cuda_check(cudaDeviceSynchronize(), "waiting for a test's operands");
  conv_forward_gelu(c.device, g, static_cast<T const*>(x.data()), w.data(), bias.data(), y.data(), h.data());
  conv_forward(c.device, g, static_cast<T const*>(x.data()), w.data(), bias.data(), two_y.data());
  conv::apply_gelu(c.device, y_size(g), static_cast<T const*>(two_y.data()), two_h.data());
  conv_backward_input_gelu(c.device, g, static_cast<T const*>(dy.data()), w.data(), x.data(), dz.data());
  conv_backward_input(c.device, g, static_cast<T const*>(dy.data()), w.data(), two_dz.data(), false);
  conv::multiply_gelu_gradient(c.device, x_size(g), static_cast<T const*>(x.data()), two_dz.data());
  CHECK(same_bits(y.get(), two_y.get()));
  CHECK(relative_error(h.get(), in_doubles(two_h.get())) <= C::bound);
  CHECK(relative_error(dz.get(), in_doubles(two_dz.get())) <= C::bound);
  CHECK((y.intact() && h.intact() && dz.intact()));
}

/// Small integers, whose sums are exact until the result is rounded, and the same bits when computed again.
template <class C>
void check_integers(conv_geometry const& g) {
  using T = typename C::type;
  operands<T> const in(g, true);
  results const expected(g, in);
  computed<C> const got(g, in, true, true);
  CHECK(relative_error(got.y, rounded_to<T>(sum_of(expected.y, in.bias))) == 0);
  CHECK(relative_error(got.dx, rounded_to<T>(sum_of(expected.dx, in.old_dx))) == 0);
  CHECK(relative_error(got.dw, rounded_to<typename C::number>(sum_of(expected.dw, in.old_dw))) == 0);
  check_same(got, computed<C>(g, in, true, true));
}

/// The same with a bias where it is known what double gives.
template <class C>
void check_large(conv_geometry const& g, computed<in_double> const& expected) {
  using T = typename C::type;
  operands<T> const in(g, true);
  computed<C> const got(g, in, true, false);
  CHECK(got.intact);
  CHECK(relative_error(got.y, rounded_to<T>(expected.y)) == 0);
  CHECK(relative_error(got.dx, rounded_to<T>(expected.dx)) == 0);
  CHECK(relative_error(got.dw, expected.dw) == 0);
  check_same(got, computed<C>(g, in, true, false));
}

template <class C>
void check_all(std::vector<conv_geometry> const& geometries) {
  for (std::size_t i = 0; i < geometries.size(); ++i) {
    CAPTURE(i);
    check_normal<C>(geometries[i]);
    check_integers<C>(geometries[i]);
  }
}

std::vector<conv_geometry> const general = {
    // batch, height, width, in, out, kernel_h, kernel_w, stride, padding, groups
    {1, 1, 1, 1, 1, 1, 1, 1, 0, 1},      {2, 37, 35, 3, 16, 7, 7, 2, 3, 1},   {2, 9, 8, 48, 48, 3, 3, 1, 1, 2},
    {1, 17, 19, 72, 72, 3, 3, 1, 1, 3},  {2, 14, 13, 16, 50, 4, 4, 4, 0, 1},  {3, 7, 5, 24, 40, 2, 2, 2, 0, 1},
    {1, 21, 21, 3, 64, 3, 3, 1, 1, 1},   {2, 5, 5, 64, 64, 3, 3, 1, 1, 1},    {2, 11, 17, 17, 17, 3, 3, 1, 1, 17},
    {1, 10, 9, 6, 9, 3, 2, 3, 2, 3},     {2, 9, 9, 5, 7, 1, 1, 1, 0, 1},      {1, 9, 11, 5, 7, 1, 1, 3, 0, 1},
    {1, 12, 12, 4, 6, 5, 3, 2, 0, 2},    {1, 6, 6, 3, 4, 3, 3, 1, 4, 1},      {1, 8, 8, 12, 10, 2, 2, 2, 0, 2},
    {1, 13, 8, 2, 3, 2, 2, 4, 1, 1},     {17, 4, 4, 10, 20, 3, 3, 1, 1, 1},   {2, 3, 3, 97, 101, 3, 3, 1, 1, 1},
    {1, 11, 10, 6, 4, 5, 5, 1, 2, 2},    {1, 15, 9, 3, 33, 7, 5, 3, 1, 1},    {1, 3, 3, 4, 4, 3, 3, 5, 2, 1},
    {1, 1, 49, 2, 2, 1, 7, 1, 0, 1},     {2, 2, 3, 8, 16, 2, 2, 2, 0, 1},     {1, 33, 31, 3, 96, 4, 4, 4, 0, 1},
};

std::vector<conv_geometry> const grouped = {
    {2, 28, 28, 48, 48, 3, 3, 1, 1, 2},    // fewer groups than a block takes
    {1, 28, 28, 120, 120, 3, 3, 1, 1, 5},  // a last block with one group
    {3, 16, 16, 64, 64, 3, 3, 1, 1, 4},    {1, 5, 40, 80, 80, 3, 3, 1, 1, 5}, {2, 1, 1, 48, 48, 3, 3, 1, 1, 2},
    {1, 1, 17, 32, 32, 3, 3, 1, 1, 2},     {2, 49, 1, 32, 32, 3, 3, 1, 1, 2}, {1, 3, 100, 48, 48, 3, 3, 1, 1, 2},
    {1, 3, 130, 48, 48, 3, 3, 1, 1, 2},    {1, 2, 257, 32, 32, 3, 3, 1, 1, 2}, {2, 6, 33, 72, 72, 3, 3, 1, 1, 3},
    {5, 28, 28, 192, 192, 3, 3, 1, 1, 8},  {7, 2, 16, 16 * 9, 16 * 9, 3, 3, 1, 1, 9},
    {150, 3, 3, 48, 48, 3, 3, 1, 1, 2},  // several images a block, or one row
    {60, 3, 5, 480, 480, 3, 3, 1, 1, 20},  // several steps a team
};

std::vector<conv_geometry> const products = {
    {2, 28, 28, 16, 96, 4, 4, 4, 0, 1},   {1, 14, 13, 96, 192, 2, 2, 2, 0, 1},  {1, 7, 7, 192, 384, 2, 2, 2, 0, 1},
    {3, 11, 10, 16, 104, 4, 4, 4, 0, 1},  {1, 21, 19, 64, 64, 3, 3, 1, 1, 1},   {1, 11, 13, 8, 40, 5, 3, 1, 2, 1},
    {1, 12, 9, 64, 128, 3, 3, 1, 1, 2},   {1, 15, 15, 32, 48, 3, 3, 2, 1, 1},   {2, 7, 9, 24, 72, 1, 1, 1, 0, 1},
    {1, 6, 6, 16, 16, 3, 3, 1, 4, 1},     {1, 8, 8, 16, 24, 2, 2, 1, 1, 1},     {1, 9, 9, 12, 20, 3, 3, 1, 1, 1},
    {1, 17, 17, 8, 8, 7, 7, 1, 3, 1},     {2, 1, 1, 8, 8, 1, 1, 1, 0, 1},       {1, 14, 14, 32, 64, 3, 3, 1, 1, 4},
    {1, 9, 7, 72, 72, 3, 3, 1, 0, 9},     {1, 10, 10, 128, 8, 1, 1, 2, 0, 1},
};

std::vector<conv_geometry> const images = {
    {1, 64, 64, 3, 16, 7, 7, 2, 3, 1},  {2, 32, 32, 3, 16, 3, 3, 1, 1, 1},  {1, 21, 22, 3, 64, 3, 3, 1, 1, 1},
    {1, 8, 250, 3, 16, 7, 7, 2, 3, 1},  {1, 30, 30, 3, 32, 7, 7, 2, 2, 1},  {1, 9, 9, 4, 16, 3, 3, 2, 1, 1},
    {1, 9, 9, 5, 16, 3, 3, 1, 1, 1},    {2, 1, 1, 3, 16, 3, 3, 1, 1, 1},    {2, 1, 2, 3, 16, 7, 7, 2, 3, 1},
    {1, 19, 17, 3, 16, 7, 7, 2, 0, 1},  {1, 4, 3, 3, 48, 3, 3, 1, 2, 1},    {1, 7, 700, 3, 16, 7, 7, 2, 3, 1},
};

}  // namespace

TEST_CASE("cuda convolution: every geometry, and its gradients") {
  SUBCASE("double") { check_all<in_double>(general); }
  SUBCASE("float") { check_all<in_float>(general); }
  SUBCASE("tf32") { check_all<in_tf32>(general); }
  SUBCASE("bfloat16") { check_all<in_bfloat16>(general); }
}

TEST_CASE("cuda convolution: 3x3 in small groups") {
  SUBCASE("float") { check_all<in_float>({grouped[0], grouped[2]}); }
  SUBCASE("tf32") { check_all<in_tf32>(grouped); }
  SUBCASE("bfloat16") { check_all<in_bfloat16>(grouped); }
}

TEST_CASE("cuda convolution: 3x3 in small groups with a GELU after them or before them") {
  for (conv_geometry const& g : {grouped[1], grouped[2], grouped[8], grouped[11]}) {
    check_gelu<in_tf32>(g);
    check_gelu<in_bfloat16>(g);
  }
}

TEST_CASE("cuda convolution: patches and other products") {
  SUBCASE("double") { check_all<in_double>({products[1], products[3], products[7]}); }
  SUBCASE("float") { check_all<in_float>({products[0], products[2], products[4]}); }
  SUBCASE("tf32") { check_all<in_tf32>(products); }
  SUBCASE("bfloat16") { check_all<in_bfloat16>(products); }
}

TEST_CASE("cuda convolution: images of few channels") {
  SUBCASE("float") { check_all<in_float>({images[0], images[1]}); }
  SUBCASE("tf32") { check_all<in_tf32>(images); }
  SUBCASE("bfloat16") { check_all<in_bfloat16>(images); }
}

TEST_CASE("cuda convolution: operands at any address") {
  for (conv_geometry const& g : {grouped[0], grouped[2], products[0], products[4], images[0], images[1]})
    for (std::size_t const shift : {1, 2}) {
      CAPTURE(shift);
      check_normal<in_float>(g, shift);
      check_normal<in_tf32>(g, shift);
      check_normal<in_bfloat16>(g, shift);
    }
}

TEST_CASE("cuda convolution: many bands and parts give the same bits every time") {
  std::size_t const share = small_tests() ? 12 : 1;
  conv_geometry const groups{90 / share, 28, 28, 48, 48, 3, 3, 1, 1, 2}, patches{60 / share, 56, 56, 16, 96, 4, 4, 4, 0, 1};
  conv_geometry const stem{24 / share, 112, 112, 3, 16, 7, 7, 2, 3, 1};
  for (conv_geometry const& g : {groups, patches, stem}) {
    // small integers, which double sums exactly, and without tensor cores: the reference is the device's own
    computed<in_double> const expected(g, operands<double>(g, true), true, false);
    check_large<in_tf32>(g, expected);
    check_large<in_bfloat16>(g, expected);
  }
}

TEST_CASE("cuda convolution: the shapes of Visformer and Conv-4 have tensor-core paths") {
  conv_geometry const middle{80, 28, 28, 192, 192, 3, 3, 1, 1, 8}, small{80, 16, 16, 64, 64, 3, 3, 1, 1, 4};
  CHECK(conv::grouped_fits<24>(middle));
  CHECK(conv::grouped_fits<16>(small));
  conv_geometry const stem{80, 224, 224, 3, 16, 7, 7, 2, 3, 1}, small_stem{80, 32, 32, 3, 16, 3, 3, 1, 1, 1};
  alignas(16) static bfloat16 const image[8] = {};
  alignas(16) static float const float_image[4] = {};
  CHECK((conv::stem_fits<conv::stem_7x7>(stem, image) && conv::stem_weight_fits<conv::stem_7x7>(stem, image)));
  CHECK((conv::stem_fits<conv::stem_7x7>(stem, float_image) && conv::stem_weight_fits<conv::stem_7x7>(stem, float_image)));
  CHECK((conv::stem_fits<conv::stem_3x3>(small_stem, image) && conv::stem_weight_fits<conv::stem_3x3>(small_stem, float_image)));
  for (conv_geometry const& g : {conv_geometry{80, 112, 112, 16, 96, 4, 4, 4, 0, 1}, conv_geometry{80, 28, 28, 96, 192, 2, 2, 2, 0, 1}}) {
    CHECK((conv::gemm_fits<bfloat16>(conv::gemm_pass::forward(g)) && conv::gemm_fits<float>(conv::gemm_pass::backward_patches(g))));
    CHECK((conv::gemm_weight_fits<bfloat16>(g) && conv::gemm_weight_fits<float>(g)));
  }
  conv_geometry const conv4{80, 84, 84, 64, 64, 3, 3, 1, 1, 1};
  CHECK((conv::gemm_fits<bfloat16>(conv::gemm_pass::forward(conv4)) && conv::gemm_fits<float>(conv::gemm_pass::backward(conv4))));
}

TEST_CASE("cuda convolution: pixels that fill no patch get a gradient of 0, or keep theirs") {
  conv_geometry const g{2, 11, 10, 16, 96, 4, 4, 4, 0, 1};
  operands<bfloat16> const in(g, true);
  for (bool const accumulate : {false, true}) {
    computed<in_bfloat16> const got(g, in, false, accumulate);
    bool kept = true;
    for (std::size_t i = 0; i < got.dx.size(); ++i) {
      std::size_t const pixel = i / g.in_channels, column = pixel % g.width, row = pixel / g.width % g.height;
      if (row >= 8 || column >= 8) kept = kept && as_double(got.dx[i]) == (accumulate ? as_double(in.old_dx[i]) : 0.0);
    }
    CHECK(kept);
  }
}

TEST_CASE("cuda convolution: no images give no output, and a weight gradient of 0") {
  conv_geometry const g{0, 8, 8, 3, 5, 3, 3, 1, 1, 1};
  cuda const device{};
  device_buffer<float> const w(std::vector<float>(w_size(g), 1.0f)), dw(std::vector<float>(w_size(g), 3.0f));
  float* const nothing = nullptr;
  cuda_check(cudaDeviceSynchronize(), "waiting for a test's operands");
  conv_forward(device, g, nothing, w.data(), nullptr, nothing);
  conv_backward_input(device, g, nothing, w.data(), nothing, false);
  conv_backward_weight(device, g, nothing, nothing, dw.data(), true);
  CHECK(dw.get() == std::vector<float>(w_size(g), 3.0f));
  conv_backward_weight(device, g, nothing, nothing, dw.data(), false);
  CHECK(dw.get() == std::vector<float>(w_size(g), 0.0f));
}
