// Augmentation on the card against the CPU's, for the same draws: bytes, mixes, targets, and the loaders on top.
#include <doctest/doctest.h>

#include <dvla/data/cuda/device_loader.cuh>
#include <dvla/data/cuda/host_loader.cuh>

#include <cmath>
#include <string>

#include "device_buffer.hpp"

namespace {

using dvla::precision;

/// A picture with slopes, edges and some noise; a function of its size and number.
dvla::image picture(std::size_t height, std::size_t width, std::uint32_t number) {
  dvla::image out(height, width);
  dvla::random_stream random(99, dvla::draw::test, number, 0);
  double const slope[3] = {random.uniform(-6, 6), random.uniform(-6, 6), random.uniform(-2, 2)};
  std::size_t const edge = random.below(static_cast<std::uint32_t>(width));
  for (std::size_t y = 0; y < height; ++y)
    for (std::size_t x = 0; x < width; ++x)
      for (std::size_t c = 0; c < 3; ++c) {
        double const wave = 90 * std::sin((slope[c] * static_cast<double>(x) + slope[(c + 1) % 3] * static_cast<double>(y)) / 20);
        double const value = 110 + wave + (x < edge ? 30 : -20) + random.uniform(-12, 12);
        out.row(y)[x * 3 + c] = static_cast<std::uint8_t>(std::clamp(value, 0.0, 255.0));
      }
  return out;
}

/// Pictures in memory with the labels 0, 1, 2, 0, ...
struct pictures {
  std::vector<dvla::image> images;

  pictures(std::size_t count, std::size_t height, std::size_t width) {
    for (std::uint32_t i = 0; i < count; ++i) images.push_back(picture(height, width, i));
  }
  [[nodiscard]] std::size_t size() const { return images.size(); }
  [[nodiscard]] std::uint32_t label(std::size_t i) const { return static_cast<std::uint32_t>(i % 3); }
  [[nodiscard]] dvla::image const& read(std::size_t i, dvla::image&) const { return images[i]; }
};

/// What load_batch gives.
std::vector<float> on_the_host(pictures const& source, std::vector<std::uint32_t> const& indices, std::uint64_t step,
                               dvla::preprocessing const& how, dvla::augmentation const& what, std::uint64_t seed) {
  std::vector<float> out(indices.size() * how.size());
  for (std::size_t p = 0; p < indices.size(); ++p) {
    dvla::random_stream random(seed, dvla::draw::augment, static_cast<std::uint32_t>(p), step);
    auto const& image = source.images[indices[p]];
    auto const drawn = dvla::draw_augmentation(what, how, image.height, image.width, random);
    dvla::apply(image, how, drawn, std::span(out).subspan(p * how.size(), how.size()));
  }
  return out;
}

/// The share of elements that are not equal to a hundredth of a grey level, and as X; 1 for another number of elements.
template <class X>
double share_different(std::vector<X> const& x, std::vector<float> const& expected, dvla::preprocessing const& how) {
  if (x.size() != expected.size() || x.empty()) return 1;
  double different = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    double const level = 255 * static_cast<double>(how.statistics.deviation[i % 3]);
    double const rounding = std::is_same_v<X, float> ? 0 : std::abs(static_cast<double>(expected[i])) / 256 * level;
    different += !(std::abs(as_double(x[i]) - static_cast<double>(expected[i])) * level <= 0.01 + rounding);
  }
  return different / static_cast<double>(x.size());
}

/// A rounding that falls on an edge may move a byte in a great many.
constexpr double few = 1e-5;

template <class X, precision P>
void compare(char const* name, std::size_t height, std::size_t width, dvla::preprocessing const& how,
             dvla::augmentation const& what, std::size_t count) {
  CAPTURE(name);
  CAPTURE(height);
  CAPTURE(how.image);
  pictures const source(std::min<std::size_t>(count, 7), height, width);
  std::vector<std::uint32_t> indices;
  for (std::size_t i = 0; i < count; ++i) indices.push_back(static_cast<std::uint32_t>((i * 5) % source.size()));
  dvla::resident_images<X, P> const images(dvla::basic_cuda<P>{}, source, how, what, 17);
  device_buffer<X> out(count * how.size()), again(count * how.size() + 1);
  images.load(indices, 3, out.data());
  images.load(indices, 3, again.data() + 1);  // at an odd address
  auto const made = out.get();
  CHECK(share_different(made, on_the_host(source, indices, 3, how, what, 17), how) <= few);
  auto shifted = again.get();
  shifted.erase(shifted.begin());
  CHECK(same_bits(made, shifted));
  CHECK(out.intact());
  CHECK(again.intact());
}

