#include <doctest/doctest.h>

#include <filesystem>

#include <dvla/io/checkpoint.hpp>
#include <dvla/models/visformer.hpp>

using namespace dvla;

namespace {

constexpr visformer_config tiny{.image = 16,
                                .stem_channels = 8,
                                .stem_kernel = 3,
                                .stem_stride = 1,
                                .patch = {2, 2, 2},
                                .dim = 16,
                                .depth = {1, 1, 1},
                                .heads = 2,
                                .groups = 2};
using network = visformer<tiny>;

struct folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / concat("dvla_checkpoint_", ::getpid());
  folder() { std::filesystem::create_directories(path); }
  ~folder() { std::filesystem::remove_all(path); }
};

struct laid_out {
  network net;
  parameters<float> weights;
  explicit laid_out(std::uint64_t seed, std::size_t classes = 5) : net(classes), weights(net) { initialise(net, seed); }
};

bool equal(laid_out const& a, laid_out const& b) {
  auto const same = [](auto const& x, auto const& y) { return std::equal(x.data(), x.data() + x.size(), y.data()); };
  return same(a.weights.weights(), b.weights.weights()) && same(a.weights.statistics(), b.weights.statistics());
}

/// Sets every gradient, but not the unused elements between parameters.
void set_gradients(laid_out& model, float value) {
  for (auto const& e : model.weights.entries())
    if (e.kind == role::weight) std::fill_n(model.weights.gradients().data() + e.offset, e.count, value);
}

}  // namespace

TEST_CASE("a model comes back to the bit, convolutions stand as (O, I, kh, kw), position maps as (1, C, H, W)") {
  folder const dir;
  laid_out const first(1);
  save_model(dir.path / "m.safetensors", first.weights, 42, {{"note", "a model"}});
  auto const archive = open_tensors(dir.path / "m.safetensors");
  laid_out second(2);
  CHECK_FALSE(equal(first, second));
  CHECK(load_weights(second.weights, archive).complete());
  CHECK(equal(first, second));
  CHECK(archive.metadata("note") == "a model");
  CHECK(read_as<std::int64_t>(archive.find("norm.bn.num_batches_tracked")) == std::vector<std::int64_t>{42});

  auto const& conv = archive.find("stage1.0.mlp.conv2.weight");
  CHECK(conv.shape == std::vector<std::size_t>{16, 8, 3, 3});
  auto const values = read_as<float>(conv);
  float const* const memory = first.net.stage1[0].mlp.conv2.weight.data();
  CHECK(values[((5 * 8 + 3) * 3 + 2) * 3 + 1] == memory[((5 * 3 + 2) * 3 + 1) * 8 + 3]);
  auto const& map = archive.find("pos_embed2");
  CHECK(map.shape == std::vector<std::size_t>{1, 16, 4, 4});
  CHECK(read_as<float>(map)[(7 * 4 + 2) * 4 + 3] == first.net.pos_embed2.data()[(2 * 4 + 3) * 16 + 7]);
}

TEST_CASE("missing, foreign and misshapen tensors are named in one sentence, and nothing is changed") {
  folder const dir;
  laid_out const source(1);
  safetensors_writer writer;
  for (auto const& e : source.weights.entries()) {
    if (e.name == "norm.bn.bias") continue;
    auto shape = detail::file_shape(e.layout);
    if (e.name == "stem.0.weight") shape = {e.count};
    writer.add(e.name, shape, std::span<float const>(source.weights.data(e), e.count));
  }
  float const one = 1;
  writer.add("surplus", {}, std::span<float const>(&one, 1));
  writer.write(dir.path / "m.safetensors");
  auto const archive = open_tensors(dir.path / "m.safetensors");
  laid_out target(2), untouched(2);
  CHECK_THROWS_WITH_AS(load_weights(target.weights, archive), doctest::Contains("1 tensor is missing: 'norm.bn.bias'"), error);
  CHECK_THROWS_WITH_AS(load_weights(target.weights, archive), doctest::Contains("1 tensor is not part of the model: 'surplus'"),
                       error);
  CHECK_THROWS_WITH_AS(load_weights(target.weights, archive),
                       doctest::Contains("'stem.0.weight' (216) in the file, (8, 3, 3, 3) in the model"), error);
  CHECK(equal(target, untouched));
  load_options lenient;
  lenient.strict = false;
  auto const report = load_weights(target.weights, archive, lenient);
  CHECK(report.missing.size() == 1);
  CHECK(report.unexpected.size() == 1);
  CHECK(report.mismatched.size() == 1);
  CHECK(report.loaded == source.weights.entries().size() - 2);
}

TEST_CASE("a head of another number of classes is left alone when that is asked for") {
  folder const dir;
  laid_out const source(1, 7);
  save_model(dir.path / "m.safetensors", source.weights, 0, {});
  auto const archive = open_tensors(dir.path / "m.safetensors");
  laid_out target(2, 5);
  CHECK_THROWS_WITH_AS(load_weights(target.weights, archive),
                       doctest::Contains("'head.weight' (7, 32) in the file, (5, 32) in the model"), error);
  load_options options;
  options.skip_other_head = true;
  auto const report = load_weights(target.weights, archive, options);
  CHECK(report.skipped.size() == 2);
  CHECK(report.loaded == source.weights.entries().size() - 2);
}

TEST_CASE("prefixes of model and file are taken off") {
  folder const dir;
  laid_out const source(1);
  safetensors_writer writer;
  for (auto const& e : source.weights.entries())
    if (e.name.starts_with("norm.bn."))
      writer.add("net." + e.name.substr(8), {e.count}, std::span<float const>(source.weights.data(e), e.count));
  writer.write(dir.path / "m.safetensors");
  laid_out target(2);
  load_options options;
  options.model_prefix = "norm.bn.";
  options.archive_prefix = "net.";
  CHECK(load_weights(target.weights, open_tensors(dir.path / "m.safetensors"), options).loaded == 4);
}

TEST_CASE("a training checkpoint is also a model; a model is no training checkpoint") {
  folder const dir;
  laid_out source(1);
  adamw<float> optimizer(source.weights, 1e-3);
  set_gradients(source, 0.5f);
  optimizer.step();
  training_state const state{77, 1, 2.5, 0.625, 1, {0.25, -0.5}};
  save_training(dir.path / "t.safetensors", source.weights, optimizer, state, {});
  save_model(dir.path / "m.safetensors", source.weights, 1, {});

  laid_out as_model(2), continued(3);
  CHECK(load_weights(as_model.weights, open_tensors(dir.path / "t.safetensors")).complete());
  CHECK(equal(source, as_model));
  adamw<float> moments(continued.weights, 1e-3);
  auto const back = load_training(open_tensors(dir.path / "t.safetensors"), continued.weights, moments);
  CHECK(back.seed == 77);
  CHECK(back.step == 1);
  CHECK(back.seconds == 2.5);
  CHECK(back.best_accuracy == 0.625);
  CHECK(back.baselines == std::vector<double>{0.25, -0.5});
  CHECK(moments.steps() == 1);
  set_gradients(continued, -0.25f);
  set_gradients(source, -0.25f);
  moments.step();
  optimizer.step();
  CHECK(equal(source, continued));
  CHECK_THROWS_WITH_AS((void)read_training_state(open_tensors(dir.path / "m.safetensors")),
                       doctest::Contains("no training checkpoint"), error);
}
