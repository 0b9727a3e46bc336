// What goes wrong on a card is a sentence that names the thing and the remedy, and what can go on does.
#include <doctest/doctest.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <string>

#include <dvla/core/tensor.hpp>
#include <dvla/kernels/cuda/memory.cuh>
#include <dvla/kernels/cuda/replay.cuh>

#include "device_buffer.hpp"

namespace {

using namespace dvla;
using namespace dvla::kernels;

/// The sentence of the error that f() throws; empty if it throws none.
template <class F>
std::string sentence_of(F f) {
  try {
    f();
  } catch (error const& problem) {
    return problem.what();
  }
  return {};
}

bool contains(std::string const& text, char const* part) { return text.find(part) != std::string::npos; }

/// The device computes, and no error is left over.
void check_usable() {
  CHECK(cudaPeekAtLastError() == cudaSuccess);
  device_buffer<float> const to(1000);
  fill(cuda{}, to.size(), to.data(), 3.0f);
  CHECK(to.get() == std::vector<float>(1000, 3.0f));
}

__global__ void trap_kernel() { __trap(); }

constexpr char const* alone = "(in a process of its own) a kernel that traps";

/// What this program prints when it runs the test that is named `alone` by itself.
std::string output_of_child() {
  auto const self = std::filesystem::read_symlink("/proc/self/exe").string();
  std::FILE* const child = ::popen(concat("'", self, "' --no-skip '--test-case=", alone, "' 2>&1").c_str(), "r");
  if (child == nullptr) return {};
  std::string text;
  std::array<char, 512> part{};
  while (std::fgets(part.data(), static_cast<int>(part.size()), child) != nullptr) text += part.data();
  (void)::pclose(child);
  return text;
}

}  // namespace

TEST_CASE("Memory that a card does not have is refused with what was wanted and what is free, and the card goes on") {
  std::size_t const much = std::size_t{1} << 45;  // 32 TiB
  for (auto const& text : {sentence_of([&] { (void)cuda_memory::allocate(much); }), sentence_of([&] {
                             arena<cuda_memory> from;
                             (void)from.allocate(much);
                           }),
                           sentence_of([&] { tensor<float, shape<dyn>, cuda> const t(much / sizeof(float)); })}) {
    CAPTURE(text);
    CHECK(contains(text, "35184372088832 bytes of device memory were wanted"));
    CHECK(contains(text, "are free"));
    CHECK(contains(text, "use a smaller batch"));
    check_usable();
  }
}

TEST_CASE("Memory that a card has not enough left of is refused, and what had been given stays") {
  std::size_t free = 0, all = 0;
  cuda_check(cudaMemGetInfo(&free, &all), "asking for the free memory");
  device_buffer<float> const before(std::vector<float>(1000, 7.0f));
  CHECK(contains(sentence_of([&] { (void)cuda_memory::allocate(all); }), "are free"));
  CHECK(before.get() == std::vector<float>(1000, 7.0f));
  check_usable();
}

TEST_CASE("A card that is not there is refused by its number, and the others stay") {
  int cards = 0;
  cuda_check(cudaGetDeviceCount(&cards), "counting the cards");
  for (int const number : {cards, 99, -1}) {
    auto const text = sentence_of([&] { cuda_queue const queue(number); });
    CAPTURE(text);
    CHECK(contains(text, "choosing the card"));
    CHECK(contains(text, "nvidia-smi -L"));
    check_usable();
  }
}

TEST_CASE("A launch that the card cannot make is reported where it is made, and the card goes on") {
  cuda const device;
  trap_kernel<<<1, 4096, 0, device.stream()>>>();  // more threads than a block has
  auto const text = sentence_of([] { cuda_launched("starting a block that is too large"); });
  CAPTURE(text);
  CHECK(contains(text, "CUDA error while starting a block that is too large"));
  check_usable();
}

TEST_CASE("A step that waits for the card or throws cannot be recorded, and is recorded once it does neither") {
  cuda const device;
  device_buffer<float> const to(1000);
  kernels::replay<cuda> recorded;
  float value = 0;
  auto const step = [&](bool waits, bool throws) {
    recorded.run(device, 0, [&] {
      fill(device, to.size(), to.data(), ++value);
      if (waits) device.queue->wait();
      if (throws) fail("a step's own error");
    });
  };
  step(true, false);  // the first is issued, and may wait
  auto const text = sentence_of([&] { step(true, false); });
  CAPTURE(text);
  CHECK(contains(text, "must not wait for the device"));
  check_usable();
  CHECK(sentence_of([&] { step(false, true); }) == "a step's own error");
  check_usable();
  step(false, false);
  step(false, false);  // replayed: the body does not run again
  CHECK(value == 4);
  CHECK(to.get() == std::vector<float>(1000, 4.0f));
}

TEST_CASE("A kernel that traps is reported at the next check, in words that say what is left to do") {
  auto const text = output_of_child();
  CAPTURE(text);
  CHECK(contains(text, "the device is lost to this process; start it again, from the last checkpoint"));
  CHECK(contains(text, "1 passed"));
}

TEST_CASE("(in a process of its own) a kernel that traps" * doctest::skip()) {
  cuda const device;
  device_buffer<float> const to(1000);
  trap_kernel<<<1, 1, 0, device.stream()>>>();
  cuda_launched("starting a kernel that traps");
  for (int i = 0; i < 2; ++i) {  // and at every check that follows
    auto const text = sentence_of([&] { device.queue->wait(); });
    std::puts(text.c_str());
    CHECK(contains(text, "CUDA error while waiting for the device"));
  }
  CHECK(contains(sentence_of([&] { fill(device, to.size(), to.data(), 3.0f); }), "the device is lost to this process"));
}