dvla::preprocessing inputs(std::size_t side) { return dvla::evaluation_preprocessing("imagenet", side); }

dvla::augmentation every_operation() {
  dvla::augmentation out;
  out.operations = dvla::rand_augment{4, 1, 9, 0.5};
  return out;
}

dvla::augmentation everything() {
  auto out = dvla::training_augmentation("published", 0.2);
  out.jitter = {0.4, 0.4, 0.4};
  out.erasing = dvla::random_erasing{0.6};
  return out;
}

template <class T>
std::vector<T> fetched(T const* from, std::size_t count) {
  std::vector<T> host(count);
  dvla::kernels::cuda_memory::copy_bytes(host.data(), from, count * sizeof(T));
  return host;
}

/// The batch of a step as batch_loader and pretrainer make it.
struct expected_batch {
  std::vector<std::uint32_t> indices, labels;
  std::vector<float> pixels, targets;
};

expected_batch batch_of_step(pictures const& source, dvla::epoch_order order, dvla::preprocessing const& how,
                             dvla::augmentation const& what, dvla::device_batch_settings const& s, std::uint64_t step) {
  expected_batch out;
  out.indices = order.batch(step);
  for (auto const i : out.indices) out.labels.push_back(source.label(i));
  out.pixels = on_the_host(source, out.indices, step, how, what, s.seed);
  dvla::random_stream random(s.seed, dvla::draw::mix, 0, step);
  auto const mix = dvla::draw_mix(s.mix, how.image, how.image, random);
  dvla::apply(mix, how.image, how.image, out.pixels);
  out.targets.resize(out.labels.size() * s.classes);
  dvla::soft_targets(out.labels, s.classes, s.label_smoothing, mix, out.targets);
  return out;
}

double largest_difference(std::vector<float> const& x, std::vector<float> const& expected) {
  if (x.size() != expected.size()) return 1e30;
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    double const d = std::abs(static_cast<double>(x[i]) - static_cast<double>(expected[i]));
    largest = d <= largest ? largest : d;  // a NaN stays
  }
  return largest;
}

std::string message_of_loading(pictures const& source) {
  try {
    dvla::resident_images<float>(dvla::cuda{}, source, inputs(8), {}, 1);
  } catch (dvla::error const& e) {
    return e.what();
  }
  return {};
}

}  // namespace

TEST_CASE("resizing, cropping and flipping give the CPU's bytes") {
  dvla::augmentation flipped, bordered, cropped, bilinear;
  flipped.flip = 0.5;
  bordered.border = 4;
  bordered.flip = 0.5;
  cropped.resized_crop = dvla::random_resized_crop{};
  cropped.flip = 0.5;
  bilinear.resized_crop = dvla::random_resized_crop{};
  bilinear.resized_crop_kernel = dvla::interpolation::bilinear;
  for (auto const& [height, width] : {std::pair{32, 32}, {84, 84}, {33, 47}}) {
    auto const h = static_cast<std::size_t>(height), w = static_cast<std::size_t>(width);
    for (std::size_t const side : {32u, 84u, 33u}) {
      compare<float, precision::f32>("plain", h, w, inputs(side), {}, 3);
      compare<float, precision::f32>("flip", h, w, inputs(side), flipped, 5);
      compare<float, precision::f32>("short side", h, w, dvla::evaluation_preprocessing("imagenet-short", side), flipped, 5);
      compare<float, precision::f32>("border", h, w, dvla::evaluation_preprocessing("cifar", side), bordered, 9);
      compare<float, precision::f32>("resized crop", h, w, inputs(side), cropped, 9);
      compare<float, precision::f32>("bilinear crop", h, w, inputs(side), bilinear, 5);
    }
  }
  compare<float, precision::f32>("resized crop", 32, 32, inputs(224), cropped, 4);
  compare<float, precision::f32>("tiny", 5, 7, inputs(3), cropped, 4);
  compare<float, precision::f32>("one pixel", 1, 1, inputs(1), flipped, 2);
}

