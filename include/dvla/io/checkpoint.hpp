// Models in files: written as safetensors with the names and layouts of published checkpoints, read from those and from
// PyTorch's own format. A training checkpoint also holds what an exact continuation needs.
#pragma once

#include <optional>

#include <dvla/io/tensor_archive.hpp>
#include <dvla/nn/optimizer.hpp>
#include <dvla/nn/training_state.hpp>

namespace dvla::inline DVLA_ABI {

/// Which part of a file goes into which part of a model.
struct load_options {
  std::string model_prefix{};    ///< only parameters whose names begin with this; the file's names lack it
  std::string archive_prefix{};  ///< what the file's names have in front
  bool skip_other_head = false;  ///< leaves a head of another number of classes, or a missing one, as it is
  bool strict = true;            ///< throws where the names or shapes of model and file differ
};

/// What did not match, by the file's names.
struct load_report {
  std::size_t loaded = 0;
  std::vector<std::string> missing{}, unexpected{}, mismatched{}, skipped{};

  [[nodiscard]] bool complete() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }

  /// "2 tensors are missing: 'a', 'b'; ..."; empty when everything matched.
  [[nodiscard]] std::string sentence() const {
    std::string text;
    auto const add = [&](std::vector<std::string> const& names, std::string_view what) {
      if (names.empty()) return;
      text += concat(text.empty() ? "" : "; ", names.size(), names.size() == 1 ? " tensor " : " tensors ", what, ":");
      for (std::size_t i = 0; i < names.size() && i < 8; ++i) text += concat(i == 0 ? " " : ", ", names[i]);
      if (names.size() > 8) text += concat(" and ", names.size() - 8, " more");
    };
    add(missing, names_of(missing.size(), "is missing", "are missing"));
    add(unexpected, names_of(unexpected.size(), "is not part of the model", "are not part of the model"));
    add(mismatched, names_of(mismatched.size(), "has another shape", "have other shapes"));
    return text;
  }

 private:
  static std::string_view names_of(std::size_t count, std::string_view one, std::string_view more) {
    return count == 1 ? one : more;
  }
};

namespace detail {

/// Names that files hold beside a model's own: batch counters of BatchNorm, training state, and a temperature that some
/// published Visformers carry.
[[nodiscard]] inline bool beside_the_model(std::string_view name) {
  return name.ends_with("num_batches_tracked") || name.starts_with("optimizer.") || name.starts_with("training.") ||
         name == "log_tau";
}

/// Calls f(index in the file, index in memory) for every element of a tensor.
template <class F>
void over_layout(archive_layout const& layout, F&& f) {
  std::array<std::size_t, 4> n{1, 1, 1, 1}, step{};
  for (std::size_t i = 0; i < layout.rank; ++i) {
    n[4 - layout.rank + i] = layout.extents[i];
    step[4 - layout.rank + i] = layout.strides[i];
  }
  std::size_t file = 0;
  for (std::size_t a = 0; a < n[0]; ++a)
    for (std::size_t b = 0; b < n[1]; ++b)
      for (std::size_t c = 0; c < n[2]; ++c)
        for (std::size_t d = 0; d < n[3]; ++d) f(file++, a * step[0] + b * step[1] + c * step[2] + d * step[3]);
}

[[nodiscard]] inline std::vector<std::size_t> file_shape(archive_layout const& layout) {
  return {layout.extents.begin(), layout.extents.begin() + static_cast<std::ptrdiff_t>(layout.rank)};
}

/// Whether a name is a classification head's.
[[nodiscard]] inline bool is_head(std::string_view name) { return name == "head.weight" || name == "head.bias"; }

}  // namespace detail

/// Copies the tensors of a file into a model's parameters and statistics. Nothing is changed when it throws.
template <class T, class Device>
load_report load_weights(parameters<T, Device>& weights, named_tensors const& archive, load_options const& options = {}) {
  load_report report;
  std::vector<std::pair<typename parameters<T, Device>::entry const*, stored_tensor const*>> found;
  std::vector<std::string> known;
  for (auto const& e : weights.entries()) {
    if (e.name.compare(0, options.model_prefix.size(), options.model_prefix) != 0) continue;
    std::string const own = e.name.substr(options.model_prefix.size()), name = options.archive_prefix + own;
    bool const may_skip = options.skip_other_head && (detail::is_head(own) || detail::is_head(e.name.substr(e.name.find('.') + 1)));
    known.push_back(name);
    if (!archive.contains(name)) {
      (may_skip ? report.skipped : report.missing).push_back(concat("'", name, "'"));
      continue;
    }
    auto const& stored = archive.find(name);
    auto const wanted = detail::file_shape(e.layout);
    if (stored.shape != wanted) {
      (may_skip ? report.skipped : report.mismatched)
          .push_back(concat("'", name, "' ", shape_text(stored.shape), " in the file, ", shape_text(wanted), " in the model"));
      continue;
    }
    found.emplace_back(&e, &stored);
  }
  std::sort(known.begin(), known.end());
  for (auto const& t : archive.tensors())
    if (t.name.compare(0, options.archive_prefix.size(), options.archive_prefix) == 0 && !detail::beside_the_model(t.name) &&
        !std::binary_search(known.begin(), known.end(), t.name))
      report.unexpected.push_back(concat("'", t.name, "'"));
  if (options.strict && !report.complete())
    fail(archive.source(), " does not fit the model: ", report.sentence(), "; check that file and model are of one kind");
  for (auto const& [e, stored] : found) {
    auto const values = read_as<T>(*stored);
    std::vector<T> memory(e->count);
    detail::over_layout(e->layout, [&](std::size_t file, std::size_t place) { memory[place] = values[file]; });
    weights.write(*e, memory);
  }
  weights.weights_changed();
  report.loaded = found.size();
  return report;
}

