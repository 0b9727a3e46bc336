// What the tests of episodes on a card share: a folder of pictures, a colour a class, and what is done with them.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include <dvla/core/thread_pool.hpp>
#include <dvla/data/png.hpp>
#include <dvla/fewshot/cuda/card_images.cuh>

#include "data/fixture.hpp"

namespace episode_data {

inline constexpr std::size_t side = 32, classes = 6, per_class = 12;

/// A noisy picture in the colour of its class.
inline dvla::image picture(std::size_t height, std::size_t width, std::uint32_t label, std::uint32_t number) {
  dvla::image out = dvla_test::noise(height, width, label * 100 + number);
  for (std::size_t i = 0; i < out.pixels.size(); ++i) {
    double const colour = 120 + 90 * std::sin(1.3 * label + 2.1 * static_cast<double>(i % 3));
    out.pixels[i] = static_cast<std::uint8_t>(0.6 * colour + 0.4 * out.pixels[i]);
  }
  return out;
}

/// A folder with a folder of pictures a class, of 40 x 36 pixels.
struct data_set {
  dvla_test::scratch_folder folder;

  data_set() {
    for (std::uint32_t label = 0; label < classes; ++label)
      for (std::uint32_t i = 0; i < per_class; ++i)
        dvla_test::write_file(folder.path() / dvla::concat("class", label) / dvla::concat("picture", 10 + i, ".png"),
                              dvla::encode_png(picture(40, 36, label, i)));
  }
  [[nodiscard]] dvla::image_source source(dvla::image_storage storage = dvla::image_storage::on_demand) const {
    return dvla::image_source(dvla::open_image_folder(folder.path()), storage);
  }
};

inline dvla::preprocessing published() { return dvla::evaluation_preprocessing("imagenet", side); }

inline std::vector<std::size_t> counts() { return std::vector<std::size_t>(classes, per_class); }

/// Two phrases and a description a class, of eight numbers.
inline dvla::class_vectors vectors() {
  dvla::class_vectors out{2, 8, {}, {}};
  dvla::random_stream random(11, dvla::draw::test, 0, 0);
  for (std::size_t i = 0; i < classes * 2 * 8; ++i) out.local.push_back(static_cast<float>(random.normal()));
  for (std::size_t i = 0; i < classes * 8; ++i) out.global.push_back(static_cast<float>(random.normal()));
  return out;
}

}  // namespace episode_data