TEST_CASE("images larger than a block's memory are made in bands, and outputs larger than it in the card's") {
  dvla::augmentation cropped = every_operation();
  cropped.resized_crop = dvla::random_resized_crop{};
  compare<float, precision::f32>("bands", 600, 500, inputs(224), {}, 2);
  compare<float, precision::f32>("bands", 600, 500, inputs(224), cropped, 3);
  compare<float, precision::f32>("large", 33, 47, inputs(300), cropped, 4);
  dvla::augmentation bordered;
  bordered.border = 100;
  compare<float, precision::f32>("bands in a black border", 400, 300, {224, 240}, bordered, 4);
}

TEST_CASE("colour jitter and every operation of RandAugment give the CPU's bytes") {
  dvla::augmentation jittered;
  jittered.jitter = {0.4, 0.6, 0.9};
  compare<float, precision::f32>("jitter", 33, 47, inputs(84), jittered, 12);
  compare<float, precision::f32>("jitter", 32, 32, inputs(33), jittered, 12);
  compare<float, precision::f32>("operations", 32, 32, dvla::evaluation_preprocessing("cifar", 32), every_operation(), 64);
  compare<float, precision::f32>("operations", 33, 47, inputs(33), every_operation(), 40);
  compare<float, precision::f32>("operations", 84, 84, inputs(84), every_operation(), 40);
  compare<float, precision::f32>("operations", 32, 32, inputs(224), every_operation(), 12);
}

TEST_CASE("erasing gives the CPU's noise, and everything together the CPU's inputs, also as bfloat16") {
  dvla::augmentation erased;
  erased.erasing = dvla::random_erasing{1};
  compare<float, precision::f32>("erasing", 32, 32, inputs(32), erased, 8);
  compare<float, precision::f32>("erasing", 84, 84, inputs(33), erased, 8);
  compare<float, precision::f32>("everything", 33, 47, inputs(84), everything(), 24);
  compare<dvla::bfloat16, precision::bf16>("everything", 32, 32, inputs(33), everything(), 16);
  compare<dvla::bfloat16, precision::bf16>("everything", 32, 32, inputs(224), everything(), 9);
}

TEST_CASE("the device loader's batches are those of the host: pixels, mixes and targets, from any step") {
  pictures const source(23, 32, 32);
  auto const how = inputs(33);
  auto const what = everything();
  for (auto const& mix : {dvla::mix_settings{1, 0.3, 0}, dvla::mix_settings{1, 0, 1}, dvla::mix_settings{}, dvla::mix_settings{0}})
    for (auto const& [batch, repeats] : {std::pair{6, 2}, {5, 1}}) {
      dvla::epoch_order const order({source.size(), static_cast<std::size_t>(batch), static_cast<std::size_t>(repeats), false, 7});
      dvla::device_batch_settings const settings{4, mix, 0.1, 7, 2};
      dvla::device_loader<float> loader(dvla::cuda{}, source, order, how, what, settings);
      float const* const pixels = loader.pixels();
      for (std::uint64_t step = 2; step < 9; ++step) {
        auto const& made = loader.next();
        auto const expected = batch_of_step(source, order, how, what, settings, step);
        CHECK(made.step == step);
        CHECK(made.indices == expected.indices);
        CHECK(made.labels == expected.labels);
        CHECK(made.pixels == pixels);
        CHECK(share_different(fetched(made.pixels, expected.pixels.size()), expected.pixels, how) <= few);
        CHECK(largest_difference(fetched(made.targets, expected.targets.size()), expected.targets) <= 1e-6);
      }
    }
}

