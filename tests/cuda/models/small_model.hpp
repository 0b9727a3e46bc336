// What the tests of whole models on a card share: a small Visformer whose layers have the card's fast paths, what there is to
// compare of a run, and the same run without recording.
#pragma once

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <unistd.h>

#include <dvla/io/checkpoint.hpp>
#include <dvla/models/visformer.hpp>

#include "fewshot/tiny_world.hpp"

namespace small {

/// Heads of 32 and 64 elements, groups of 16 channels; images of the tiny world.
inline constexpr dvla::visformer_config config{.image = tiny::side,
                                               .stem_channels = 16,
                                               .stem_kernel = 3,
                                               .stem_stride = 1,
                                               .patch = {2, 2, 2},
                                               .dim = 64,
                                               .depth = {2, 2, 2},
                                               .heads = 2,
                                               .groups = 4};

/// Everything that a step changes, as the host reads it.
struct position {
  std::vector<float> weights, statistics, first_moments, second_moments;

  template <class Weights, class Optimizer>
  position(Weights& model, Optimizer& optimizer)
      : weights(model.weights().read()),
        statistics(model.statistics().read()),
        first_moments(optimizer.first_moments().read()),
        second_moments(optimizer.second_moments().read()) {}
  /// Whether all of it has the same bits.
  friend bool operator==(position const& a, position const& b) {
    auto const same = [](std::vector<float> const& x, std::vector<float> const& y) {
      return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
    };
    return same(a.weights, b.weights) && same(a.statistics, b.statistics) && same(a.first_moments, b.first_moments) &&
           same(a.second_moments, b.second_moments);
  }
};

struct temporary_file {
  std::filesystem::path path;
  explicit temporary_file(char const* name)
      : path(std::filesystem::temp_directory_path() / dvla::concat("dvla_cuda_", ::getpid(), "_", name, ".safetensors")) {}
  temporary_file(temporary_file const&) = delete;
  temporary_file& operator=(temporary_file const&) = delete;
  ~temporary_file() { std::filesystem::remove(path); }
};

/// While it lives the host issues every step itself.
template <class Queue>
class without_recording {
 public:
  explicit without_recording(Queue& queue) : queue_(&queue) { queue.records_steps(false); }
  without_recording(without_recording const&) = delete;
  without_recording& operator=(without_recording const&) = delete;
  ~without_recording() { queue_->records_steps(true); }

 private:
  Queue* queue_;
};

}  // namespace small