/// Adds a model's parameters and statistics under their published names; `steps` is what BatchNorm's counters say.
/// `values` replaces the weights, for averaged ones in the same flat layout.
template <class T, class Device>
void add_weights(safetensors_writer& writer, parameters<T, Device> const& weights, std::uint64_t steps,
                 tensor<T, shape<dyn>, Device> const* values = nullptr) {
  std::vector<T> const replaced = values != nullptr ? values->read() : std::vector<T>{};
  for (auto const& e : weights.entries()) {
    auto const own = values != nullptr && e.kind == role::weight ? std::vector<T>{} : weights.read(e);
    T const* const memory = own.empty() ? replaced.data() + e.offset : own.data();
    std::vector<T> out(e.count);
    detail::over_layout(e.layout, [&](std::size_t file, std::size_t place) { out[file] = memory[place]; });
    writer.add(e.name, detail::file_shape(e.layout), std::span<T const>(out));
    constexpr std::string_view last = "running_var";
    if (e.kind == role::statistic && e.name.ends_with(last)) {
      std::int64_t const count = static_cast<std::int64_t>(steps);
      writer.add(e.name.substr(0, e.name.size() - last.size()) + "num_batches_tracked", {},
                 std::span<std::int64_t const>(&count, 1));
    }
  }
}

/// Texts stored with a model: what it is and how it was made.
using checkpoint_texts = std::vector<std::pair<std::string, std::string>>;

/// Writes a model, complete or not at all.
template <class T, class Device>
void save_model(std::filesystem::path const& path, parameters<T, Device> const& weights, std::uint64_t steps,
                checkpoint_texts const& texts, tensor<T, shape<dyn>, Device> const* values = nullptr) {
  safetensors_writer writer;
  add_weights(writer, weights, steps, values);
  for (auto const& [key, text] : texts) writer.metadata(key, text);
  writer.write(path);
}

/// Writes everything that an exact continuation needs, complete or not at all; the file is also a model.
template <class T, class Device>
void save_training(std::filesystem::path const& path, parameters<T, Device> const& weights, adamw<T, Device>& optimizer,
                   training_state const& state, checkpoint_texts const& texts, tensor<T, shape<dyn>, Device> const* average = nullptr) {
  safetensors_writer writer;
  add_weights(writer, weights, state.step);
  auto const flat = [&](std::string name, tensor<T, shape<dyn>, Device> const& t) {
    auto const host = t.read();
    writer.add(std::move(name), {host.size()}, std::span<T const>(host));
  };
  flat("optimizer.first_moments", optimizer.first_moments());
  flat("optimizer.second_moments", optimizer.second_moments());
  if (average != nullptr) flat("training.average", *average);
  nlohmann::json const place{{"seed", state.seed},
                             {"step", state.step},
                             {"optimizer_steps", optimizer.steps()},
                             {"seconds", state.seconds},
                             {"best_accuracy", state.best_accuracy},
                             {"best_step", state.best_step},
                             {"baselines", state.baselines}};
  writer.metadata("dvla.state", place.dump());
  for (auto const& [key, text] : texts) writer.metadata(key, text);
  writer.write(path);
}

/// Where a training checkpoint stands; throws for a file that is none.
[[nodiscard]] inline training_state read_training_state(named_tensors const& archive) {
  auto const text = archive.metadata("dvla.state");
  expect(text.has_value(), archive.source(), " is a model but no training checkpoint; continue from the run's last.safetensors");
  try {
    auto const place = nlohmann::json::parse(*text);
    training_state state;
    state.seed = place.at("seed");
    state.step = place.at("step");
    state.seconds = place.at("seconds");
    state.best_accuracy = place.at("best_accuracy");
    state.best_step = place.at("best_step");
    state.baselines = place.at("baselines").get<std::vector<double>>();
    return state;
  } catch (nlohmann::json::exception const& problem) {
    fail(archive.source(), " is damaged: its training state cannot be read (", problem.what(), ")");
  }
}

/// Brings back weights, statistics, moments and, if given, averaged weights.
template <class T, class Device>
[[nodiscard]] training_state load_training(named_tensors const& archive, parameters<T, Device>& weights, adamw<T, Device>& optimizer,
                                           tensor<T, shape<dyn>, Device>* average = nullptr) {
  auto const state = read_training_state(archive);
  load_weights(weights, archive);
  auto const flat = [&](std::string_view name, tensor<T, shape<dyn>, Device>& t) {
    auto const& stored = archive.find(name);
    expect(stored.size() == t.size(), archive.source(), ": '", name, "' has ", stored.size(), " elements, the model needs ",
           t.size(), "; continue with the model and version that wrote it");
    auto const values = read_as<T>(stored);
    t.write(values);
  };
  flat("optimizer.first_moments", optimizer.first_moments());
  flat("optimizer.second_moments", optimizer.second_moments());
  if (average != nullptr) flat("training.average", *average);
  optimizer.steps(state.step);
  return state;
}

}  // namespace dvla::inline DVLA_ABI
