// Expressions as kernels: every function and every way of reading a leaf against the same formula in double on the host.
#include <doctest/doctest.h>

#include <dvla/core/tensor.hpp>
#include <dvla/expr/assign.hpp>
#include <dvla/expr/functions.hpp>
#include <dvla/kernels/cuda/elementwise.cuh>

#include "device_buffer.hpp"

namespace {

using namespace dvla;

template <class T, class S>
using device_view = view<T, S, contiguous, cuda>;

/// Numbers that every function is defined and tame on.
template <class T>
std::vector<T> arguments(std::size_t size, std::uint64_t seed, double low, double high) {
  std::vector<T> out(size);
  random_stream random(seed, draw::test, 7, 0);
  for (T& x : out) x = static_cast<T>(static_cast<arithmetic_t<T>>(random.uniform(low, high)));
  return out;
}

/// The error of f(x, y), an expression of two tensors of `size` elements at an offset from alignment, against the same formula.
template <class T, class F, class G>
double error_of(std::size_t size, std::size_t offset, double low, double high, F const& expression, G const& formula) {
  device_buffer<T> const x(arguments<T>(size + offset, 1, low, high)), y(arguments<T>(size + offset, 2, low, high)),
      out(size + offset);
  using S = shape<dyn>;
  device_view<T const, S> const vx(x.data() + offset, S(size)), vy(y.data() + offset, S(size));
  assign(device_view<T, S>(out.data() + offset, S(size)), expression(vx, vy), cuda{});
  auto const hx = x.get(), hy = y.get(), found = out.get();
  CHECK(out.intact());
  std::vector<double> expected(size);
  for (std::size_t i = 0; i < size; ++i) expected[i] = formula(as_double(hx[offset + i]), as_double(hy[offset + i]));
  return relative_error(std::vector<T>(found.begin() + static_cast<std::ptrdiff_t>(offset), found.end()), expected);
}

template <class T>
constexpr double tolerance = sizeof(T) == 8   ? 1e-14
                             : sizeof(T) == 4 ? 1e-6
                                              : 4e-3;

template <class T, class F, class G>
void check(F const& expression, G const& formula, double low = 0.1, double high = 2) {
  for (std::size_t const size : {1u, 3u, 17u, 49u, 196u, 197u, 100003u})
    for (std::size_t const offset : {0u, 1u}) CHECK(error_of<T>(size, offset, low, high, expression, formula) <= tolerance<T>);
}

double normal_distribution(double x) { return 0.5 * (1 + std::erf(x * 0.70710678118654752)); }

}  // namespace

TEST_CASE_TEMPLATE("Every function of an expression is that function on a card", T, float, double, bfloat16) {
  check<T>([](auto x, auto y) { return x + y; }, [](double x, double y) { return x + y; }, -2);
  check<T>([](auto x, auto y) { return x * y - 3.0; }, [](double x, double y) { return x * y - 3; }, -2, -1);
  check<T>([](auto x, auto y) { return x / y; }, [](double x, double y) { return x / y; });
  check<T>([](auto x, auto) { return -x; }, [](double x, double) { return -x; });
  check<T>([](auto x, auto) { return exp(x); }, [](double x, double) { return std::exp(x); }, -3, 3);
  check<T>([](auto x, auto) { return log(x + 2.0); }, [](double x, double) { return std::log(x + 2); });
  check<T>([](auto x, auto) { return sqrt(x); }, [](double x, double) { return std::sqrt(x); });
  check<T>([](auto x, auto) { return rsqrt(x); }, [](double x, double) { return 1 / std::sqrt(x); });
  check<T>([](auto x, auto) { return square(x); }, [](double x, double) { return x * x; }, -2);
  check<T>([](auto x, auto) { return abs(x); }, [](double x, double) { return std::abs(x); }, -2);
  check<T>([](auto x, auto) { return tanh(x); }, [](double x, double) { return std::tanh(x); }, -3, 3);
  check<T>([](auto x, auto) { return sigmoid(x); }, [](double x, double) { return 1 / (1 + std::exp(-x)); }, -3, 3);
  check<T>([](auto x, auto) { return erf(x); }, [](double x, double) { return std::erf(x); }, -3, 3);
  check<T>([](auto x, auto) { return gelu(x); }, [](double x, double) { return x * normal_distribution(x); }, -3, 3);
  check<T>([](auto x, auto) { return relu(x); }, [](double x, double) { return std::max(x, 0.0); }, -2);
  check<T>([](auto x, auto y) { return pow(x, y); }, [](double x, double y) { return std::pow(x, y); });
  check<T>([](auto x, auto y) { return maximum(x, y) - minimum(x, y) * 0.5; },
           [](double x, double y) { return std::max(x, y) - std::min(x, y) * 0.5; }, -2);
  check<T>([](auto x, auto) { return clamp(x, -0.5, 0.5); }, [](double x, double) { return std::clamp(x, -0.5, 0.5); }, -2);
  check<T>([](auto x, auto y) { return select(x < y, x, 2.0 * y) + equal(x, x) + (x <= y); },
           [](double x, double y) { return (x < y ? x : 2 * y) + 1 + (x <= y ? 1 : 0); }, -2);
}

