// loss_curves_cuda: trains the small Visformer for 1,000 steps on the same batches, in f32 from five seeds, in tf32 and bf16 from
// three of them, and prints a table in Markdown. A precision follows f32 where, in every window of 100 steps, the means over the
// seeds lie no further apart than the seeds of f32 do among themselves; exits with 1 where one does not. About a minute on an H100.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/core/thread_pool.hpp>
#include <dvla/data/attribute_world/render.hpp>

#include "curves.hpp"

namespace {

using namespace curves;

constexpr std::size_t window = 100, windows = steps / window;
using means = std::vector<double>;  // of the windows

template <class Train>
std::vector<means> runs(Train train, pictures const& all, std::uint64_t seeds) {
  std::vector<means> out;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    auto const losses = train(all, seed);
    means of_run;
    for (auto at = losses.begin(); at != losses.end(); at += window) of_run.push_back(std::accumulate(at, at + window, 0.0) / window);
    out.push_back(of_run);
  }
  return out;
}

double mean_of(std::vector<means> const& all, std::size_t w) {
  double sum = 0;
  for (auto const& run : all) sum += run[w];
  return sum / static_cast<double>(all.size());
}

/// Prints the table; whether both precisions follow f32, and f32 learned.
bool report(std::vector<means> const& f32, std::vector<means> const& tf32, std::vector<means> const& bf16) {
  std::printf("| steps | f32, %zu seeds | least | most | spread | tf32, %zu seeds | off by | bf16, %zu seeds | off by | |\n", f32.size(),
              tf32.size(), bf16.size());
  std::puts("|---|---|---|---|---|---|---|---|---|---|");
  bool all_follow = true;
  for (std::size_t w = 0; w < windows; ++w) {
    auto const [least, most] = std::minmax_element(f32.begin(), f32.end(), [w](auto const& a, auto const& b) { return a[w] < b[w]; });
    double const middle = mean_of(f32, w), spread = (*most)[w] - (*least)[w];
    double const of_tf32 = mean_of(tf32, w), of_bf16 = mean_of(bf16, w);
    bool const follow = std::abs(of_tf32 - middle) <= spread && std::abs(of_bf16 - middle) <= spread;
    all_follow = all_follow && follow;
    std::printf("| %zu to %zu | %.4f | %.4f | %.4f | %.4f | %.4f | %+.4f | %.4f | %+.4f | %s |\n", w * window + 1, (w + 1) * window, middle,
                (*least)[w], (*most)[w], spread, of_tf32, of_tf32 - middle, of_bf16, of_bf16 - middle, follow ? "ok" : "NOT OK");
  }
  double const first = mean_of(f32, 0), last = mean_of(f32, windows - 1);
  bool const learned = last < 0.8 * first;
  if (!learned) std::printf("\nf32 did not learn: its loss went from %.4f to %.4f\n", first, last);
  return all_follow && learned;
}

}  // namespace

curves::pictures::pictures() : values(classes * per_class * pixels) {
  namespace world = dvla::attribute_world;
  dvla::thread_pool pool;
  dvla::parallel_for(&pool, classes * per_class, 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      auto const number = static_cast<std::uint32_t>(i / per_class * 601 % world::look_count);  // 601 shares no factor with the count
      auto const picture = world::render(world::look_at(number), 1, i % per_class, side);
      for (std::size_t p = 0; p < pixels; ++p) values[i * pixels + p] = (static_cast<float>(picture.pixels[p]) / 255 - 0.5f) / 0.25f;
    }
  });
}

int main() {
  int cards = 0;
  if (cudaGetDeviceCount(&cards) != cudaSuccess || cards == 0) {
    std::puts("no CUDA device: the training was compiled, not run");
    return 77;
  }
  try {
    pictures const all;
    auto const f32 = runs(train_f32, all, 5), tf32 = runs(train_tf32, all, 3), bf16 = runs(train_bf16, all, 3);
    return report(f32, tf32, bf16) ? 0 : 1;
  } catch (dvla::error const& problem) {
    std::fprintf(stderr, "%s\n", problem.what());
    return 2;
  }
}
