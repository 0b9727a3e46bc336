// The list of models.
#include <dvla/core/error.hpp>

#include "model_tool.hpp"

namespace cli {
namespace {

struct entry {
  char const* name;
  std::unique_ptr<model_tool> (*make)();
};

constexpr entry models[] = {{"visformer-tiny-224", make_visformer_tiny_224},
                            {"visformer-tiny-84", make_visformer_tiny_84},
                            {"visformer-small-32", make_visformer_small_32},
                            {"conv4-84", make_conv4_84},
                            {"conv4-32", make_conv4_32}};

}  // namespace

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (auto const& m : models) names.emplace_back(m.name);
  return names;
}

std::unique_ptr<model_tool> make_model(std::string_view name) {
  std::string known;
  for (auto const& m : models) {
    if (m.name == name) return m.make();
    known += (known.empty() ? "" : ", ") + std::string(m.name);
  }
  dvla::fail("--model ", name, " is not known; give one of ", known);
}

}  // namespace cli
