// Comparison of a model's gradients and trained state with the pairs (norm, projection) of a golden file.
#pragma once

#include <algorithm>

#include "formula.hpp"
#include "report.hpp"

namespace parity {

/// The largest gradient norm of the file.
[[nodiscard]] inline double largest_gradient(golden_file const& golden) {
  double largest = 0;
  for (auto const& t : golden.tensors())
    if (t.name.starts_with("grad.")) {
      golden.require(t.shape == tensor_shape{2}, "tensor '", t.name, "' is ", dvla::shape_text(t.shape), ", but must be (2)");
      largest = std::max(largest, dvla::read_as<double>(t)[0]);
    }
  return largest;
}

/// One gradient against its stored pair; a reference of exactly zero is analytically zero and has an absolute bound.
template <class T>
void compare_gradient(report& found, golden_file const& golden, std::string const& name, T const* gradient,
                      dvla::archive_layout const& layout, double largest) {
  auto const reference = golden.values("grad." + name + ".norm_proj", {2});
  auto const computed = norm_and_projection(gradient, layout, golden.sequence("proj:" + name));
  auto const& b = bounds_of<T>;
  // A policy's gradient is a difference of trigammas, of which nearly all cancels near p = 1/2. PyTorch's are 5e-10 off in double,
  // which leaves its own gradients up to 6e-9 off; with exact ones this library agrees to 4e-12.
  double const bound = name.starts_with("policy.") ? std::max(b.gradient, 1e-8) : b.gradient;
  if (reference[0] == 0)
    found.add("zero gradients", name, computed[0] / largest, b.zero);
  else
    found.add("gradients", name, relative_error(computed, reference, b.gradient_floor * largest), bound);
}

/// All gradients of a model; every one must be in the file, except those of parameters whose names begin with `unused`.
template <class T, class Device>
void compare_gradients(report& found, golden_file const& golden, dvla::parameters<T, Device> const& weights,
                       std::string_view unused = "") {
  double const largest = largest_gradient(golden);
  for (auto const& e : weights.entries()) {
    if (e.kind != dvla::role::weight || (!unused.empty() && e.name.starts_with(unused))) continue;
    compare_gradient(found, golden, e.name, weights.read_gradient(e).data(), e.layout, largest);
  }
}

/// The bound of running statistics after so many steps. A bias before BatchNorm has no gradient but rounding noise, which
/// AdamW turns into steps of up to its rate: after k steps it is k rates off, and the running mean has summed that up.
template <class T>
[[nodiscard]] double statistics_bound(std::size_t steps) {
  if (sizeof(T) == 8) return bounds_of<T>.state;
  double const n = static_cast<double>(steps), rates = n * (n - 1) / 2;
  return bounds_of<T>.state * std::max(1.0, rates / 3);  // given for three steps, which sum up 0 + 1 + 2 rates
}

/// The state after training; a parameter whose gradient is analytically zero is compared in double only.
template <class T, class Device>
void compare_state(report& found, golden_file const& golden, dvla::parameters<T, Device> const& weights, std::size_t steps) {
  for (auto const& e : weights.entries()) {
    bool const trained = e.kind == dvla::role::weight;
    auto const reference = golden.values("final." + e.name + ".norm_proj", {2});
    if (sizeof(T) == 4 && trained && golden.values("grad." + e.name + ".norm_proj", {2})[0] == 0) continue;
    auto const computed = norm_and_projection(weights.read(e).data(), e.layout, golden.sequence("proj:" + e.name));
    double const error = relative_error(computed, reference);
    if (trained)
      found.add("trained weights", e.name, error, bounds_of<T>.state);
    else
      found.add("running statistics", e.name, error, statistics_bound<T>(steps));
  }
}

}  // namespace parity
