// Batch normalisation of rows in two parts on the card against the host's, which takes one part after the other, in double.
#include <doctest/doctest.h>

#include <vector>

#include <dvla/kernels/cpu/statistics.hpp>
#include <dvla/kernels/cuda/norm.cuh>

#include "placed.hpp"

using namespace dvla;
using namespace dvla::kernels;

namespace {

constexpr double eps = 1e-5;

struct parts_case {
  std::size_t rows, apart, columns;
};

// One block a part and many, parts of very different lengths, single columns, and more than one kernel takes.
std::vector<parts_case> parts_cases() {
  std::vector<parts_case> all = {{5, 2, 1}, {17, 3, 16}, {49, 47, 17}, {196, 49, 192}, {197, 2, 24}, {600, 300, 384}, {1500, 200, 1536}};
  if (!small_tests()) {
    all.insert(all.end(), {{25088, 1568, 192}, {62720, 3920, 96}, {300000, 17, 24}});
  }
  return all;
}

/// A case with its inputs, and how what the card makes of them compares.
template <class X>
class comparison {
 public:
  explicit comparison(parts_case const& c)
      : rows_(c.rows, c.apart),
        columns_(c.columns),
        x_(normal_numbers<X>(c.rows * c.columns, 1, 1.5, 0.7)),
        dy_(normal_numbers<X>(c.rows * c.columns, 2)),
        old_dx_(small_integers<X>(c.rows * c.columns, 3)),
        weight_(normal_numbers<A>(columns_, 4)),
        bias_(normal_numbers<A>(columns_, 5)),
        old_dweight_(small_integers<A>(columns_, 6)),
        old_dbias_(small_integers<A>(columns_, 7)) {
    // Another mean and spread, which statistics of all rows would show.
    for (std::size_t i = 0; i < c.apart * c.columns; ++i) x_[i] = static_cast<X>(static_cast<A>(2 * as_double(x_[i]) - 3));
  }

  void forward(std::size_t shift) {
    using doubles = std::vector<double>;
    std::size_t const two = 2 * columns_;
    doubles const x = as_doubles(x_), weight = as_doubles(weight_), bias = as_doubles(bias_);
    doubles mean(two), inverse(two), running_m(columns_, 0.5), running_v(columns_, 2), y(x.size());
    batch_norm_forward(cpu{}, rows_, columns_, x.data(), eps, 0.1, mean.data(), inverse.data(), running_m.data(), running_v.data(),
                       weight.data(), bias.data(), y.data());
    placed<X> const from(x_, shift), to(x_.size(), shift), in_place(x_, shift), rectified(x_.size(), shift);
    placed<A> const w(weight_, shift), b(bias_, shift);
    auto const run = [&](X const* source, X* target, bool relu) {
      placed<A> const m(two, shift), s(two, shift), rm(std::vector<A>(columns_, A(0.5)), shift), rv(std::vector<A>(columns_, A(2)), shift);
      auto const call = [&](auto const& function) {
        function(cuda{}, rows_, columns_, source, static_cast<A>(eps), 0.1, m.data(), s.data(), rm.data(), rv.data(), w.read(), b.read(),
                 target);
      };
      if (relu) call([](auto const&... all) { batch_norm_forward_relu(all...); });
      else call([](auto const&... all) { batch_norm_forward(all...); });
      CHECK(relative_error(m.get(), mean) <= bound<A>);
      CHECK(relative_error(s.get(), inverse) <= bound<A>);
      CHECK(relative_error(rm.get(), running_m) <= bound<A>);
      CHECK(relative_error(rv.get(), running_v) <= bound<A>);
      CHECK((m.intact() && s.intact() && rm.intact() && rv.intact()));
      mean_ = m.get(), inverse_ = s.get();
    };
    run(from.read(), to.data(), false);
    CHECK(relative_error(to.get(), y) <= bound<X>);
    run(in_place.read(), in_place.data(), false);
    CHECK(same_bits(in_place.get(), to.get()));
    run(from.read(), rectified.data(), true);
    for (double& v : y) v = v > 0 ? v : 0;
    CHECK(relative_error(rectified.get(), y) <= bound<X>);
    CHECK((to.intact() && in_place.intact() && rectified.intact()));
  }

  /// After forward(), with its statistics.
  void backward(bool accumulate, std::size_t shift) const {
    auto const x = as_doubles(x_), dy = as_doubles(dy_), m = as_doubles(mean_), s = as_doubles(inverse_), w = as_doubles(weight_);
    auto dx = as_doubles(old_dx_), dweight = as_doubles(old_dweight_), dbias = as_doubles(old_dbias_);
    batch_norm_backward(cpu{}, rows_, columns_, x.data(), dy.data(), m.data(), s.data(), w.data(), dx.data(), dweight.data(),
                        dbias.data(), accumulate, accumulate, true);
    auto const target = [&](auto const& old) {
      using E = typename std::remove_cvref_t<decltype(old)>::value_type;
      return accumulate ? placed<E>(old, shift) : placed<E>(old.size(), shift);
    };
    placed<X> const from(x_, shift), gradient(dy_, shift);
    placed<A> const mean(mean_, shift), inverse(inverse_, shift), weight(weight_, shift);
    std::vector<X> first;
    for (int again = 0; again < 2; ++again) {
      auto const to = target(old_dx_);
      auto const to_weight = target(old_dweight_), to_bias = target(old_dbias_);
      batch_norm_backward(cuda{}, rows_, columns_, from.read(), gradient.read(), mean.read(), inverse.read(), weight.read(), to.data(),
                          to_weight.data(), to_bias.data(), accumulate, accumulate, true);
      CHECK(relative_error(to.get(), dx) <= bound<X>);
      CHECK(relative_error(to_weight.get(), dweight) <= bound<A>);
      CHECK(relative_error(to_bias.get(), dbias) <= bound<A>);
      CHECK((to.intact() && to_weight.intact() && to_bias.intact()));
      if (again == 0) first = to.get();
      else CHECK(same_bits(to.get(), first));
    }
  }

 private:
  using A = arithmetic_t<X>;
  batch_rows rows_;
  std::size_t columns_;
  std::vector<X> x_, dy_, old_dx_;
  std::vector<A> weight_, bias_, old_dweight_, old_dbias_, mean_, inverse_;
};

}  // namespace

TEST_CASE_TEMPLATE("Rows that are normalised apart get the host's results and gradients", X, double, float, bfloat16) {
  for (auto const& c : parts_cases()) {
    CAPTURE(c.rows);
    CAPTURE(c.apart);
    CAPTURE(c.columns);
    comparison<X> compared(c);
    for (std::size_t const shift : {0, 1}) {
      compared.forward(shift);
      for (bool const accumulate : {false, true}) compared.backward(accumulate, shift);
    }
  }
}
