// dvla info and dvla convert.
#include "files_command.hpp"

#include <cstdio>

#include <dvla/core/simd.hpp>
#include <dvla/core/thread_pool.hpp>
#include <dvla/version.hpp>

#include "device_info.hpp"
#include "model_tool.hpp"
#include "run_support.hpp"

namespace cli {
namespace {

/// Learned elements of a file: everything but statistics, counters and training state.
std::size_t learned_elements(dvla::tensor_archive const& archive) {
  std::size_t total = 0;
  for (auto const& t : archive.tensors()) {
    bool const statistic = t.name.ends_with("running_mean") || t.name.ends_with("running_var");
    if (!statistic && !dvla::detail::beside_the_model(t.name)) total += t.size();
  }
  return total;
}

void describe_checkpoint(std::string const& file) {
  auto const archive = dvla::open_tensors(file).state_dict();
  std::printf("%s: %zu tensors, %zu learned elements\n", file.c_str(), archive.tensors().size(), learned_elements(archive));
  if (archive.metadata("dvla.state")) {
    auto const state = dvla::read_training_state(archive);
    std::printf("  training state: step %llu, %.0f s, seed %llu", static_cast<unsigned long long>(state.step), state.seconds,
                static_cast<unsigned long long>(state.seed));
    if (state.best_accuracy >= 0)
      std::printf(", best validation %.2f %% at step %llu", 100 * state.best_accuracy,
                  static_cast<unsigned long long>(state.best_step));
    std::printf("\n");
  }
  auto const configuration = configuration_of(archive);
  for (auto const& [key, value] : configuration.items()) std::printf("  %-20s %s\n", key.c_str(), value.dump().c_str());
}

}  // namespace

void info(info_options const& o) {
  dvla::thread_pool const pool(o.threads);
  std::printf("dvla %s, %s instructions, %zu threads\n", DVLA_VERSION_STRING, xsimd::default_arch::name(), pool.threads());
  if (o.device) {
    std::fputs(describe_device().c_str(), stdout);
    return;
  }
  if (!o.checkpoint.empty()) describe_checkpoint(o.checkpoint);
  if (o.checkpoint.empty() || !o.model.empty())
    for (auto const& name : model_names())
      if (o.model.empty() || o.model == name) std::fputs(make_model(name, {})->describe(64).c_str(), stdout);
}

void convert(convert_options const& o) {
  auto const whole = dvla::open_tensors(o.from);
  auto const model = whole.state_dict();
  dvla::safetensors_writer writer;
  std::string changes;
  std::size_t kept = 0, renamed = 0;
  for (auto const& t : whole.tensors()) {
    // state_dict() shares the bytes, so that a tensor is known by them whatever its name has become.
    dvla::stored_tensor const* same = nullptr;
    for (auto const& m : model.tensors())
      if (m.bytes.data() == t.bytes.data() && t.name.ends_with(m.name)) same = &m;
    bool const wanted = same != nullptr && same->name.compare(0, o.strip.size(), o.strip) == 0;
    std::string const name = wanted ? same->name.substr(o.strip.size()) : "";
    if (wanted) writer.add(name, t.type, t.shape, t.bytes);
    if (!wanted)
      changes += dvla::concat("left out ", t.name, "\n");
    else if (name != t.name)
      changes += dvla::concat(t.name, " -> ", name, "\n");
    kept += wanted;
    renamed += wanted && name != t.name;
  }
  dvla::expect(kept > 0, o.from, " has no tensor whose name begins with '", o.strip, "'; give another --strip");
  for (auto const& [key, text] : model.metadata()) writer.metadata(key, text);
  writer.write(o.to);
  std::fputs(changes.c_str(), stdout);
  std::printf("%s: %zu tensors, %zu renamed, %zu left out\n", o.to.c_str(), kept, renamed, whole.tensors().size() - kept);
}

}  // namespace cli