TEST_CASE_TEMPLATE("Leaves broadcast and may lie anywhere in memory", T, float, double, bfloat16) {
  for (std::size_t const columns : {1u, 3u, 17u, 96u, 197u}) {
    std::size_t const batch = 5, rows = 7, size = batch * rows * columns;
    device_buffer<T> const x(normal_numbers<T>(size, 1)), row(normal_numbers<T>(columns, 2)),
        map(normal_numbers<T>(rows * columns, 3)), image(normal_numbers<T>(batch, 4)), across(normal_numbers<T>(size, 5)),
        out(size);
    using S = shape<dyn, dyn, dyn>;
    S const s(batch, rows, columns);
    device_view<T const, S> const vx(x.data(), s), transposed_x(across.data(), S(batch, columns, rows));
    device_view<T const, shape<dyn>> const vrow(row.data(), shape<dyn>(columns));
    device_view<T const, shape<dyn, dyn>> const vmap(map.data(), shape<dyn, dyn>(rows, columns));
    device_view<T const, shape<dyn, 1, 1>> const vimage(image.data(), shape<dyn, 1, 1>(batch));
    assign(device_view<T, S>(out.data(), s), (vx * vrow + vmap) * vimage + transpose(transposed_x), cuda{});
    auto const hx = x.get(), hrow = row.get(), hmap = map.get(), himage = image.get(), hacross = across.get();
    std::vector<double> expected(size);
    for (std::size_t b = 0; b < batch; ++b)
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < columns; ++c) {
          std::size_t const i = (b * rows + r) * columns + c;
          expected[i] = (as_double(hx[i]) * as_double(hrow[c]) + as_double(hmap[r * columns + c])) * as_double(himage[b]) +
                        as_double(hacross[(b * columns + c) * rows + r]);
        }
    CHECK(out.intact());
    CHECK(relative_error(out.get(), expected) <= tolerance<T>);
  }
}

TEST_CASE_TEMPLATE("Row sums of an expression", T, float, double) {
  for (std::size_t const columns : {1u, 3u, 17u, 49u, 196u, 384u, 1537u})
    for (std::size_t const rows : {1u, 75u}) {
      device_buffer<T> const x(normal_numbers<T>(rows * columns, 1)), out(rows);
      using S = shape<dyn, dyn>;
      device_view<T const, S> const vx(x.data(), S(rows, columns));
      auto const bound_expression = detail::forward_binder<T, 2>::bind(square(as_expression(vx)) + 1.0);
      row_sum(cuda{}, std::array{rows, columns}, bound_expression, T(0.5), out.data());
      auto const hx = x.get();
      std::vector<double> expected(rows, 0);
      for (std::size_t i = 0; i < hx.size(); ++i) expected[i / columns] += 0.5 * (as_double(hx[i]) * as_double(hx[i]) + 1);
      CHECK(out.intact());
      CHECK(relative_error(out.get(), expected) <= tolerance<T>);
      auto const first = out.get();
      row_sum(cuda{}, std::array{rows, columns}, bound_expression, T(0.5), out.data());
      CHECK(same_bits(first, out.get()));
    }
}
