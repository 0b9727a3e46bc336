// The kernels of a training step of Visformer-Tiny 224 and of gated attention, in one precision, as tasks.
#pragma once

#include <dvla/core/error.hpp>
#include <dvla/kernels/cuda/attention.cuh>
#include <dvla/kernels/cuda/attention_backward.cuh>
#include <dvla/kernels/cuda/conv.cuh>
#include <dvla/kernels/cuda/cross_entropy.cuh>
#include <dvla/kernels/cuda/gemm_evaluate.cuh>
#include <dvla/kernels/cuda/layer_norm.cuh>
#include <dvla/kernels/cuda/norm.cuh>
#include <dvla/kernels/cuda/reduce.cuh>
#include <dvla/kernels/cuda/softmax.cuh>

#include "repeated.hpp"

namespace repeat {

/// Builds the tasks; every one owns its inputs and results.
template <precision P>
class kernel_tasks {
  using T = activation_t<P, float>;
  using device = basic_cuda<P>;

 public:
  kernel_tasks(char const* precision_name, std::size_t batch) : suffix_(concat(", ", precision_name, ", batch ", batch)), batch_(batch) {
    attend("attention 196", {batch, 3, 196, 196, 64}, true);
    attend("attention 49", {batch, 3, 49, 49, 128}, true);
    attend("attention of shared queries 45", {batch, 8, 45, 196, 24}, false);
    convolve("grouped convolution", {batch, 28, 28, 192, 192, 3, 3, 1, 1, 8}, true);
    convolve("patches 4x4", {batch, 112, 112, 16, 96, 4, 4, 4, 0, 1}, true);
    convolve("patches 2x2", {batch, 28, 28, 96, 192, 2, 2, 2, 0, 1}, true);
    convolve("stem", {batch, 224, 224, 3, 16, 7, 7, 2, 3, 1}, false);
    activated_convolution();
    products("96 to 192", batch * 784, 96, 192);
    products("192 to 768", batch * 196, 192, 768);
    products("384 to 1152", batch * 49, 384, 1152);
    normalise("BatchNorm 784 x 96", batch * 784, 96);
    normalise("BatchNorm 196 x 192", batch * 196, 192);
    normalise("BatchNorm 49 x 384", batch * 49, 384);
    normalise_rows("LayerNorm 49 x 384", batch * 49, 384);
    classify();
    add_up("column sums 784 x 192", batch * 784, 192);
    add_up("column sums 49 x 384", batch * 49, 384);
  }
  [[nodiscard]] std::vector<task> take() { return std::move(tasks_); }

 private:
  /// An input of E that lives as long as the tasks that hold it.
  template <class E>
  [[nodiscard]] std::shared_ptr<drawn<E>> input(std::size_t count) {
    return std::make_shared<drawn<E>>(device_.stream(), count, ++seed_);
  }
  template <class Run>
  void add(std::string const& name, std::shared_ptr<results> written, Run run) {
    tasks_.push_back({name + suffix_, std::move(written), std::move(run)});
  }

  void attend(char const* name, attention_shape const& s, bool packed) {
    std::size_t const width = s.heads * s.head_dim, token = packed ? 3 * width : width;
    std::size_t const query_images = packed ? s.batch : 1;  // one set of queries for all images
    auto const q = input<T>(query_images * s.queries * token), k = packed ? q : input<T>(s.batch * s.keys * token),
               v = packed ? q : input<T>(s.batch * s.keys * token), d_o = input<T>(s.batch * s.queries * width);
    auto const written = std::make_shared<results>();
    T* const o = written->add<T>(s.batch * s.queries * width);
    float* const lse = written->add<float>(s.batch * s.heads * s.queries);
    T* const dq = written->add<T>(query_images * s.queries * token);
    T* const dk = packed ? dq + width : written->add<T>(s.batch * s.keys * token);
    T* const dv = packed ? dq + 2 * width : written->add<T>(s.batch * s.keys * token);
    attention_strides const of_q{packed ? s.queries * token : 0, s.head_dim, token}, of_k{s.keys * token, s.head_dim, token},
        dense{s.queries * width, s.head_dim, width};
    std::size_t const k_at = packed ? width : 0, v_at = packed ? 2 * width : 0;
    add(name, written, [=, on = device_] {
      using in = attention_operand<T const>;
      using out = attention_operand<T>;
      float const scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
      in const from_q{q->data(), of_q}, from_k{k->data() + k_at, of_k}, from_v{v->data() + v_at, of_k};
      attention_forward(on, s, scale, from_q, from_k, from_v, out{o, dense}, lse);
      attention_backward(on, s, scale, from_q, from_k, from_v, in{o, dense}, static_cast<float const*>(lse), in{d_o->data(), dense},
                         out{dq, of_q}, out{dk, of_k}, out{dv, of_k}, false);
    });
  }

