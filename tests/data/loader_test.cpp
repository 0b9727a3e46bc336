// Preprocessing presets, and batches that are equal however they are loaded.
#include <doctest/doctest.h>

#include <dvla/core/thread_pool.hpp>
#include <dvla/data/loader.hpp>

#include <algorithm>
#include <cmath>
#include <memory>

#include "fixture.hpp"

using namespace dvla_test;

namespace {

/// Three classes of PNG noise images of 20 x 22 pixels: 5, 6 and 7 of them.
std::unique_ptr<scratch_folder> small_data_set() {
  auto folder = std::make_unique<scratch_folder>();
  for (std::uint32_t label = 0; label < 3; ++label)
    for (std::uint32_t i = 0; i < 5 + label; ++i)
      write_file(folder->path() / dvla::concat("class", label) / dvla::concat(i, ".png"),
                 dvla::encode_png(noise(20, 22, label * 100 + i)));
  return folder;
}

dvla::augmentation everything() {
  auto out = dvla::training_augmentation("pretrain", 0.3);
  out.erasing = dvla::random_erasing{0.5};
  return out;
}

dvla::preprocessing const small{16, 18, dvla::resize_rule::both_sides, dvla::interpolation::bilinear, dvla::cifar_statistics};

std::vector<dvla::image_batch> batches(dvla::image_source const& source, std::size_t workers, std::uint64_t first,
                                       std::size_t count) {
  dvla::batch_loader loader(source, dvla::epoch_order({source.size(), 6, 2, true, 3}), small, everything(), 41,
                            {workers, 2, first});
  std::vector<dvla::image_batch> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(loader.next());
  return out;
}

bool equal(std::vector<dvla::image_batch> const& a, std::vector<dvla::image_batch> const& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](auto const& x, auto const& y) {
    return x.step == y.step && x.indices == y.indices && x.labels == y.labels && x.pixels == y.pixels;
  });
}

}  // namespace

TEST_CASE("the evaluation presets have the published sizes") {
  auto const imagenet = dvla::evaluation_preprocessing("imagenet", 84);
  CHECK(imagenet.image == 84);
  CHECK(imagenet.resize == 96);
  CHECK(dvla::evaluation_preprocessing("imagenet", 224).resize == 256);
  CHECK(dvla::evaluation_preprocessing("imagenet-short", 224).resize == 246);
  auto const cifar = dvla::evaluation_preprocessing("cifar", 32);
  CHECK(cifar.resize == 32);
  CHECK(cifar.statistics.mean[0] == 0.5071f);
  CHECK(contains(message_of([] { (void)dvla::evaluation_preprocessing("mnist", 32); }), "\"mnist\" is not known"));
  CHECK(contains(message_of([] { (void)dvla::training_augmentation("strong"); }), "\"strong\" is not known"));
}

TEST_CASE("without augmentation an image is resized, centred and normalised") {
  auto const source = noise(37, 50);
  for (auto const* name : {"imagenet", "imagenet-short"}) {
    auto const how = dvla::evaluation_preprocessing(name, 21);
    auto const resized = how.rule == dvla::resize_rule::short_side ? dvla::resize_short_side(source, how.resize)
                                                                   : dvla::resize(source, how.resize, how.resize);
    std::vector<float> expected(how.size()), out(how.size());
    dvla::normalise(dvla::centre_crop(resized, 21, 21), dvla::imagenet_statistics, expected);
    dvla::apply(source, how, {}, out);
    CHECK((out == expected));
  }
  auto const cifar = noise(32, 32);
  CHECK((dvla::prepare_pixels(cifar, dvla::evaluation_preprocessing("cifar", 32), {}) == cifar));
}

