// The models of the tool behind one interface: each configuration is compiled in a file of its own.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <dvla/kernels/precision.hpp>

#include "options.hpp"

namespace cli {

/// What the commands do with one model configuration. Failures are thrown as sentences.
class model_tool {
 public:
  virtual ~model_tool() = default;
  virtual void pretrain(pretrain_options const& options) const = 0;
  virtual void meta_train(meta_options const& options) const = 0;
  virtual void evaluate(evaluate_options const& options) const = 0;
  /// Side of the images, parameters and modules, in lines for people.
  [[nodiscard]] virtual std::string describe(std::size_t classes) const = 0;
};

[[nodiscard]] std::unique_ptr<model_tool> make_visformer_tiny_224();
[[nodiscard]] std::unique_ptr<model_tool> make_visformer_tiny_84();
[[nodiscard]] std::unique_ptr<model_tool> make_visformer_small_32();
[[nodiscard]] std::unique_ptr<model_tool> make_conv4_84();
[[nodiscard]] std::unique_ptr<model_tool> make_conv4_32();

/// The same on a card; in a build without CUDA none of them is there.
template <dvla::precision P>
struct make_on_card {
  [[nodiscard]] static std::unique_ptr<model_tool> visformer_tiny_224();
  [[nodiscard]] static std::unique_ptr<model_tool> visformer_tiny_84();
  [[nodiscard]] static std::unique_ptr<model_tool> visformer_small_32();
  [[nodiscard]] static std::unique_ptr<model_tool> conv4_84();
  [[nodiscard]] static std::unique_ptr<model_tool> conv4_32();
};

/// The models' names as --model takes them.
[[nodiscard]] std::vector<std::string> model_names();
/// Throws for a name that is not one of them, and for a device or precision that is not there.
[[nodiscard]] std::unique_ptr<model_tool> make_model(std::string_view name, compute_options const& where);

}  // namespace cli