  void convolve(char const* name, conv_geometry const& g, bool with_input) {
    std::size_t const x_size = g.batch * g.height * g.width * g.in_channels, w_size = g.out_channels * g.taps(),
                      y_size = g.batch * g.out_height() * g.out_width() * g.out_channels;
    auto const x = input<T>(x_size), w = input<T>(w_size), dy = input<T>(y_size);
    auto const bias = input<float>(g.out_channels);
    auto const written = std::make_shared<results>();
    T* const y = written->add<T>(y_size);
    T* const dx = with_input ? written->add<T>(x_size) : nullptr;
    float* const dw = written->add<float>(w_size);
    add(name, written, [=, on = device_] {
      conv_forward(on, g, x->data(), w->data(), bias->data(), y);
      if (dx != nullptr) conv_backward_input(on, g, dy->data(), w->data(), dx, false);
      conv_backward_weight(on, g, x->data(), dy->data(), dw, false);
    });
  }

  void activated_convolution() {
    conv_geometry const g{batch_, 28, 28, 192, 192, 3, 3, 1, 1, 8};
    std::size_t const size = g.batch * 784 * 192;
    auto const x = input<T>(size), w = input<T>(g.out_channels * g.taps()), dy = input<T>(size), z = input<T>(size);
    auto const written = std::make_shared<results>();
    T* const y = written->add<T>(size);
    T* const activated = written->add<T>(size);
    T* const dz = written->add<T>(size);
    add("grouped convolution with gelu", written, [=, on = device_] {
      conv_forward_gelu(on, g, x->data(), w->data(), nullptr, y, activated);
      conv_backward_input_gelu(on, g, dy->data(), w->data(), z->data(), dz);
    });
  }

  /// y = x W^T by the card's library and with every epilogue, and the gradients of x and W.
  void products(char const* sizes, std::size_t rows, std::size_t in, std::size_t out) {
    auto const x = input<T>(rows * in), w = input<T>(out * in), z = input<T>(rows * out), old = input<T>(rows * out);
    auto const bias = input<float>(out), kept = input<float>(batch_);
    auto const written = std::make_shared<results>();
    T *const y = written->add<T>(rows * out), *const biased = written->add<T>(rows * out), *const before = written->add<T>(rows * out),
             *const gelu = written->add<T>(rows * out), *const residual = written->add<T>(rows * out),
             *const slope = written->add<T>(rows * out), *const dx = written->add<T>(rows * in);
    float *const dw = written->add<float>(out * in), *const own_dw = written->add<float>(out * in);
    auto const rows_of_image = static_cast<std::uint32_t>(rows / batch_);
    add(concat("products ", sizes), written, [=, on = device_] {
      gemm_problem<T> const forward{rows, out, in, x->data(), in, false, w->data(), in, true, y, out};
      gemm(on, forward);
      gemm_with(on, forward, store_biased<T>{biased, out, bias->data()});
      gemm_with(on, forward, store_gelu<T, true, true>{gelu, out, before, bias->data()});
      gemm_with(on, forward,
                store_residual<T>{residual, old->data(), out, bias->data(), kept->data(), kernels::detail::divisor(rows_of_image)});
      gemm_gelu_gradient(on, gemm_problem<T>{rows, out, in, x->data(), in, false, w->data(), out, false, nullptr, out},
                         static_cast<T const*>(z->data()), slope);
      gemm(on, gemm_problem<T>{rows, in, out, z->data(), out, false, w->data(), in, false, dx, in});
      gemm_problem<T, float> weight{out, in, rows, z->data(), out, true, x->data(), in, false, dw, in};
      gemm(on, weight);
      weight.c = own_dw;
      gemm_own(on, weight);
    });
  }

