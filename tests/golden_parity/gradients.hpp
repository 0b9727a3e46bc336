// Comparison of a model's gradients and trained state with the pairs (norm, projection) of a golden file.
#pragma once

#include <algorithm>

#include "formula.hpp"
#include "report.hpp"

namespace parity {

/// The largest gradient norm of the file.
[[nodiscard]] inline double largest_gradient(golden_file const& golden) {
  double largest = 0;
  for (auto const& t : golden.tensors().tensors())
    if (t.name.starts_with("grad.")) largest = std::max(largest, golden.values(t.name)[0]);
  return largest;
}

/// One gradient against its stored pair; a reference of exactly zero is analytically zero and has an absolute bound.
template <class T>
void compare_gradient(report& found, golden_file const& golden, std::string const& name, T const* gradient, dvla::archive_layout const& layout,
                      double largest) {
  auto const reference = golden.values("grad." + name + ".norm_proj");
  auto const computed = norm_and_projection(gradient, layout, golden.sequence("proj:" + name));
  auto const& b = bounds_of<T>;
  if (reference[0] == 0) found.add("zero gradients", name, computed[0] / largest, b.zero);
  else found.add("gradients", name, relative_error(computed, reference, b.gradient_floor * largest), b.gradient);
}

/// All gradients of a model.
template <class T>
void compare_gradients(report& found, golden_file const& golden, dvla::parameters<T> const& weights) {
  double const largest = largest_gradient(golden);
  for (auto const& e : weights.entries()) {
    if (e.kind != dvla::role::weight || !golden.has("grad." + e.name + ".norm_proj")) continue;
    compare_gradient(found, golden, e.name, weights.gradients().data() + e.offset, e.layout, largest);
  }
}

/// The state after training; a parameter whose gradient is analytically zero is compared in double only.
template <class T>
void compare_state(report& found, golden_file const& golden, dvla::parameters<T> const& weights) {
  for (auto const& e : weights.entries()) {
    std::string const name = "final." + e.name + ".norm_proj", gradient = "grad." + e.name + ".norm_proj";
    if (!golden.has(name)) continue;
    if (sizeof(T) == 4 && golden.has(gradient) && golden.values(gradient)[0] == 0) continue;
    auto const computed = norm_and_projection(weights.data(e), e.layout, golden.sequence("proj:" + e.name));
    found.add(e.kind == dvla::role::weight ? "trained weights" : "running statistics", e.name, relative_error(computed, golden.values(name)),
              bounds_of<T>.state);
  }
}

}  // namespace parity
