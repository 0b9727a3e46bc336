// Filling, copying, converting, gathering and scattering on the card.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include <dvla/kernels/cuda/memory.cuh>

#include "placed.hpp"

using namespace dvla;
using namespace dvla::kernels;

namespace {

constexpr std::size_t odd_sizes[] = {0, 1, 3, 17, 49, 196, 197, 100003};

/// Strided blocks from and to larger buffers, whose other elements must stay.
template <class T>
void check_copy_blocks(std::size_t outer, std::size_t block, std::size_t from_step, std::size_t to_step, std::size_t shift,
                       bool accumulate) {
  auto const from = normal_numbers<T>(outer * from_step, 1);
  auto const old = small_integers<T>(outer * to_step, 2);
  auto expected = as_doubles(old);
  for (std::size_t o = 0; o < outer; ++o)
    for (std::size_t i = 0; i < block; ++i) {
      double const value = as_double(from[o * from_step + i]);
      double& to = expected[o * to_step + i];
      to = accumulate ? as_double(static_cast<T>(static_cast<arithmetic_t<T>>(value + to))) : value;
    }
  placed<T> const source(from, shift), target(old, shift);
  copy_blocks(cuda{}, outer, block, source.read(), from_step, target.data(), to_step, accumulate);
  CHECK(relative_error(target.get(), expected) <= (sizeof(T) == 2 && accumulate ? 1e-3 : 0));  // a sum may be rounded twice here
  CHECK(target.intact());
}

template <class From, class To>
void check_convert(std::size_t size, std::size_t shift) {
  auto const from = normal_numbers<From>(size, 1);
  auto const old = small_integers<To>(size, 2);
  std::vector<To> expected(size), sum(size);
  using number = arithmetic_t<To>;
  for (std::size_t i = 0; i < size; ++i) {
    expected[i] = static_cast<To>(static_cast<number>(from[i]));
    sum[i] = static_cast<To>(static_cast<number>(from[i]) + static_cast<number>(old[i]));
  }
  placed<From> const source(from, shift);
  placed<To> const fresh(size, shift), added_to(old, shift), crooked(size, 1 - shift);
  cuda const device;
  convert(device, size, source.read(), fresh.data(), false);
  convert(device, size, source.read(), added_to.data(), true);
  convert(device, size, source.read(), crooked.data(), false);  // alignments that disagree
  CHECK(same_bits(fresh.get(), expected));
  CHECK(same_bits(crooked.get(), expected));
  CHECK(same_bits(added_to.get(), sum));
  CHECK((fresh.intact() && added_to.intact() && crooked.intact()));
}

template <class T>
void check_gather(std::size_t rows, std::size_t sources, std::size_t width, std::size_t shift) {
  std::vector<std::uint32_t> index(rows);
  random_stream random(rows, draw::test, 3, 0);
  for (auto& i : index) i = random.below(static_cast<std::uint32_t>(sources));
  auto const table = normal_numbers<T>(sources * width, 1), gradient = normal_numbers<T>(rows * width, 2);
  auto const old = small_integers<T>(table.size(), 3);
  std::vector<T> gathered(rows * width);
  std::vector<double> scattered = as_doubles(old);
  std::vector<arithmetic_t<T>> in_order(old.begin(), old.end());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t i = 0; i < width; ++i) {
      gathered[r * width + i] = table[index[r] * width + i];
      scattered[index[r] * width + i] += as_double(gradient[r * width + i]);
      in_order[index[r] * width + i] += static_cast<arithmetic_t<T>>(gradient[r * width + i]);
    }
  placed<std::uint32_t> const at(index, 0);
  placed<T> const from(table, shift), to(rows * width, shift), dy(gradient, shift), dx(old, shift);
  cuda const device;
  gather_rows(device, rows, width, at.read(), from.read(), to.data());
  scatter_add_rows(device, rows, width, at.read(), dy.read(), dx.data());
  CHECK(same_bits(to.get(), gathered));
  CHECK(relative_error(dx.get(), scattered) <= bound<T>);
  if constexpr (!std::is_same_v<T, bfloat16>) CHECK(same_bits(dx.get(), in_order));
  CHECK((to.intact() && dx.intact()));
}

}  // namespace

