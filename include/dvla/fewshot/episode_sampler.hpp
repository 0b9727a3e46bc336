// Which images make up an episode: the fixed test episodes that published accuracies are measured on, and the random
// training episodes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/fewshot/mt19937.hpp>

namespace dvla::inline DVLA_ABI {

/// An N-way K-shot episode: `way` classes, each with `shot` labelled images and `query` images to classify.
struct episode_shape {
  std::size_t way = 5, shot = 1, query = 15;

  friend bool operator==(episode_shape const&, episode_shape const&) = default;
};

/// The draw of one episode. The label of an image is the place of its class in `classes`; images are indices into the data
/// set's flat list (the sum of the earlier classes' sizes plus the index in the class), class by class.
struct episode {
  std::vector<std::uint32_t> classes;  // way
  std::vector<std::uint32_t> support;  // way * shot
  std::vector<std::uint32_t> query;    // way * query

  friend bool operator==(episode const&, episode const&) = default;
};

namespace detail {

inline void check_episode(std::span<std::size_t const> images_per_class, episode_shape shape) {
  expect(shape.way >= 1 && shape.shot >= 1 && shape.query >= 1, "episode: ", shape.way, "-way ", shape.shot, "-shot with ",
         shape.query, " queries a class; way, shot and query must each be at least 1");
  expect(images_per_class.size() >= shape.way, "episode: ", shape.way, "-way episodes need at least ", shape.way,
         " classes, but there are ", images_per_class.size(), "; lower the way or check the split's folder");
  std::size_t total = 0;
  for (std::size_t c = 0; c < images_per_class.size(); ++c) {
    // Written as two comparisons so that no sum of sizes can overflow.
    bool const enough = images_per_class[c] >= shape.shot && images_per_class[c] - shape.shot >= shape.query;
    expect(enough, "episode: class ", c, " (in sorted order) has ", images_per_class[c], " images, fewer than the ", shape.shot,
           " shots and ", shape.query, " queries of an episode; add images, remove the class, or lower shot or query");
    constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
    expect(images_per_class[c] <= most - total, "episode: the classes hold more than ", most, " images; split the data set");
    total += images_per_class[c];
  }
}

// Draws the classes, then shot + query images of each class in turn, all by choose(n, k).
template <class Choose>
episode draw_episode(std::span<std::size_t const> images_per_class, std::span<std::uint32_t const> first_image, episode_shape shape,
                     Choose&& choose) {
  episode drawn;
  drawn.classes = choose(static_cast<std::uint32_t>(images_per_class.size()), shape.way);
  drawn.support.reserve(shape.way * shape.shot);
  drawn.query.reserve(shape.way * shape.query);
  for (std::uint32_t const c : drawn.classes) {
    auto const images = choose(static_cast<std::uint32_t>(images_per_class[c]), shape.shot + shape.query);
    for (std::size_t i = 0; i < images.size(); ++i)
      (i < shape.shot ? drawn.support : drawn.query).push_back(first_image[c] + images[i]);
  }
  return drawn;
}

inline std::vector<std::uint32_t> first_images(std::span<std::size_t const> images_per_class) {
  std::vector<std::uint32_t> first;
  first.reserve(images_per_class.size());
  std::uint32_t next = 0;
  for (std::size_t const count : images_per_class) {
    first.push_back(next);
    next += static_cast<std::uint32_t>(count);
  }
  return first;
}

}  // namespace detail

/// The first `count` of the fixed test episodes: numpy.random.RandomState(seed) draws `way` classes without replacement,
/// then shot + query images of each class in turn; the first `shot` are its supports. Classes are the sorted folder
/// names, images the sorted file names. Throws for too few classes, or a class with too few images.
[[nodiscard]] inline std::vector<episode> fixed_episodes(std::span<std::size_t const> images_per_class, episode_shape shape,
                                                         std::size_t count, std::uint32_t seed = 0) {
  detail::check_episode(images_per_class, shape);
  auto const first = detail::first_images(images_per_class);
  mt19937 random(seed);
  std::vector<episode> episodes;
  episodes.reserve(count);
  while (episodes.size() < count) {
    episodes.push_back(
        detail::draw_episode(images_per_class, first, shape, [&](std::uint32_t n, std::size_t k) { return random.choice(n, k); }));
  }
  return episodes;
}

/// The training episode of a step: a function of (seed, step) alone, so that a resumed run continues with the same
/// episodes. Throws as fixed_episodes does.
[[nodiscard]] inline episode training_episode(std::span<std::size_t const> images_per_class, episode_shape shape,
                                              std::uint64_t seed, std::uint64_t step) {
  detail::check_episode(images_per_class, shape);
  random_stream random(seed, draw::episode, 0, step);
  auto const choose = [&](std::uint32_t n, std::size_t k) {
    std::vector<std::uint32_t> numbers(n);
    for (std::uint32_t i = 0; i < n; ++i) numbers[i] = i;
    for (std::uint32_t i = 0; i < k; ++i) std::swap(numbers[i], numbers[i + random.below(n - i)]);
    numbers.resize(k);
    return numbers;
  };
  return detail::draw_episode(images_per_class, detail::first_images(images_per_class), shape, choose);
}

}  // namespace dvla::inline DVLA_ABI
