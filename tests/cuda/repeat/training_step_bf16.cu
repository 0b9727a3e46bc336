// Gradients of Visformer-Tiny 224 in bfloat16, always of the same weights and images with the same samples dropped.
#include <dvla/cuda.hpp>
#include <dvla/models/visformer.hpp>

#include "repeated.hpp"

namespace repeat {
namespace {

using device = basic_cuda<precision::bf16>;
using images_224 = shape<dyn, 224, 224, 3>;

class training_step {
 public:
  explicit training_step(std::size_t batch)
      : images_(device_.stream(), batch * 224 * 224 * 3, 1), batch_(batch), loss_(written_->add<float>(1)) {
    gradients_ = written_->add<float>(weights_.gradients().size());
    initialise(net_, 1);
    net_.drop_path(0.5);
    tape_.training(true);
    std::vector<std::uint32_t> labels(batch);
    for (std::size_t i = 0; i < batch; ++i) labels[i] = static_cast<std::uint32_t>(i % 64);
    labels_ = tape_.constant(labels);
  }
  [[nodiscard]] std::shared_ptr<results> const& written() const { return written_; }

  void run() {
    recorded_.run(device_, 0, [&] {
      tape_.begin_step(1, 0);
      weights_.zero_gradients();
      auto const loss = cross_entropy(net_(tape_(view<float const, images_224, contiguous, device>(images_.data(), images_224(batch_)))),
                                      labels_, 0.1);
      copy(device_, 1, static_cast<float const*>(loss.data_pointer()), loss_);
      tape_.backward(loss);
      copy(device_, weights_.gradients().size(), static_cast<float const*>(weights_.gradients().data()), gradients_);
    });
  }

 private:
  device device_{};
  visformer<visformer_tiny_224> net_{64};
  parameters<float, device> weights_{net_, device_};
  tape<device> tape_{device_};
  replay<device> recorded_;
  drawn<float> images_;
  std::size_t batch_;
  std::shared_ptr<results> written_ = std::make_shared<results>();
  std::uint32_t const* labels_ = nullptr;
  float* loss_;
  float* gradients_ = nullptr;
};

}  // namespace
}  // namespace repeat

repeat::task repeat::training_step_bf16(std::size_t batch) {
  auto const step = std::make_shared<training_step>(batch);
  return {concat("training step bf16, batch ", batch), step->written(), [step] { step->run(); }};
}