TEST_CASE("each step of the augmentation is applied in its order") {
  auto const source = noise(40, 40);
  auto const how = dvla::evaluation_preprocessing("cifar", 32);
  dvla::random_stream random(1, dvla::draw::augment, 0, 0);
  auto const drawn = dvla::draw_augmentation(everything(), how, 40, 40, random);
  REQUIRE(drawn.crop.has_value());
  auto expected = dvla::resized_crop(source, *drawn.crop, 32, 32, dvla::interpolation::bicubic);
  if (drawn.flip) dvla::flip_horizontally(expected);
  dvla::apply(drawn.colours, expected);
  CHECK((dvla::prepare_pixels(source, how, drawn) == expected));

  dvla::augmentation bordered;
  bordered.border = 4;
  auto const shifted = dvla::draw_augmentation(bordered, how, 40, 40, random);
  REQUIRE(shifted.window.has_value());
  CHECK((dvla::prepare_pixels(source, how, shifted) == dvla::window_of(dvla::resize(source, 32, 32), *shifted.window, 32, 32)));
  bordered.resized_crop = dvla::random_resized_crop{};
  CHECK(contains(message_of([&] { (void)dvla::draw_augmentation(bordered, how, 40, 40, random); }), "choose one"));
  std::vector<float> out(7);
  CHECK(contains(message_of([&] { dvla::apply(source, how, {}, out); }), "7 floats for an input of 32x32x3"));
  CHECK(contains(message_of([&] { (void)dvla::prepare_pixels(source, {32, 31}, {}); }), "resize must be at least image"));
}

TEST_CASE("flips occur with their probability") {
  dvla::augmentation what;
  what.flip = 0.25;
  int flips = 0;
  for (std::uint32_t i = 0; i < 4000; ++i) {
    dvla::random_stream random(1, dvla::draw::augment, i, 0);
    flips += dvla::draw_augmentation(what, small, 8, 8, random).flip;
  }
  CHECK(std::abs(flips - 1000) <= 90);
}

TEST_CASE("an epoch shows every image once, each epoch in another order, and any step is known without the ones before") {
  dvla::epoch_order order({23, 5, 1, false, 9});
  CHECK(order.steps_per_epoch() == 5);
  std::vector<std::uint32_t> seen, again;
  for (std::uint64_t step = 0; step < 5; ++step) {
    auto const batch = order.batch(step);
    seen.insert(seen.end(), batch.begin(), batch.end());
  }
  for (std::uint64_t step = 5; step < 10; ++step) {
    auto const batch = order.batch(step);
    again.insert(again.end(), batch.begin(), batch.end());
  }
  CHECK(seen != again);
  std::sort(seen.begin(), seen.end());
  std::sort(again.begin(), again.end());
  CHECK(seen == again);
  CHECK(seen.front() == 0);
  CHECK(seen.back() == 22);
  CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
  CHECK(dvla::epoch_order({23, 5, 1, false, 9}).batch(8) == order.batch(8));
  CHECK(dvla::epoch_order({23, 5, 1, true, 9}).steps_per_epoch() == 4);

  dvla::epoch_order repeated({23, 6, 2, true, 9});
  auto const batch = repeated.batch(0);
  REQUIRE(batch.size() == 6);
  CHECK(std::equal(batch.begin(), batch.begin() + 3, batch.begin() + 3));
  CHECK(repeated.steps_per_epoch() == 7);
  CHECK(contains(message_of([] { dvla::epoch_order({23, 5, 2}); }), "multiple of the repeats"));
  CHECK(contains(message_of([] { dvla::epoch_order({4, 5}); }), "4 images do not fill one batch of 5"));
  CHECK(contains(message_of([] { dvla::epoch_order({0, 5}); }), "0 images"));
}

TEST_CASE("batches are equal for any number of workers or threads, in memory or on demand, and after a resume") {
  auto const folder = small_data_set();
  dvla::thread_pool pool(3);
  dvla::image_source const on_demand(dvla::open_image_folder(folder->path()));
  dvla::image_source const in_memory(dvla::open_image_folder(folder->path()), dvla::image_storage::in_memory, &pool);
  CHECK(on_demand.bytes() == 0);
  CHECK(in_memory.size() == 18);
  CHECK(in_memory.bytes() == 18 * 20 * 22 * 3);
  auto const expected = batches(on_demand, 0, 0, 14);
  CHECK(expected[13].step == 13);
  CHECK(expected[0].pixels != expected[6].pixels);
  for (auto const* source : {&on_demand, &in_memory})
    for (std::size_t const workers : {0u, 1u, 3u}) {
      CAPTURE(workers);
      CHECK(equal(batches(*source, workers, 0, 14), expected));
      CHECK(equal(batches(*source, workers, 9, 5), {expected.begin() + 9, expected.end()}));
    }
  for (auto const& batch : expected) {
    std::vector<float> out(batch.pixels.size());
    dvla::load_batch(in_memory, batch.indices, batch.step, small, everything(), 41, &pool, out);
    CHECK((out == batch.pixels));
    for (std::size_t i = 0; i < batch.labels.size(); ++i) CHECK(batch.labels[i] == in_memory.label(batch.indices[i]));
  }
  // The two copies of an image in a batch are augmented differently.
  auto const half = expected[0].pixels.begin() + static_cast<std::ptrdiff_t>(expected[0].pixels.size() / 2);
  CHECK(!std::equal(expected[0].pixels.begin(), half, half));
}

