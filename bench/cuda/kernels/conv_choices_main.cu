// conv_choices_cuda: median times of the convolutions' kernels under each way of dividing them among blocks and warps that may be
// chosen, at the shapes of Visformer-Tiny 224, as replayed graphs, in microseconds. Results are compared with the first choice's.
#include <cmath>
#include <cstdio>
#include <cstring>

#include <dvla/kernels/cuda/conv.cuh>

#include "../timing.hpp"
#include "numbers.hpp"

namespace {

using namespace dvla;
using namespace dvla::kernels;
using conv::filter_order;
using timing::numbers;

/// The outputs of the choices of one pass: how far each is from the first one's.
template <class T>
class comparison {
 public:
  explicit comparison(numbers<T> const& out, std::size_t size) : out_(out.data()), size_(size) {}
  void begin() const { cuda_memory::clear_bytes(out_, size_ * sizeof(T)); }
  /// The largest distance over the largest element of the first choice; 0 where all bits are the same.
  double distance() {
    std::vector<T> now(size_);
    cuda_memory::copy_bytes(now.data(), out_, size_ * sizeof(T));
    if (first_.empty()) first_ = now;
    if (std::memcmp(first_.data(), now.data(), size_ * sizeof(T)) == 0) return 0;
    double largest = 0, worst = 0;
    for (std::size_t i = 0; i < size_; ++i) {
      double const a = static_cast<double>(static_cast<float>(first_[i])), b = static_cast<double>(static_cast<float>(now[i]));
      if (!std::isfinite(a) || !std::isfinite(b)) return HUGE_VAL;
      largest = std::fmax(largest, std::fabs(a)), worst = std::fmax(worst, std::fabs(a - b));
    }
    return worst / largest;
  }

