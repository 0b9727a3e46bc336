#include <doctest/doctest.h>

#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include <dvla/io/tensor_archive.hpp>

#include "io_support.hpp"

using namespace dvla;
using namespace dvla_test;

namespace {

std::vector<float> ramp(std::size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

/// The folder of published files beside the checkout, or where DVLA_SHARED says; empty where there is none.
fs::path shared_folder() {
  if (char const* const named = std::getenv("DVLA_SHARED")) return named;
  fs::path const beside = fs::path(__FILE__).parent_path() / "../../../shared";
  return fs::exists(beside) ? beside : fs::path();
}

}  // namespace

TEST_CASE("a plain state dict gives its tensors in order, with a 0-dimensional one and integers") {
  pth_file const file(fixture("plain.pth"));
  REQUIRE(file.tensors().size() == 4);
  CHECK(file.tensors()[0].name == "weight");
  CHECK(file.find("weight").shape == std::vector<std::size_t>{2, 3});
  CHECK(read_as<float>(file.find("weight")) == ramp(6));
  CHECK(read_as<float>(file.find("bias")) == std::vector<float>{0, 0.25, 0.5});
  CHECK(file.find("scale").shape.empty());
  CHECK(read_as<float>(file.find("scale")) == std::vector<float>{1.5});
  CHECK(file.find("steps").type == dtype::i64);
  CHECK(read_as<int>(file.find("steps")) == std::vector<int>{7});
  CHECK(has(message_of([&] { (void)file.find("wieght"); }),
            "plain.pth has no tensor 'wieght'; the nearest of its 4 names: 'weight'"));
}

TEST_CASE("a training checkpoint is flattened, and its numbers and texts are metadata") {
  pth_file const file(fixture("checkpoint.pth"));
  CHECK(read_as<float>(file.find("state_dict.module.weight")) == ramp(6));
  CHECK(read_as<float>(file.find("parameter")) == ramp(2));
  CHECK(file.find("optimizer.state.0.exp_avg").shape == std::vector<std::size_t>{2, 3});
  CHECK(file.metadata("epoch") == "12");
  CHECK(file.metadata("best_acc") == "0.625");
  CHECK(file.metadata("arch") == "linear");
  CHECK(file.metadata("done") == "false");
  CHECK(!file.metadata("nothing"));
  CHECK(file.metadata("optimizer.param_groups.0.lr") == "0.001");
  CHECK(file.metadata("history.1") == "0.25");
  CHECK(file.metadata("classes.0") == "3");
  CHECK(file.metadata("size.1") == "5");
}

TEST_CASE("state_dict() strips the wrappers of a checkpoint and leaves a bare state dict alone") {
  auto const inner = pth_file(fixture("checkpoint.pth")).state_dict();
  REQUIRE(inner.tensors().size() == 2);
  CHECK(read_as<float>(inner.find("weight")) == ramp(6));
  CHECK(inner.metadata("epoch") == "12");
  CHECK(read_as<float>(pth_file(fixture("module.pth")).state_dict().find("bias")) == ramp(2));
  CHECK(pth_file(fixture("plain.pth")).state_dict().tensors().size() == 4);
}

TEST_CASE("a name made of a million wrappers is stripped of sixteen, and no stack ends on it") {
  std::string name = "weight";
  for (int i = 0; i < 16; ++i) name.insert(0, "state_dict.");
  CHECK(named_tensors("net.pth", {{name, dtype::f32, {0}, {}}}, {}, nullptr).state_dict().contains("weight"));
  name.assign(1000000 * 6, 'x');
  for (std::size_t i = 0; i < name.size(); ++i) name[i] = "model."[i % 6];
  auto const inner = named_tensors("net.pth", {{name, dtype::f32, {0}, {}}}, {}, nullptr).state_dict();
  CHECK(inner.tensors()[0].name.size() == name.size() - 16 * 6);
}

TEST_CASE("a submodule that happens to be called model is no wrapper") {
  named_tensors const two("net.pth", {{"model.weight", dtype::f32, {0}, {}}, {"head.weight", dtype::f32, {0}, {}}}, {}, nullptr);
  CHECK(two.state_dict().contains("head.weight"));
  named_tensors const trained("net.pth", {{"model.weight", dtype::f32, {0}, {}}, {"optimizer.lr", dtype::f32, {0}, {}}}, {},
                              nullptr);
  CHECK(trained.state_dict().contains("weight"));
  CHECK(trained.state_dict().tensors().size() == 1);
}

TEST_CASE("views are resolved to C order: transposed, a column, a block, expanded, and shared with the whole") {
  pth_file const file(fixture("views.pth"));
  CHECK(read_as<float>(file.find("whole")) == ramp(24));
  CHECK(file.find("transposed").shape == std::vector<std::size_t>{6, 4});
  auto const transposed = read_as<float>(file.find("transposed"));
  for (std::size_t i = 0; i < 24; ++i) CHECK(transposed[i] == static_cast<float>(i % 4 * 6 + i / 4));
  CHECK(read_as<float>(file.find("column")) == std::vector<float>{2, 8, 14, 20});
  CHECK(read_as<float>(file.find("block")) == std::vector<float>{8, 9, 10, 14, 15, 16});
  CHECK(read_as<float>(file.find("expanded")) == std::vector<float>{0, 0, 1, 1, 2, 2});
}

TEST_CASE("every storage type of PyTorch is read") {
  pth_file const file(fixture("dtypes.pth"));
  REQUIRE(file.tensors().size() == 10);
  for (auto const& tensor : file.tensors()) {
    CAPTURE(tensor.name);
    bool const flags = tensor.type == dtype::boolean;
    CHECK(read_as<float>(tensor) == (flags ? std::vector<float>{0, 1, 1, 1} : ramp(4)));
  }
  CHECK(file.find("bfloat16").type == dtype::bf16);
}

TEST_CASE("a semantic bank keeps class names, integer keys and an empty bank") {
  pth_file const file(fixture("bank.pth"));
  CHECK(file.find("semantic_feature.n01.nuisance").shape == std::vector<std::size_t>{0, 512});
  CHECK(read_as<float>(file.find("semantic_feature.n01.nuisance")).empty());
  CHECK(read_as<float>(file.find("semantic_feature.n01.intrinsic")) == ramp(8));
  CHECK(read_as<float>(file.find("semantic_feature.7")) == ramp(4));
}

TEST_CASE("open_tensors tells the formats apart by their content") {
  scratch_folder const folder;
  fs::copy_file(fixture("plain.pth"), folder / "misnamed.safetensors");
  CHECK(open_tensors(folder / "misnamed.safetensors").contains("weight"));
  CHECK(open_tensors(fixture("reference.safetensors")).contains("b.f32"));
  CHECK(has(message_of([] { (void)open_tensors(fixture("legacy.pth")); }), "torch before 1.6"));
  // A header of 0x4b50 bytes makes a safetensors file begin with "PK" as a zip archive does.
  write_bytes(folder / "pk", raw<std::uint64_t>(0x4b50) + "{}" + std::string(0x4b50 - 2, ' '));
  CHECK(open_tensors(folder / "pk").tensors().empty());
  write_bytes(folder / "neither", "something else entirely");
  CHECK(has(message_of([&] { (void)open_tensors(folder / "neither"); }), "damaged or no safetensors file"));
}

TEST_CASE("the published semantic banks load with one vector of 512 numbers a class") {
  fs::path const shared = shared_folder();
  if (shared.empty()) {
    MESSAGE("skipped: no published files; name their folder in DVLA_SHARED");
    return;
  }
  struct bank {
    std::string name;
    std::size_t classes;
  };
  for (bank const& published : {bank{"CIFAR-FS", 100}, {"FC100", 100}, {"miniImageNet", 100}, {"tieredImageNet", 511}}) {
    CAPTURE(published.name);
    pth_file const file(shared / "semantics" / (published.name + "_semantic_clip_cot.pth"));
    CHECK(file.tensors().size() == published.classes);
    for (auto const& tensor : file.tensors()) {
      CHECK(tensor.name.starts_with("semantic_feature."));
      CHECK(tensor.shape == std::vector<std::size_t>{512});
      auto const values = read_as<float>(tensor);
      float const norm = std::inner_product(values.begin(), values.end(), values.begin(), 0.0f);
      CHECK(norm > 10.0f);
      CHECK(norm < 1000.0f);
    }
  }
}
