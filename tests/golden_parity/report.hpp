// What a parity case found: a line a group of tensors, and whether all of them are within their bounds.
#pragma once

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace parity {

/// The bounds of one arithmetic type, as relative errors |x - reference| / |reference|.
struct bounds {
  double output, gradient, state, gradient_floor, zero;
};

template <class T>
inline constexpr bounds bounds_of = sizeof(T) == 8 ? bounds{1e-9, 1e-9, 1e-9, 1e-7, 1e-12} : bounds{2e-5, 2e-4, 5e-3, 1e-4, 1e-6};

template <class T>
inline constexpr char const* type_name = sizeof(T) == 8 ? "double" : "float";

/// |x - reference| / max(|reference|, floor), the L2 norms; infinity where a value is not a number.
template <class A>
double relative_error(A const& x, std::vector<double> const& reference, double floor = 0) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    double const d = static_cast<double>(x[i]) - reference[i];
    difference += d * d;
    norm += reference[i] * reference[i];
  }
  double const error = std::sqrt(difference) / std::max({std::sqrt(norm), floor, 1e-300});
  return error >= 0 ? error : HUGE_VAL;
}

/// The findings of one file in one type.
class report {
 public:
  report(std::string case_name, char const* type) : case_(std::move(case_name)), type_(type) {}

  /// One tensor of a group; the worst one of a group is printed. An error that is not a number counts as infinite.
  void add(std::string const& group, std::string const& tensor, double error, double bound) {
    if (!(error >= 0)) error = HUGE_VAL;
    for (auto& g : groups_)
      if (g.name == group) {
        g.count += 1;
        if (excess(error, bound) > excess(g.error, g.bound)) g.tensor = tensor, g.error = error, g.bound = bound;
        return;
      }
    groups_.push_back({group, tensor, error, bound, 1});
  }

  /// Prints a line a group; true if every one is within its bound.
  [[nodiscard]] bool print() const {
    bool all = !groups_.empty();
    if (!all) std::printf("%-32s %-6s FAILED: nothing to compare\n", case_.c_str(), type_);
    for (auto const& g : groups_) {
      bool const ok = g.error <= g.bound;
      all = all && ok;
      std::printf("%-32s %-6s %-24s error %.2e  bound %.0e  %s", case_.c_str(), type_, g.name.c_str(), g.error, g.bound, ok ? "ok" : "FAILED");
      if (g.count > 1) std::printf("  (%zu tensors, worst %s)", g.count, g.tensor.c_str());
      std::printf("\n");
    }
    return all;
  }

 private:
  struct group {
    std::string name, tensor;
    double error, bound;
    std::size_t count;
  };
  /// How far an error uses up its bound; one above a bound of zero is worse than any other.
  static double excess(double error, double bound) {
    if (bound > 0) return error / bound;
    return error > 0 ? HUGE_VAL : 0;
  }

  std::string case_;
  char const* type_;
  std::vector<group> groups_;
};

}  // namespace parity
