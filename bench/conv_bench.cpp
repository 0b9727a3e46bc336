// Convolutions of Visformer-Tiny at 224 x 224 and of Conv-4 at 84 x 84, 16 images, one thread: forward and both gradients.
#include <cstddef>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include <dvla/kernels/cpu/conv.hpp>

#include "fma_peak.hpp"

namespace {

using dvla::cpu;
using dvla::kernels::conv_geometry;

struct layer {
  char const* what;
  conv_geometry geometry;
};

constexpr layer layers[] = {
    // batch, height, width, in, out, kernel_h, kernel_w, stride, padding, groups
    {"stem 7x7", {16, 224, 224, 3, 16, 7, 7, 2, 3, 1}},      {"patches 4x4 of 112", {16, 112, 112, 16, 96, 4, 4, 4, 0, 1}},
    {"patches 2x2 of 28", {16, 28, 28, 96, 192, 2, 2, 2, 0, 1}}, {"patches 2x2 of 14", {16, 14, 14, 192, 384, 2, 2, 2, 0, 1}},
    {"grouped 3x3 at 28", {16, 28, 28, 192, 192, 3, 3, 1, 1, 8}}, {"grouped 3x3 at 8", {16, 8, 8, 192, 192, 3, 3, 1, 1, 8}},
    {"conv4 3x3 at 84", {16, 84, 84, 3, 64, 3, 3, 1, 1, 1}}, {"conv4 3x3 at 42", {16, 42, 42, 64, 64, 3, 3, 1, 1, 1}},
    {"conv4 3x3 at 21", {16, 21, 21, 64, 64, 3, 3, 1, 1, 1}}, {"conv4 3x3 at 10", {16, 10, 10, 64, 64, 3, 3, 1, 1, 1}},
    {"conv4 3x3 at 4", {16, 4, 4, 64, 64, 3, 3, 1, 1, 1}},
};

struct buffers {
  std::vector<float> x, y, weight, bias;
  explicit buffers(conv_geometry const& g)
      : x(g.batch * g.height * g.width * g.in_channels, 0.5f),
        y(g.batch * g.out_height() * g.out_width() * g.out_channels, 0.25f), weight(g.out_channels * g.taps(), 0.125f),
        bias(g.out_channels, 1.0f) {}
};

/// Times call(geometry, buffers); the count of operations leaves the padding's zeros in.
template <class Call>
void add(layer const& l, char const* direction, Call call) {
  std::string const name = std::string("conv ") + direction + " " + l.what;
  benchmark::RegisterBenchmark(name.c_str(), [&l, call](benchmark::State& state) {
    buffers b(l.geometry);
    double const flops = 2.0 * static_cast<double>(b.y.size() * l.geometry.taps());
    for (auto _ : state) {
      call(l.geometry, b);
      benchmark::ClobberMemory();
    }
    report_flops<float>(state, flops);
  });
}

bool const registered = [] {
  for (layer const& l : layers) {
    add(l, "y", [](conv_geometry const& g, buffers& b) {
      dvla::kernels::conv_forward(cpu{}, g, b.x.data(), b.weight.data(), b.bias.data(), b.y.data());
    });
    add(l, "dx", [](conv_geometry const& g, buffers& b) {
      dvla::kernels::conv_backward_input(cpu{}, g, b.y.data(), b.weight.data(), b.x.data(), false);
    });
    add(l, "dw", [](conv_geometry const& g, buffers& b) {
      dvla::kernels::conv_backward_weight(cpu{}, g, b.x.data(), b.y.data(), b.weight.data(), false);
    });
  }
  return true;
}();

}  // namespace
