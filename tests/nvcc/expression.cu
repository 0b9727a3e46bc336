// An expression of the library as a CUDA kernel: bound on the host, passed by value, evaluated a number a thread. Exits with
// 77 where there is no device. What a device brings of its own is the 10 lines of one_lane.
#include <cmath>
#include <cstdio>
#include <vector>

#include <dvla/core/philox.hpp>
#include <dvla/expr/bind.hpp>
#include <dvla/expr/functions.hpp>

using namespace dvla;

/// A thread's single number, where the CPU's loops have a SIMD batch.
template <class T>
struct one_lane {
  using value_type = T;
  DVLA_HD T broadcast(T value) const { return value; }
  DVLA_HD T load(T const* from) const { return *from; }
  DVLA_HD T gather(T const* from, std::ptrdiff_t) const { return *from; }
  DVLA_HD void store(T* to, T value, std::ptrdiff_t = 1) const { *to = value; }
};

template <class T, class Expression, class Target>
__global__ void evaluate(std::size_t rows, std::size_t columns, __grid_constant__ Expression const expression,
                         __grid_constant__ Target const target) {
  std::size_t const i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x;
  if (i >= rows * columns) return;
  auto e = expression;
  auto out = target;
  std::array<std::size_t, 2> const row{i / columns, 0};
  e.seek(row), out.seek(row);
  out.write(one_lane<T>{}, i % columns, e.forward(one_lane<T>{}, i % columns).value);
}

void check(cudaError_t status) { expect(status == cudaSuccess, "CUDA: ", cudaGetErrorString(status)); }

/// Device memory holding a copy.
struct device_copy {
  float* data = nullptr;
  explicit device_copy(std::vector<float> const& host) {
    check(cudaMalloc(&data, host.size() * sizeof(float)));
    check(cudaMemcpy(data, host.data(), host.size() * sizeof(float), cudaMemcpyHostToDevice));
  }
  device_copy(device_copy const&) = delete;
  device_copy& operator=(device_copy const&) = delete;
  ~device_copy() { cudaFree(data); }
};

/// The largest error of gelu(x * scale + shift) + residual over rows of 197 columns.
double largest_error(std::size_t rows) {
  using matrix = shape<dyn, 197>;
  using vector = shape<197>;
  matrix const m(rows);
  std::vector<float> x(m.size()), residual(m.size()), scale(197), shift(197), y(m.size(), NAN);
  random_stream random(1, draw::test, 0, 0);
  for (auto* values : {&x, &residual, &scale, &shift})
    for (float& value : *values) value = static_cast<float>(random.uniform(-2, 2));
  device_copy const dx(x), dr(residual), ds(scale), dh(shift), dy(y);
  view<float const, matrix> const vx(dx.data, m), vr(dr.data, m);
  view<float const, vector> const vs(ds.data, {}), vh(dh.data, {});
  auto const expression = detail::forward_binder<float, 2>::bind(gelu(vx * vs + vh) + vr);
  bound::target<float, bound::inner::unit, 2> const target{dy.data, {197, 1}};
  evaluate<float><<<static_cast<unsigned>((m.size() + 255) / 256), 256>>>(rows, 197, expression, target);
  check(cudaGetLastError());
  check(cudaMemcpy(y.data(), dy.data, y.size() * sizeof(float), cudaMemcpyDeviceToHost));
  double worst = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    double const u = double{x[i]} * scale[i % 197] + shift[i % 197];
    double const error = std::abs(y[i] - (0.5 * u * (1 + std::erf(u * 0.70710678118654752)) + residual[i]));
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("no CUDA device: the kernel was compiled, not run");
    return 77;
  }
  for (std::size_t const rows : {1, 17, 4096}) {
    double const error = largest_error(rows);
    std::printf("%zu rows: largest error %.2g\n", rows, error);
    if (!(error <= 2e-6)) return 1;
  }
}
