// repeat_cuda [REPEATS [NAME]]: does the kernels of a training step at batch 80 and 512, and whole steps from the same weights,
// REPEATS times each (1000), all or those whose name contains NAME, and exits with 1 where bits differ from the first time.
// About a minute and 20 GB on an H100.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "repeated.hpp"

namespace {

using namespace repeat;

/// The tasks whose name contains `part`.
std::vector<task> named(std::vector<task> all, char const* part) {
  std::erase_if(all, [&](task const& t) { return t.name.find(part) == std::string::npos; });
  return all;
}

int run_all(int repeats, char const* part) {
  cudaStream_t const stream = cuda{}.stream();
  int differing = 0;
  for (std::size_t const batch : {80u, 512u}) {
    differing += run_in_rounds(stream, named(kernels_bf16(batch), part), repeats);
    differing += run_in_rounds(stream, named(kernels_tf32(batch), part), repeats);
    if (std::strstr("training step bf16", part) != nullptr)
      differing += run_in_rounds(stream, {training_step_bf16(batch)}, repeats);
  }
  return differing;
}

}  // namespace

int repeat::run_in_rounds(cudaStream_t stream, std::vector<task> const& tasks, int repeats) {
  std::size_t const bytes = tasks.size() * sizeof(unsigned long long);
  memory const counts(bytes);
  auto* const differences = static_cast<unsigned long long*>(counts.data());
  cuda_check(cudaMemsetAsync(differences, 0, counts.bytes(), stream), "clearing counts");
  for (int round = 0; round < repeats; ++round)
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      auto const& [name, written, run] = tasks[i];
      written->poison(stream);
      run();
      if (round == 0) written->keep(stream);
      else written->compare(stream, differences + i);
    }
  cuda_check(cudaStreamSynchronize(stream), "repeating work");
  std::vector<unsigned long long> host(tasks.size());
  cuda_check(cudaMemcpy(host.data(), differences, bytes, cudaMemcpyDeviceToHost), "reading counts");
  int differing = 0;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    std::printf("%-52s %5d times: %s (%llu words differ)\n", tasks[i].name.c_str(), repeats, host[i] == 0 ? "ok" : "NOT OK", host[i]);
    differing += host[i] != 0;
  }
  std::fflush(stdout);
  return differing;
}

int main(int count, char** words) {
  int cards = 0;
  if (cudaGetDeviceCount(&cards) != cudaSuccess || cards == 0) {
    std::puts("no CUDA device: the repeats were compiled, not run");
    return 77;
  }
  try {
    return run_all(count > 1 ? std::atoi(words[1]) : 1000, count > 2 ? words[2] : "") == 0 ? 0 : 1;
  } catch (dvla::error const& problem) {
    std::fprintf(stderr, "%s\n", problem.what());
    return 2;
  }
}
