// A small network whose result for an image does not depend on the rest of the batch, and another with BatchNorm, to compare
// training by several processes with training by one; and batches for them.
#pragma once

#include <vector>

#include <dvla/autodiff/convert.hpp>
#include <dvla/autodiff/rearrange.hpp>
#include <dvla/data/epoch_order.hpp>
#include <dvla/nn/drop_path.hpp>
#include <dvla/nn/layers.hpp>

namespace plain {

inline constexpr std::size_t side = 8, pixels = side * side * 3, classes = 5, images = 80, batch = 16;

struct layout {
  std::size_t image = side;
};

/// Norm is over 32 columns: nn::layer_norm<32> or nn::batch_norm<32>.
template <class Norm>
struct classifier {
  static constexpr layout config{};
  dvla::nn::linear<pixels, 32> enter;
  Norm norm;
  dvla::nn::projection<32, 32> branch;
  dvla::nn::linear<32, classes> head;
  static constexpr auto members =
      dvla::fields("enter", &classifier::enter, "norm", &classifier::norm, "branch", &classifier::branch, "head", &classifier::head);

  auto operator()(auto const& x) const {
    auto const rows = dvla::reshape(dvla::as_activations(x), dvla::shape<dvla::dyn, pixels>(x.shape()[0]));
    auto const hidden = dvla::evaluate(dvla::tanh(enter(rows)));
    auto const joined = dvla::nn::residual(hidden, branch(norm(hidden)), 0.3);
    return dvla::evaluate(head(dvla::convert<float>(joined)));
  }
};

using with_layer_norm = classifier<dvla::nn::layer_norm<32>>;
using with_batch_norm = classifier<dvla::nn::batch_norm<32>>;

/// A process's share of drawn images of five classes, repeated twice in a batch, as batch_loader gives it.
class batches {
 public:
  struct prepared {
    std::uint64_t step = 0;
    std::vector<std::uint32_t> labels;
    std::vector<float> pixels;
  };

  explicit batches(dvla::batch_share const& share) : order_({images, batch, 2, true, 3, share}) {}
  [[nodiscard]] std::size_t steps_per_epoch() const { return order_.steps_per_epoch(); }
  [[nodiscard]] prepared const& next() {
    now_ = {step_, {}, {}};
    auto const indices = order_.batch(step_);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      now_.labels.push_back(static_cast<std::uint32_t>(indices[i] % classes));
      dvla::random_stream random(7, dvla::draw::augment, static_cast<std::uint32_t>(order_.share().place(i, indices.size())), step_);
      for (std::size_t p = 0; p < pixels; ++p)
        now_.pixels.push_back(static_cast<float>((p % classes == indices[i] % classes ? 1 : 0) + 0.5 * random.normal()));
    }
    ++step_;
    return now_;
  }

 private:
  dvla::epoch_order order_;
  std::uint64_t step_ = 0;
  prepared now_;
};

}  // namespace plain
