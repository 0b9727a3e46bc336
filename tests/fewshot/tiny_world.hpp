// A data set without files for training tests: blurred stripes, a direction and a colour a class, and a model that learns
// them in seconds.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <dvla/data/epoch_order.hpp>
#include <dvla/models/visformer.hpp>
#include <dvla/semantics/class_vectors.hpp>

namespace tiny {

inline constexpr dvla::visformer_config config{.image = 16,
                                               .stem_channels = 8,
                                               .stem_kernel = 3,
                                               .stem_stride = 1,
                                               .patch = {2, 2, 2},
                                               .dim = 16,
                                               .depth = {1, 1, 1},
                                               .heads = 2,
                                               .groups = 2};
inline constexpr std::size_t side = config.image, pixels = side * side * 3, classes = 6, per_class = 12;

/// Image i of the data set, noise and shift drawn from (i, step).
inline void paint(std::uint32_t i, std::uint64_t step, std::span<float> out) {
  std::size_t const label = i / per_class;
  dvla::random_stream random(7, dvla::draw::test, i, step);
  double const angle = 3.14159265 * static_cast<double>(label) / classes, phase = random.uniform(0, 6);
  for (std::size_t y = 0; y < side; ++y)
    for (std::size_t x = 0; x < side; ++x) {
      double const wave = std::sin(phase + std::cos(angle) * static_cast<double>(x) + std::sin(angle) * static_cast<double>(y));
      for (std::size_t c = 0; c < 3; ++c)
        out[(y * side + x) * 3 + c] = static_cast<float>(wave + (label % 3 == c ? 0.7 : 0) + 0.3 * random.normal());
    }
}

/// Batches for pre-training, as batch_loader gives them.
class batches {
 public:
  struct batch {
    std::uint64_t step = 0;
    std::vector<std::uint32_t> labels;
    std::vector<float> pixels;
  };

  explicit batches(std::uint64_t first_step) : order_({classes * per_class, 12, 1, true, 3}), step_(first_step) {}
  [[nodiscard]] std::size_t steps_per_epoch() const { return order_.steps_per_epoch(); }
  [[nodiscard]] batch const& next() {
    auto const indices = order_.batch(step_);
    now_ = {step_, {}, std::vector<float>(indices.size() * pixels)};
    for (std::size_t i = 0; i < indices.size(); ++i) {
      now_.labels.push_back(static_cast<std::uint32_t>(indices[i] / per_class));
      paint(indices[i], step_, std::span(now_.pixels).subspan(i * pixels, pixels));
    }
    if (spoilt) now_.pixels[0] = std::nanf("");
    ++step_;
    return now_;
  }

  bool spoilt = false;

 private:
  dvla::epoch_order order_;
  std::uint64_t step_;
  batch now_;
};

/// Images for episodes, as folder_images gives them.
struct images {
  bool augmented = true;
  [[nodiscard]] std::vector<std::size_t> images_per_class() const { return std::vector<std::size_t>(classes, per_class); }
  void load(std::span<std::uint32_t const> indices, std::uint64_t step, std::span<float> out) const {
    for (std::size_t i = 0; i < indices.size(); ++i) paint(indices[i], augmented ? step : 0, out.subspan(i * pixels, pixels));
  }
};

/// Two phrases and a description a class, of eight numbers.
[[nodiscard]] inline dvla::class_vectors vectors() {
  dvla::class_vectors out{2, 8, {}, {}};
  dvla::random_stream random(11, dvla::draw::test, 0, 0);
  for (std::size_t i = 0; i < classes * 2 * 8; ++i) out.local.push_back(static_cast<float>(random.normal()));
  for (std::size_t i = 0; i < classes * 8; ++i) out.global.push_back(static_cast<float>(random.normal()));
  return out;
}

}  // namespace tiny
