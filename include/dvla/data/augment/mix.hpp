// Mixup (Zhang et al., ICLR 2018) and CutMix (Yun et al., ICCV 2019) on whole batches, as the published recipe uses them: one
// weight and one box a batch, the partner of an image is its mirror in the batch, targets are soft.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/data/image.hpp>
#include <dvla/rl/beta.hpp>

namespace dvla::inline DVLA_ABI {

/// How often a batch is mixed and how. An alpha of 0 switches that kind off; if both are on, CutMix is taken with
/// cutmix_share.
struct mix_settings {
  double probability = 1;
  double mixup_alpha = 0.3, cutmix_alpha = 1;
  double cutmix_share = 0.5;
};

/// What is done to a batch: weight is the share of an image's own label. With a box (height > 0) the box is exchanged with
/// the partner (CutMix); without, pixels are weight * own + (1 - weight) * partner (Mixup). Weight 1 changes nothing.
struct batch_mix {
  double weight = 1;
  pixel_box box{};

  [[nodiscard]] bool cuts() const { return box.height > 0 && box.width > 0; }
};

/// The box of CutMix: sides sqrt(1 - weight) of the image's, centre uniform, clipped at the borders; the weight is then the
/// share of the area that stays.
[[nodiscard]] inline batch_mix draw_cut(double weight, std::size_t height, std::size_t width, random_stream& random) {
  auto const side = [&](std::size_t size, std::size_t& begin) {
    auto const half = static_cast<std::size_t>(static_cast<double>(size) * std::sqrt(1 - weight)) / 2;
    std::size_t const centre = random.below(static_cast<std::uint32_t>(size));
    begin = centre - std::min(centre, half);
    return std::min(centre + half, size) - begin;
  };
  pixel_box box;
  box.height = side(height, box.top);
  box.width = side(width, box.left);
  if (box.height == 0 || box.width == 0) return {};
  return {1 - static_cast<double>(box.height * box.width) / static_cast<double>(height * width), box};
}

/// Draws what happens to a batch of height x width images; `random` is the stream (seed, mix, 0, step).
[[nodiscard]] inline batch_mix draw_mix(mix_settings const& settings, std::size_t height, std::size_t width,
                                        random_stream& random) {
  expect(settings.probability >= 0 && settings.probability <= 1 && settings.cutmix_share >= 0 && settings.cutmix_share <= 1,
         "mix: probability ", settings.probability, " and CutMix share ", settings.cutmix_share, "; expected numbers from 0 to 1");
  expect(settings.mixup_alpha >= 0 && settings.cutmix_alpha >= 0, "mix: alphas ", settings.mixup_alpha, " (Mixup) and ",
         settings.cutmix_alpha, " (CutMix); expected 0 (off) or positive numbers");
  expect(height > 0 && width > 0, "mix: images of ", height, "x", width, " pixels");
  bool const mixed = random.uniform() < settings.probability, share = random.uniform() < settings.cutmix_share;
  bool const mixup = settings.mixup_alpha > 0, cutmix = settings.cutmix_alpha > 0;
  if (!mixed || (!mixup && !cutmix)) return {};
  bool const cut = cutmix && (share || !mixup);
  double const alpha = cut ? settings.cutmix_alpha : settings.mixup_alpha;
  double const weight = beta_distribution<double>{alpha, alpha}.sample(random);
  return cut ? draw_cut(weight, height, width, random) : batch_mix{weight, {}};
}

/// Applies the mix to a batch of height x width x 3 images, in place. Throws unless the batch is a whole number of images.
inline void apply(batch_mix const& mix, std::size_t height, std::size_t width, std::span<float> batch) {
  std::size_t const size = height * width * 3;
  expect(size > 0 && batch.size() % size == 0, "mix: ", batch.size(), " floats are no whole number of ", height, "x", width,
         "x3 images");
  if (!mix.cuts() && mix.weight == 1) return;
  auto const own = static_cast<float>(mix.weight), other = static_cast<float>(1 - mix.weight);
  for (std::size_t i = 0, j = batch.size() / size; i + 1 < j; ++i) {
    float* const a = batch.data() + i * size;
    float* const b = batch.data() + --j * size;
    if (mix.cuts()) {
      for (std::size_t y = mix.box.top; y < mix.box.top + mix.box.height; ++y) {
        std::size_t const begin = (y * width + mix.box.left) * 3;
        std::swap_ranges(a + begin, a + begin + mix.box.width * 3, b + begin);
      }
    } else {
      for (std::size_t k = 0; k < size; ++k) {
        float const x = a[k], y = b[k];
        a[k] = own * x + other * y;
        b[k] = own * y + other * x;
      }
    }
  }
}

/// Targets (labels x classes): smoothed one-hot rows (1 - s + s/C on the label, s/C elsewhere), mixed with the partner's row by
/// the mix's weight. Rows sum to 1. Throws for a label outside the classes or a target of the wrong size.
inline void soft_targets(std::span<std::uint32_t const> labels, std::size_t classes, double smoothing, batch_mix const& mix,
                         std::span<float> out) {
  expect(smoothing >= 0 && smoothing < 1, "soft targets: a label smoothing of ", smoothing, "; expected 0 <= smoothing < 1");
  expect(out.size() == labels.size() * classes, "soft targets: ", out.size(), " floats for ", labels.size(), " labels of ", classes,
         " classes");
  double const off = classes > 0 ? smoothing / static_cast<double>(classes) : 0;
  std::fill(out.begin(), out.end(), static_cast<float>(off));
  for (std::size_t i = 0; i < labels.size(); ++i) {
    std::size_t const label = labels[i], partner = labels[labels.size() - 1 - i];
    expect(label < classes && partner < classes, "soft targets: label ", std::max(label, partner), " of ", classes, " classes");
    auto const row = out.subspan(i * classes, classes);
    row[label] = static_cast<float>(off + mix.weight * (1 - smoothing));
    row[partner] = static_cast<float>(off + (label == partner ? 1 : 1 - mix.weight) * (1 - smoothing));
  }
}

}  // namespace dvla::inline DVLA_ABI