TEST_CASE("the shares of two processes are the images of the whole batch, augmented as there") {
  auto const folder = small_data_set();
  dvla::image_source const source(dvla::open_image_folder(folder->path()));
  auto const loader = [&](dvla::batch_share const& share) {
    return std::make_unique<dvla::batch_loader<>>(source, dvla::epoch_order({source.size(), 8, 2, true, 3, share}), small, everything(), 41,
                                                dvla::loader_settings{1, 2, 0});
  };
  auto const whole = loader({}), first = loader({0, 2}), second = loader({1, 2});
  for (int step = 0; step < 5; ++step) {
    auto const& all = whole->next();
    for (std::size_t rank = 0; rank < 2; ++rank) {
      auto const& mine = (rank == 0 ? first : second)->next();
      REQUIRE(mine.indices.size() == 4);
      for (std::size_t i = 0; i < 4; ++i) {
        auto const place = dvla::batch_share{rank, 2}.place(i, 4);
        CHECK(mine.indices[i] == all.indices[place]);
        CHECK(mine.labels[i] == all.labels[place]);
        CHECK(std::equal(mine.pixels.data() + i * small.size(), mine.pixels.data() + (i + 1) * small.size(),
                         all.pixels.data() + place * small.size()));
      }
    }
  }
}

TEST_CASE("a damaged file stops the consumer with its name, at its step, with and without workers") {
  auto const folder = small_data_set();
  auto const victim = folder->path() / "class1" / "3.png";
  auto const bytes = dvla::read_bytes(victim);
  write_file(victim, std::vector<std::uint8_t>(bytes.begin(), bytes.begin() + 60));
  dvla::image_source const source(dvla::open_image_folder(folder->path()));
  for (std::size_t const workers : {0u, 1u, 3u}) {
    dvla::epoch_order order({source.size(), 1, 1, true, 3});
    dvla::batch_loader loader(source, order, small, {}, 1, {workers, 3});
    std::uint64_t step = 0;
    while (order.batch(step)[0] != 8) ++step;
    for (std::uint64_t i = 0; i < step; ++i) CHECK(loader.next().step == i);
    for (int repeat = 0; repeat < 2; ++repeat) {
      auto const message = message_of([&] { (void)loader.next(); });
      CHECK(contains(message, "class1/3.png: the PNG file is truncated"));
    }
  }
  CHECK(contains(message_of([&] { dvla::image_source(source.folder(), dvla::image_storage::in_memory); }), "class1/3.png"));
}

TEST_CASE("a loader that is not read to the end stops, and wrong sizes are refused") {
  auto const folder = small_data_set();
  dvla::image_source const source(dvla::open_image_folder(folder->path()));
  { dvla::batch_loader unread(source, dvla::epoch_order({source.size(), 4}), small, {}, 1, {3, 2}); }
  dvla::batch_loader loader(source, dvla::epoch_order({source.size(), 4}), small, {}, 1, {2, 1});
  CHECK(loader.next().pixels.size() == 4 * 16 * 16 * 3);
  CHECK(loader.steps_per_epoch() == 4);
  std::vector<float> out(9);
  std::uint32_t const first[] = {0};
  CHECK(contains(message_of([&] { dvla::load_batch(source, first, 0, small, {}, 1, nullptr, out); }),
                 "9 floats for 1 images of 16x16x3"));
  dvla::image scratch;
  CHECK(contains(message_of([&] { (void)source.read(18, scratch); }), "image 18 asked for, there are 18"));
  CHECK(contains(message_of([&] { dvla::batch_loader(source, dvla::epoch_order({18, 4}), small, {}, 1, {1, 0}); }), "ahead >= 1"));
}
