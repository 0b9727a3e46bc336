// What is trained to compare precisions: drawn pictures in a fixed order, and the losses of a run.
#pragma once

#include <cstdint>
#include <vector>

#include <dvla/data/epoch_order.hpp>

namespace curves {

inline constexpr std::size_t classes = 240, per_class = 60, side = 32, pixels = side * side * 3, batch = 128, steps = 1000;

/// The pictures of the drawn world, normalised, class by class.
struct pictures {
  std::vector<float> values;
  pictures();
};

/// Batches as a pretrainer takes them; their order is the same in every run.
class batches {
 public:
  struct batch_of {
    std::uint64_t step = 0;
    std::vector<std::uint32_t> labels{};
    std::vector<float> pixels{};
  };

  explicit batches(pictures const& all) : all_(&all), order_({classes * per_class, batch, 1, true, 1}) {}
  [[nodiscard]] std::size_t steps_per_epoch() const { return order_.steps_per_epoch(); }
  [[nodiscard]] batch_of const& next() {
    auto const indices = order_.batch(step_);
    now_.step = step_++;
    now_.labels.clear(), now_.pixels.clear();
    for (std::uint32_t const i : indices) {
      now_.labels.push_back(static_cast<std::uint32_t>(i / per_class));
      auto const begin = all_->values.begin() + static_cast<std::ptrdiff_t>(i * pixels);
      now_.pixels.insert(now_.pixels.end(), begin, begin + static_cast<std::ptrdiff_t>(pixels));
    }
    return now_;
  }

 private:
  pictures const* all_;
  dvla::epoch_order order_;
  std::uint64_t step_ = 0;
  batch_of now_;
};

/// The loss of every step of a run whose weights, and dropped samples, are drawn from `seed`.
std::vector<double> train_f32(pictures const& all, std::uint64_t seed);
std::vector<double> train_tf32(pictures const& all, std::uint64_t seed);
std::vector<double> train_bf16(pictures const& all, std::uint64_t seed);

}  // namespace curves