TEST_CASE("episodes load any images while batches go on") {
  pictures const source(23, 32, 32);
  auto const how = inputs(32);
  dvla::epoch_order const order({source.size(), 4, 1, true, 7});
  dvla::device_loader<float> loader(dvla::cuda{}, source, order, how, everything(), {3, {}, 0.1, 7});
  for (std::size_t const count : {1u, 9u, 30u, 2u}) {
    (void)loader.next();
    std::vector<std::uint32_t> indices;
    for (std::size_t i = 0; i < count; ++i) indices.push_back(static_cast<std::uint32_t>((i * 11) % 23));
    device_buffer<float> out(count * how.size());
    loader.load(indices, 40 + count, out.data());
    CHECK(share_different(out.get(), on_the_host(source, indices, 40 + count, how, everything(), 7), how) <= few);
  }
  CHECK((loader.images().images_per_class() == std::vector<std::size_t>{8, 8, 7}));
}

TEST_CASE("a set of different sizes is refused, naming the image, and so are labels without a class") {
  pictures source(4, 8, 9);
  source.images[2] = picture(9, 8, 2);
  auto const message = message_of_loading(source);
  CHECK(message.find("image 2: the image has 9x8 pixels, but the first one 8x9") != std::string::npos);
  CHECK(message.find("host_loader") != std::string::npos);
  pictures const even(4, 8, 8);
  auto const with_two_classes = [&] {
    dvla::device_loader<float>(dvla::cuda{}, even, dvla::epoch_order({4, 2}), inputs(8), {}, {2});
  };
  CHECK_THROWS_AS(with_two_classes(), dvla::error);
}

namespace {

/// Stands in for a batch_loader; throws at one step.
struct prepared_batches {
  struct batch {
    std::uint64_t step;
    std::vector<std::uint32_t> indices, labels;
    std::vector<float> pixels;
  };
  pictures const& source;
  dvla::epoch_order order;
  dvla::preprocessing how;
  std::uint64_t step, last;
  batch current{};

  [[nodiscard]] std::size_t steps_per_epoch() const { return order.steps_per_epoch(); }
  batch const& next() {
    if (step == last) dvla::fail("no more batches");
    current.step = step++;
    current.indices = order.batch(current.step);
    current.labels.clear();
    for (auto const i : current.indices) current.labels.push_back(source.label(i));
    current.pixels = on_the_host(source, current.indices, current.step, how, everything(), 7);
    return current;
  }
};

template <class X, precision P>
void compare_host_loader() {
  pictures const source(23, 20, 22);
  auto const how = inputs(16);
  dvla::epoch_order const order({source.size(), 5, 1, false, 7});
  dvla::device_batch_settings const settings{3, {}, 0.1, 7};
  prepared_batches batches{source, order, how, 1, 12};
  dvla::host_loader<X, prepared_batches, P> loader(dvla::basic_cuda<P>{}, batches, how.image, settings);
  CHECK(loader.steps_per_epoch() == 5);
  for (std::uint64_t step = 1; step < 12; ++step) {
    auto const& made = loader.next();
    auto const expected = batch_of_step(source, order, how, everything(), settings, step);
    CHECK(made.step == step);
    CHECK(made.labels == expected.labels);
    std::vector<X> rounded(expected.pixels.begin(), expected.pixels.end());
    dvla::basic_cuda<P>{}.queue->wait();
    CHECK(share_different(fetched(made.pixels, rounded.size()), expected.pixels, how) == 0);
    CHECK(fetched(made.targets, expected.targets.size()) == expected.targets);
  }
  for (int repeat = 0; repeat < 2; ++repeat) CHECK_THROWS_WITH_AS((void)loader.next(), "no more batches", dvla::error);
}

}  // namespace

TEST_CASE("the host loader's batches arrive in order, mixed, and an error arrives at its step") {
  compare_host_loader<float, precision::f32>();
  compare_host_loader<dvla::bfloat16, precision::bf16>();
  pictures const source(9, 20, 22);
  prepared_batches batches{source, dvla::epoch_order({9, 4, 1, true, 7}), inputs(16), 0, 100};
  { dvla::host_loader<float, prepared_batches> unread(dvla::cuda{}, batches, 16, {3}); }
}