  void normalise(char const* name, std::size_t rows, std::size_t channels) {
    auto const x = input<T>(rows * channels), dy = input<T>(rows * channels);
    auto const weight = input<float>(channels), bias = input<float>(channels);
    auto const written = std::make_shared<results>();
    auto const running = std::make_shared<memory>(2 * channels * sizeof(float));  // compared by nobody: they move on
    float *const mean = written->add<float>(channels), *const inverse_std = written->add<float>(channels),
                 *const dweight = written->add<float>(channels), *const dbias = written->add<float>(channels);
    T *const y = written->add<T>(rows * channels), *const dx = written->add<T>(rows * channels);
    add(name, written, [=, on = device_] {
      auto* const running_mean = static_cast<float*>(running->data());
      batch_norm_forward(on, rows, channels, x->data(), 1e-5f, 0.1, mean, inverse_std, running_mean, running_mean + channels,
                         weight->data(), bias->data(), y);
      batch_norm_backward(on, rows, channels, x->data(), dy->data(), mean, inverse_std, weight->data(), dx, dweight, dbias, false, false,
                          true);
    });
  }

  void normalise_rows(char const* name, std::size_t rows, std::size_t columns) {
    auto const x = input<T>(rows * columns), dy = input<T>(rows * columns);
    auto const weight = input<float>(columns), bias = input<float>(columns);
    auto const written = std::make_shared<results>();
    float *const mean = written->add<float>(rows), *const inverse_std = written->add<float>(rows),
                 *const dweight = written->add<float>(columns), *const dbias = written->add<float>(columns);
    T *const y = written->add<T>(rows * columns), *const dx = written->add<T>(rows * columns);
    add(name, written, [=, on = device_] {
      layer_norm_forward(on, rows, columns, 1e-5f, x->data(), weight->data(), bias->data(), y, mean, inverse_std);
      layer_norm_backward(on, rows, columns, x->data(), dy->data(), mean, inverse_std, weight->data(), dx, dweight, dbias, false, false);
    });
  }

  /// Softmax and cross-entropy of 64 classes with soft targets, which are float in every precision.
  void classify() {
    std::size_t const classes = 64, size = batch_ * classes;
    auto const logits = input<float>(size), targets = input<float>(size), row_scale = input<float>(batch_), dy = input<float>(size);
    auto const written = std::make_shared<results>();
    float *const y = written->add<float>(size), *const dx = written->add<float>(size), *const loss = written->add<float>(batch_),
                 *const probabilities = written->add<float>(size), *const d_logits = written->add<float>(size);
    add("softmax and cross-entropy", written, [=, rows = batch_, on = device_] {
      softmax_forward(on, rows, classes, logits->data(), y);
      softmax_backward(on, rows, classes, static_cast<float const*>(y), dy->data(), dx, false);
      cross_entropy_forward(on, rows, classes, logits->data(), nullptr, targets->data(), 0.1f, loss, probabilities);
      cross_entropy_backward(on, rows, classes, static_cast<float const*>(probabilities), nullptr, targets->data(), 0.1f,
                             row_scale->data(), d_logits, false);
    });
  }

  void add_up(char const* name, std::size_t rows, std::size_t columns) {
    auto const x = input<T>(rows * columns);
    auto const written = std::make_shared<results>();
    float* const out = written->add<float>(columns);
    add(name, written, [=, on = device_] { column_sum(on, rows, columns, x->data(), out, false); });
  }

  device device_{};
  std::string suffix_;
  std::size_t batch_;
  std::uint32_t seed_ = 0;
  std::vector<task> tasks_;
};

}  // namespace repeat
