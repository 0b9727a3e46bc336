// The list of models, on the CPU and on a card.
#include <dvla/core/error.hpp>

#include "model_tool.hpp"

namespace cli {
namespace {

using maker = std::unique_ptr<model_tool> (*)();

struct entry {
  char const* name;
  maker cpu, f32, tf32, bf16;
};

#if defined(DVLA_TOOL_CUDA)
using strict = make_on_card<dvla::precision::f32>;
using fast = make_on_card<dvla::precision::tf32>;
using narrow = make_on_card<dvla::precision::bf16>;
#define DVLA_TOOL_MODEL(name, model) \
  { name, make_##model, strict::model, fast::model, narrow::model }
#else
#define DVLA_TOOL_MODEL(name, model) \
  { name, make_##model, nullptr, nullptr, nullptr }
#endif

constexpr entry models[] = {DVLA_TOOL_MODEL("visformer-tiny-224", visformer_tiny_224),
                            DVLA_TOOL_MODEL("visformer-tiny-84", visformer_tiny_84),
                            DVLA_TOOL_MODEL("visformer-small-32", visformer_small_32), DVLA_TOOL_MODEL("conv4-84", conv4_84),
                            DVLA_TOOL_MODEL("conv4-32", conv4_32)};

[[nodiscard]] maker choose(entry const& model, compute_options const& where) {
  if (where.device == "cpu") {
    dvla::expect(!where.precision || *where.precision == "f32", "--precision ", where.precision.value_or(""),
                 " is for --device cuda; the CPU computes in f32");
    dvla::expect(!where.images_on, "--images-on ", where.images_on.value_or(""),
                 " is for --device cuda; for the CPU the host prepares the images");
    return model.cpu;
  }
  std::string const precision = where.precision.value_or("tf32");
  maker const on_card = precision == "f32" ? model.f32 : precision == "tf32" ? model.tf32 : model.bf16;
  dvla::expect(on_card != nullptr,
               "--device cuda: this build of dvla has no CUDA; build it where nvcc is (DVLA_CUDA=ON), or leave the option out");
  return on_card;
}

}  // namespace

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (auto const& m : models) names.emplace_back(m.name);
  return names;
}

std::unique_ptr<model_tool> make_model(std::string_view name, compute_options const& where) {
  std::string known;
  for (auto const& m : models) {
    if (m.name == name) return choose(m, where)();
    known += (known.empty() ? "" : ", ") + std::string(m.name);
  }
  dvla::fail("--model ", name, " is not known; give one of ", known);
}

}  // namespace cli
