// Episodes and batches on their way to the card: the CPU's inputs, supports before queries, whoever prepares them.
#include <doctest/doctest.h>

#include <dvla/cuda.hpp>
#include <dvla/fewshot/cuda/card_images.cuh>

#include "device_buffer.hpp"
#include "episode_data.hpp"

namespace {

using dvla::cuda;
using dvla::image_place;
using dvla::image_storage;
using episode_data::side;

template <class T>
std::vector<T> fetched(T const* from, std::size_t count) {
  std::vector<T> host(count);
  dvla::kernels::cuda_memory::copy_bytes(host.data(), from, count * sizeof(T));
  return host;
}

struct difference {
  double largest = 0;  // in grey levels
  double share = 0;    // of elements that differ by more than a hundredth of one
};

difference compare(std::vector<float> const& made, float const* expected, std::size_t count, dvla::preprocessing const& how) {
  if (made.size() != count) return {1e30, 1};
  difference out;
  for (std::size_t i = 0; i < count; ++i) {
    double const level = 255 * static_cast<double>(how.statistics.deviation[i % 3]);
    double const d = std::abs(static_cast<double>(made[i]) - static_cast<double>(expected[i])) * level;
    out.largest = d <= out.largest ? out.largest : d;  // a NaN stays
    out.share += !(d <= 0.01) / static_cast<double>(count);
  }
  return out;
}

dvla::augmentation episodic() { return dvla::training_augmentation("episodic-cifar"); }

dvla::augmentation published_training() {
  auto out = dvla::training_augmentation("published", 0.2);
  out.erasing = dvla::random_erasing{0.5};
  return out;
}

/// Episodes of a source, on the card or the host, against load_episode's on the CPU: steps one after the other, then others.
void check_episodes(image_place place, image_storage storage, dvla::augmentation const& what) {
  CAPTURE(static_cast<int>(place));
  episode_data::data_set const data;
  auto const source = data.source();
  auto const how = episode_data::published();
  auto const vectors = episode_data::vectors();
  dvla::thread_pool pool(3);
  dvla::episode_shape const shape{4, 2, 3};
  auto const order = [&](std::uint64_t step) { return dvla::training_episode(episode_data::counts(), shape, 5, step); };
  dvla::card_images<> const images(cuda{}, source, how, what, 17, &pool, {place, storage});
  CHECK(images.on_card() == (place != image_place::host));
  CHECK(images.images_per_class() == episode_data::counts());
  dvla::folder_images const expected_images{&source, how, what, 17};
  dvla::episode_source<side, cuda, dvla::card_images<>> episodes(cuda{}, images, &vectors, order);
  float const* address = nullptr;
  for (std::uint64_t const step : {3u, 4u, 5u, 6u, 20u, 21u, 4u}) {
    CAPTURE(step);
    auto const in = episodes.load(step);
    auto const expected = dvla::load_episode<side>(expected_images, order(step), &vectors, step);
    CHECK(in.way == 4);
    CHECK(in.supports == 8);
    CHECK(in.queries == 12);
    if (address != nullptr) CHECK(in.pixels == address);
    address = in.pixels;
    auto const d = compare(fetched(in.pixels, 20 * how.size()), expected.pixels.data(), expected.pixels.size(), how);
    CHECK(d.largest <= 1.01);
    CHECK(d.share <= (images.on_card() ? 1e-3 : 0));
    CHECK(fetched(in.local_vectors, expected.vectors.local.size()) == expected.vectors.local.read());
    CHECK(fetched(in.global_vectors, expected.vectors.global.size()) == expected.vectors.global.read());
  }
  CHECK(episodes.waited() > 0);
}

}  // namespace

TEST_CASE("an episode's images are the CPU's within a grey level, for the same draws, whoever prepares them") {
  for (auto const& what : {dvla::augmentation{}, episodic(), published_training()}) {
    check_episodes(image_place::automatic, image_storage::on_demand, what);
    check_episodes(image_place::host, image_storage::on_demand, what);
    check_episodes(image_place::host, image_storage::in_memory, what);
  }
}

TEST_CASE("supports come before queries, each class by class in the order of the episode") {
  episode_data::data_set const data;
  auto const source = data.source();
  auto const how = episode_data::published();
  auto const drawn = dvla::fixed_episodes(episode_data::counts(), {5, 1, 3}, 4)[3];
  dvla::folder_images const each{&source, how};
  for (auto const place : {image_place::card, image_place::host}) {
    dvla::card_images<> const images(cuda{}, source, how, {}, 0, nullptr, {place});
    dvla::episode_source<side, cuda, dvla::card_images<>> episodes(cuda{}, images, nullptr, [&](std::uint64_t) { return drawn; });
    auto const in = episodes.load(0);
    auto const check = [&](auto const& view, std::vector<std::uint32_t> const& numbers) {
      CHECK(view.extents[0] == numbers.size());
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        std::vector<float> expected(how.size());
        each.load(std::span(numbers).subspan(i, 1), 0, expected);
        CHECK(compare(fetched(view.data + i * how.size(), how.size()), expected.data(), how.size(), how).largest <= 1.01);
      }
    };
    check(in.support(), drawn.support);
    check(in.query(), drawn.query);
  }
}