TEST_CASE_TEMPLATE("Filling and copying touch every element and no other", T, double, float, bfloat16, std::uint32_t) {
  for (std::size_t const size : odd_sizes)
    for (std::size_t const shift : {0, 1}) {
      placed<T> const to(size, shift), copied(size, 1 - shift);
      cuda const device;
      fill(device, size, to.data(), static_cast<T>(arithmetic_t<T>(7)));
      copy(device, size, to.read(), copied.data());
      CHECK(same_bits(to.get(), std::vector<T>(size, static_cast<T>(arithmetic_t<T>(7)))));
      CHECK(same_bits(copied.get(), to.get()));
      CHECK((to.intact() && copied.intact()));
    }
}

TEST_CASE("Host memory may change as soon as upload returns, pageable or pinned; download waits") {
  constexpr std::size_t size = std::size_t{1} << 22;
  std::vector<float> const numbers = normal_numbers<float>(size, 1);
  float* pinned = nullptr;
  cuda_check(cudaMallocHost(&pinned, size * sizeof(float)), "allocating pinned memory");
  std::vector<float> pageable(size);
  for (float* const host : {pageable.data(), pinned}) {
    placed<float> const work(std::size_t{1} << 24, 0), to(size, 0);
    std::copy(numbers.begin(), numbers.end(), host);
    cuda const device;
    for (int i = 0; i < 20; ++i) fill(device, std::size_t{1} << 24, work.data(), 1.0f);  // the queue is busy meanwhile
    upload(device, size, static_cast<float const*>(host), to.data());
    std::fill(host, host + size, 0.0f);
    std::vector<float> back(size);
    download(device, size, to.read(), back.data());
    CHECK(same_bits(back, numbers));
    CHECK(to.intact());
  }
  cuda_check(cudaFreeHost(pinned), "freeing pinned memory");
}

TEST_CASE_TEMPLATE("Blocks are copied or added between strides", T, double, float, bfloat16) {
  for (std::size_t const shift : {0, 1})
    for (bool const accumulate : {false, true}) {
      check_copy_blocks<T>(1, 1, 1, 1, shift, accumulate);
      check_copy_blocks<T>(3, 17, 20, 33, shift, accumulate);
      check_copy_blocks<T>(197, 16, 32, 48, shift, accumulate);
      check_copy_blocks<T>(80, 192, 384, 192, shift, accumulate);
      check_copy_blocks<T>(5, 3000, 3001, 3000, shift, accumulate);
      check_copy_blocks<T>(7, 8, 9, 16, shift, accumulate);
      check_copy_blocks<T>(1, 4096, 4097, 4099, shift, accumulate);
    }
}

TEST_CASE("Copies keep every bit, those of a NaN too") {
  std::vector<bfloat16> odd(64);
  for (std::size_t i = 0; i < odd.size(); ++i) odd[i].bits = static_cast<std::uint16_t>(0x7F81 + i);  // signalling and quiet NaN
  std::vector<std::uint32_t> const rows{3, 2, 1, 0};
  placed<bfloat16> const from(odd, 0), blocks(64, 0), gathered(64, 0);
  placed<std::uint32_t> const at(rows, 0);
  cuda const device;
  copy_blocks(device, 4, 16, from.read(), 16, blocks.data(), 16, false);
  gather_rows(device, 4, 16, at.read(), from.read(), gathered.data());
  CHECK(same_bits(blocks.get(), odd));
  for (std::size_t i = 0; i < 64; ++i) CHECK(gathered.get()[i].bits == odd[(3 - i / 16) * 16 + i % 16].bits);
}

TEST_CASE_TEMPLATE("Rows are gathered, and scattered in their order", T, double, float, bfloat16) {
  for (std::size_t const shift : {0, 1}) {
    check_gather<T>(1, 1, 1, shift);
    check_gather<T>(17, 3, 3, shift);
    check_gather<T>(80, 64, 192, shift);
    check_gather<T>(700, 1, 49, shift);
    check_gather<T>(1500, 7, 16, shift);
    check_gather<T>(300, 400, 2500, shift);
  }
}

TEST_CASE("Numbers are converted with one rounding, and added") {
  for (std::size_t const size : odd_sizes)
    for (std::size_t const shift : {0, 1}) {
      check_convert<float, bfloat16>(size, shift);
      check_convert<bfloat16, float>(size, shift);
      check_convert<double, float>(size, shift);
      check_convert<float, double>(size, shift);
      check_convert<double, bfloat16>(size, shift);
      check_convert<bfloat16, bfloat16>(size, shift);
    }
}
