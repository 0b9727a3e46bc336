// The blocks of a Visformer in tf32 and bfloat16, where products end in GELUs and residual sums, against the same blocks in double.
#include <doctest/doctest.h>

#include <dvla/cuda.hpp>
#include <dvla/models/visformer.hpp>

#include "device_buffer.hpp"

namespace {

using namespace dvla;

/// What a block gives for fixed weights and inputs: its values, the gradient of its input, and those of its weights.
struct outcome {
  std::vector<double> values, input, weights;
};

template <class T>
std::vector<double> doubles(std::vector<T> const& x) {
  std::vector<double> out;
  for (T const element : x) out.push_back(as_double(element));
  return out;
}

template <class Device, class Block, class T, class S>
outcome run(S const& extents, bool training, double drop_path, bool twice) {
  Device const device;
  Block block;
  block.drop_path = drop_path;
  parameters weights(block, device);
  initialise(block, 3);
  tape<Device> t(device);
  t.training(training);
  t.begin_step(5, 7);
  auto const numbers = normal_numbers<T>(extents.size(), 11), direction = normal_numbers<T>(extents.size(), 12);
  auto const x = t(view<T const, S>(numbers.data(), extents)).watch();
  auto const once = block(as_activations(x));
  auto const y = convert<T>(twice ? block(once) : once);  // twice: the same weights and a residual stream with two readers
  auto const along = t(view<T const, S>(direction.data(), extents));
  outcome out{doubles(y.host()), {}, {}};
  t.backward(y, along.value());
  std::vector<T> input(x.size());
  download(device, x.size(), x.gradient().data, input.data());
  out.input = doubles(input);
  out.weights = doubles(weights.gradients().read());
  return out;
}

double difference(std::vector<double> const& x, std::vector<double> const& expected) { return relative_error(x, expected); }

template <class Block, class BlockInDouble, class S>
void compare(S const& extents) {
  for (bool const training : {false, true})
    for (double const drop_path : {0.0, 0.4})
      for (bool const twice : {false, true}) {
        auto const exact = run<cuda, BlockInDouble, double>(extents, training, drop_path, twice);
        auto const near = [&](outcome const& found, double values, double gradients) {
          CHECK(difference(found.values, exact.values) <= values);
          CHECK(difference(found.input, exact.input) <= gradients);
          CHECK(difference(found.weights, exact.weights) <= gradients);
        };
        near(run<cuda, Block, float>(extents, training, drop_path, twice), 1e-5, 2e-5);
        near(run<basic_cuda<precision::tf32>, Block, float>(extents, training, drop_path, twice), 2e-3, 5e-3);
        near(run<basic_cuda<precision::bf16>, Block, float>(extents, training, drop_path, twice), 2e-2, 4e-2);
        auto const again = run<basic_cuda<precision::bf16>, Block, float>(extents, training, drop_path, twice);
        CHECK(again.weights == run<basic_cuda<precision::bf16>, Block, float>(extents, training, drop_path, twice).weights);
      }
}

/// Norms that do something: scales, shifts and running statistics away from 1 and 0.
template <class Block>
void disturb_norms(Block& block) {
  std::uint64_t stream = 20;
  for_each_parameter(block, [&](std::string const& name, auto& p) {
    using T = typename std::remove_reference_t<decltype(p)>::value_type;
    if (name.find("bn.") == std::string::npos) return;
    auto numbers = normal_numbers<T>(p.size(), ++stream, T(0.3), T(0.8));
    if (name.ends_with("running_var"))
      for (T& v : numbers) v = v * v + T(0.1);
    p.write(numbers);
  });
}

/// What a block gives for fixed weights and inputs without training, in a context of either kind.
template <class Context, class Block, class T, class S>
std::vector<double> infer(S const& extents) {
  typename Context::device_type const device;
  Block block;
  parameters weights(block, device);
  initialise(block, 3);
  disturb_norms(block);
  Context context(device);
  auto const numbers = normal_numbers<T>(extents.size(), 11);
  return doubles(convert<T>(block(as_activations(context(view<T const, S>(numbers.data(), extents))))).host());
}

/// Norms folded into maps, against norms and maps one after the other in double, as a tape computes them.
template <class Block, class BlockInDouble, class S>
void compare_inference(S const& extents) {
  auto const exact = infer<tape<cuda>, BlockInDouble, double>(extents);
  CHECK(difference(infer<inference<cuda>, BlockInDouble, double>(extents), exact) <= 1e-13);
  CHECK(difference(infer<inference<cuda>, Block, float>(extents), exact) <= 1e-5);
  CHECK(difference(infer<inference<basic_cuda<precision::tf32>>, Block, float>(extents), exact) <= 2e-3);
  CHECK(difference(infer<inference<basic_cuda<precision::bf16>>, Block, float>(extents), exact) <= 2e-2);
}

}  // namespace

TEST_CASE("A convolutional block in every precision") {
  compare<models::convolution_block<96, 8, float>, models::convolution_block<96, 8, double>>(shape<dyn, 14, 14, 96>(5));
}

TEST_CASE("A transformer block in every precision") {
  compare<models::transformer_block<192, 3, 4, float>, models::transformer_block<192, 3, 4, double>>(shape<dyn, 49, 192>(5));
}

TEST_CASE("Blocks without training, their norms folded into the maps behind") {
  compare_inference<models::convolution_block<96, 8, float>, models::convolution_block<96, 8, double>>(shape<dyn, 14, 14, 96>(5));
  compare_inference<models::transformer_block<192, 3, 4, float>, models::transformer_block<192, 3, 4, double>>(shape<dyn, 49, 192>(5));
}