 private:
  T* out_;
  std::size_t size_;
  std::vector<T> first_;
};

template <class Device, class T, class Body>
void measure(Device const& device, char const* type, char const* what, std::size_t batch, char const* choice, comparison<T>& outputs,
             Body const& body) {
  outputs.begin();
  body();
  double const distance = outputs.distance(), us = 1e3 * timing::median_ms(device, body, 20);
  std::printf("%-4s %-15s batch %3zu  %-22s %7.1f us  distance %.1e%s\n", type, what, batch, choice, us, distance,
              distance < 1e-4 ? "" : "  TOO FAR");
  std::fflush(stdout);
}

template <class T>
struct operands {
  numbers<T> x, w, y;
  numbers<float> dw;
  comparison<T> of_x, of_y;
  comparison<float> of_w;
  explicit operands(conv_geometry const& g)
      : x(g.batch * g.height * g.width * g.in_channels),
        w(g.out_channels * g.taps()),
        y(g.batch * g.out_height() * g.out_width() * g.out_channels),
        dw(g.out_channels * g.taps()),
        of_x(x, g.batch * g.height * g.width * g.in_channels),
        of_y(y, g.batch * g.out_height() * g.out_width() * g.out_channels),
        of_w(dw, g.out_channels * g.taps()) {}
};

template <class Choice, precision P, class T>
void grouped(basic_cuda<P> const& device, char const* type, conv_geometry const& g, char const* choice, operands<T> const& o,
             comparison<T>& of_y) {
  measure(device, type, "grouped", g.batch, choice, of_y, [&] {
    T const *const x = o.x.data(), *const w = o.w.data();
    conv::run_grouped<24, Choice>(device, g, x, w, filter_order::straight, nullptr, o.y.data(), false);
  });
}

template <class Choice, precision P, class T>
void grouped_weight(basic_cuda<P> const& device, char const* type, conv_geometry const& g, char const* choice, operands<T> const& o,
                    numbers<T> const& dy, comparison<float>& of_w) {
  measure(device, type, "grouped weight", g.batch, choice, of_w, [&] {
    conv::run_grouped_weight<24, Choice>(device, g, static_cast<T const*>(o.x.data()), dy.data(), o.dw.data(), false);
  });
}

/// The whole functions as a training step calls them.
template <precision P, class T>
void grouped_passes(basic_cuda<P> const& device, char const* type, conv_geometry const& g, operands<T> const& o, numbers<T> const& more) {
  std::size_t const size = g.batch * g.height * g.width * g.in_channels;
  comparison<T> input(o.y, size), gelu(o.y, size), before(o.y, size);
  T const* const x = o.x.data();
  measure(device, type, "grouped input", g.batch, "filters turned here", input,
          [&] { conv_backward_input(device, g, x, o.w.data(), o.y.data(), false); });
  measure(device, type, "grouped input", g.batch, "by a kernel before", input, [&] {
    kernels::detail::device_scratch<T> const filters(device, g.out_channels * g.taps());
    conv::turn_filters(device, g, static_cast<T const*>(o.w.data()), filters.data(), true);
    conv::run_grouped<24>(device, g, x, filters.data(), filter_order::straight, nullptr, o.y.data(), false);
  });
  measure(device, type, "grouped", g.batch, "and GELU", gelu,
          [&] { conv_forward_gelu(device, g, x, o.w.data(), nullptr, more.data(), o.y.data()); });
  measure(device, type, "grouped input", g.batch, "through GELU", before,
          [&] { conv_backward_input_gelu(device, g, x, o.w.data(), more.data(), o.y.data()); });
}

void all_grouped(basic_cuda<precision::bf16> const& d, conv_geometry const& g) {
  using conv::grouped_choice, conv::grouped_weight_choice;
  operands<bfloat16> o(g);
  numbers<bfloat16> const more(g.batch * g.height * g.width * g.in_channels);
  grouped<grouped_choice<4, 3, 8, 2>>(d, "bf16", g, "4 groups 8 slots x2", o, o.of_y);
  grouped<grouped_choice<4, 3, 5, 2>>(d, "bf16", g, "4 groups 5 slots x2", o, o.of_y);
  grouped<grouped_choice<8, 3, 5, 1>>(d, "bf16", g, "8 groups 5 slots x1", o, o.of_y);
  grouped<grouped_choice<8, 3, 8, 1>>(d, "bf16", g, "8 groups 8 slots x1", o, o.of_y);
  grouped<grouped_choice<2, 3, 8, 4>>(d, "bf16", g, "2 groups 8 slots x4", o, o.of_y);
  grouped_passes(d, "bf16", g, o, more);
  grouped_weight<grouped_weight_choice<2, 4, 4, 3, 1>>(d, "bf16", g, "2 groups/4 3 x 4 x1", o, more, o.of_w);
  grouped_weight<grouped_weight_choice<2, 4, 4, 4, 1>>(d, "bf16", g, "2 groups/4 4 x 4 x1", o, more, o.of_w);
  grouped_weight<grouped_weight_choice<2, 4, 7, 3, 1>>(d, "bf16", g, "2 groups/4 3 x 7 x1", o, more, o.of_w);
  grouped_weight<grouped_weight_choice<2, 2, 4, 3, 2>>(d, "bf16", g, "2 groups/2 3 x 4 x2", o, more, o.of_w);
  grouped_weight<grouped_weight_choice<1, 4, 4, 4, 2>>(d, "bf16", g, "1 group/4 4 x 4 x2", o, more, o.of_w);
  grouped_weight<grouped_weight_choice<4, 2, 4, 3, 1>>(d, "bf16", g, "4 groups/2 3 x 4 x1", o, more, o.of_w);
}

void all_grouped(basic_cuda<precision::tf32> const& d, conv_geometry const& g) {
  using conv::grouped_choice, conv::grouped_weight_choice;
  operands<float> o(g);
  numbers<float> const more(g.batch * g.height * g.width * g.in_channels);
  grouped<grouped_choice<2, 1, 8, 2>>(d, "tf32", g, "2 groups 8 slots x2", o, o.of_y);
  grouped<grouped_choice<2, 1, 8, 2, true>>(d, "tf32", g, "2 groups 8 x2 rounded", o, o.of_y);
  grouped<grouped_choice<4, 1, 8, 1, true>>(d, "tf32", g, "4 groups 8 x1 rounded", o, o.of_y);
  grouped<grouped_choice<2, 1, 5, 2>>(d, "tf32", g, "2 groups 5 slots x2", o, o.of_y);
  grouped<grouped_choice<4, 1, 5, 1>>(d, "tf32", g, "4 groups 5 slots x1", o, o.of_y);
  grouped<grouped_choice<4, 1, 8, 1>>(d, "tf32", g, "4 groups 8 slots x1", o, o.of_y);
  grouped<grouped_choice<1, 1, 8, 4>>(d, "tf32", g, "1 group 8 slots x4", o, o.of_y);
  grouped_passes(d, "tf32", g, o, more);
  grouped_weight<grouped_weight_choice<1, 4, 4, 3, 2>>(d, "tf32", g, "1 group/4 3 x 4 x2", o, more, o.of_w);
  grouped_weight<grouped_weight_choice<1, 4, 4, 4, 2>>(d, "tf32", g, "1 group/4 4 x 4 x2", o, more, o.of_w);
  grouped_weight<grouped_weight_choice<1, 4, 7, 2, 2>>(d, "tf32", g, "1 group/4 2 x 7 x2", o, more, o.of_w);
  grouped_weight<grouped_weight_choice<1, 8, 4, 4, 1>>(d, "tf32", g, "1 group/8 4 x 4 x1", o, more, o.of_w);
  grouped_weight<grouped_weight_choice<2, 4, 4, 3, 1>>(d, "tf32", g, "2 groups/4 3 x 4 x1", o, more, o.of_w);
}

template <precision P, class T>
void all_stem(basic_cuda<P> const& device, char const* type, conv_geometry const& g) {
  operands<T> o(g);
  T const* const x = o.x.data();
  for (int const stages : {1, 2})
    measure(device, type, "stem", g.batch, stages == 1 ? "1 band" : "2 bands", o.of_y, [&] {
      conv::run_stem<conv::stem_7x7>(device, g, x, static_cast<T const*>(o.w.data()), nullptr, o.y.data(), stages);
    });
  for (conv::stem_weight_choice const choice : {conv::stem_weight_choice{5, 2}, {4, 2}, {3, 2}, {2, 2}, {8, 1}, {5, 1}, {4, 1}}) {
    char name[32];
    std::snprintf(name, sizeof name, "%d rows %d bands", choice.rows, choice.stages);
    measure(device, type, "stem weight", g.batch, name, o.of_w, [&] {
      conv::run_stem_weight<conv::stem_7x7>(device, g, x, static_cast<T const*>(o.y.data()), o.dw.data(), false, choice);
    });
  }
}

template <precision P, class T>
void all_patches(basic_cuda<P> const& device, char const* type, conv_geometry const& g) {
  operands<T> o(g);
  T const *const x = o.x.data(), *const w = o.w.data();
  measure(device, type, "patches", g.batch, "", o.of_y, [&] { conv_forward(device, g, x, w, nullptr, o.y.data()); });
  for (std::size_t const blocks : {std::size_t{264}, std::size_t{132}, std::size_t{396}})
    measure(device, type, "patches weight", g.batch, blocks == 264 ? "264 blocks" : blocks == 132 ? "132 blocks" : "396 blocks", o.of_w,
            [&] { conv::run_gemm_weight(device, g, x, static_cast<T const*>(o.y.data()), o.dw.data(), false, blocks); });
  measure(device, type, "patches input", g.batch, "", o.of_x,
          [&] { conv_backward_input(device, g, static_cast<T const*>(o.y.data()), w, o.x.data(), false); });
}

template <precision P, class T>
void all(char const* type) {
  basic_cuda<P> const device;
  for (std::size_t const batch : {80u, 512u}) all_grouped(device, {batch, 28, 28, 192, 192, 3, 3, 1, 1, 8});
  all_stem<P, T>(device, type, {80, 224, 224, 3, 16, 7, 7, 2, 3, 1});
  all_patches<P, T>(device, type, {80, 112, 112, 16, 96, 4, 4, 4, 0, 1});
}

}  // namespace

int main() {
  try {
    all<precision::bf16, bfloat16>("bf16");
    all<precision::tf32, float>("tf32");
  } catch (dvla::error const& problem) {
    std::fprintf(stderr, "%s\n", problem.what());
    return 1;
  }
}