TEST_CASE("images that the card cannot keep are prepared on the host, unless the card was insisted on") {
  episode_data::data_set const data;
  dvla_test::write_file(data.folder.path() / "class3" / "picture99.png", dvla::encode_png(episode_data::picture(36, 40, 3, 99)));
  auto const source = data.source();
  auto const how = episode_data::published();
  dvla::card_images<> const images(cuda{}, source, how, {}, 0, nullptr);
  CHECK_FALSE(images.on_card());
  CHECK(dvla_test::contains(images.told(), "picture99.png: the image has 36x40 pixels"));
  CHECK_THROWS_AS((dvla::card_images<>(cuda{}, source, how, {}, 0, nullptr, {image_place::card})), dvla::unfit_images);
  auto const drawn = dvla::fixed_episodes(images.images_per_class(), {5, 1, 3}, 1)[0];
  dvla::episode_source<side, cuda, dvla::card_images<>> episodes(cuda{}, images, nullptr, [&](std::uint64_t) { return drawn; });
  auto const expected = dvla::load_episode<side>(dvla::folder_images{&source, how}, drawn, nullptr, 0);
  CHECK(fetched(episodes.load(0).pixels, expected.pixels.size()) == expected.pixels.read());
}

TEST_CASE("a file that cannot be decoded is named at the episode that needs it, and again") {
  episode_data::data_set const data;
  dvla_test::write_file(data.folder.path() / "class0" / "picture10.png", "no picture");
  auto const source = data.source();
  auto const how = episode_data::published();
  dvla::card_images<> const images(cuda{}, source, how, {}, 0, nullptr, {image_place::host});
  auto const order = [](std::uint64_t step) { return dvla::episode{{0, 1}, {step < 2 ? 1u : 0u, 12}, {2, 13}}; };
  dvla::episode_source<side, cuda, dvla::card_images<>> episodes(cuda{}, images, nullptr, order);
  for (std::uint64_t step = 0; step < 2; ++step) CHECK(episodes.load(step).queries == 2);
  for (int repeat = 0; repeat < 2; ++repeat)
    CHECK(dvla_test::contains(dvla_test::message_of([&] { (void)episodes.load(2); }), "picture10.png"));
}

TEST_CASE("batches for pre-training are the same on the card and from the host, at the same addresses") {
  episode_data::data_set const data;
  auto const source = data.source();
  auto const how = episode_data::published();
  dvla::thread_pool pool(3);
  dvla::epoch_order const order({source.size(), 10, 2, true, 7});
  dvla::device_batch_settings const settings{episode_data::classes, {}, 0.1, 7, 2};
  std::string told_card, told_host;
  auto const make = [&](image_place place, std::string& told) {
    return dvla::place_batches<float>(cuda{}, source, order, how, published_training(), settings, &pool, {place, image_storage::in_memory},
                                      told);
  };
  auto const card = make(image_place::card, told_card), host = make(image_place::host, told_host);
  CHECK(dvla_test::contains(told_card, "72 images of 40x36 in the card's memory"));
  CHECK(dvla_test::contains(told_host, "on the host"));
  CHECK(card->steps_per_epoch() == host->steps_per_epoch());
  float const* address = nullptr;
  for (std::uint64_t step = 2; step < 12; ++step) {
    auto const& a = card->next();
    auto const& b = host->next();
    CHECK(a.step == step);
    CHECK(b.step == step);
    CHECK(a.labels == b.labels);
    if (address != nullptr) CHECK(b.pixels == address);
    address = b.pixels;
    auto const expected = fetched(b.pixels, 10 * how.size());
    CHECK(compare(fetched(a.pixels, 10 * how.size()), expected.data(), expected.size(), how).share <= 1e-3);
    auto const targets = fetched(b.targets, 10 * episode_data::classes), made = fetched(a.targets, 10 * episode_data::classes);
    for (std::size_t i = 0; i < targets.size(); ++i) CHECK(std::abs(made[i] - targets[i]) <= 1e-6f);
  }
}

TEST_CASE("results come back in the order in which they were sent") {
  cuda const device;
  device_buffer<float> value(1);
  dvla::kernels::returned<float, cuda> results;
  CHECK_THROWS_AS((void)results.get(), dvla::error);
  for (int i = 0; i < 9; ++i) {
    dvla::kernels::fill(device, 1, value.data(), static_cast<float>(i));
    results.send(device, value.data());
    if (i > 0) CHECK(results.get() == static_cast<float>(i - 1));
  }
  dvla::kernels::fill(device, 1, value.data(), 9.0f);
  results.send(device, value.data());
  CHECK_THROWS_AS(results.send(device, value.data()), dvla::error);
  CHECK(results.get() == 8);
  CHECK(results.get() == 9);
}
