// A folder as Hugging Face lays out a model: weights, config.json, the tokenizer's files.
#pragma once

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include <dvla/core/sha256.hpp>
#include <dvla/io/checkpoint.hpp>
#include <dvla/semantics/folder_files.hpp>

namespace dvla::inline DVLA_ABI {

/// The files of a published model. A path may name the folder, or its file of weights.
class model_folder {
 public:
  /// Throws where there is no such folder or file.
  explicit model_folder(std::filesystem::path path) : folder_(std::move(path)) {
    if (std::filesystem::is_regular_file(folder_)) {
      weights_ = folder_;
      folder_ = folder_.has_parent_path() ? folder_.parent_path() : std::filesystem::path(".");
    }
    expect(std::filesystem::is_directory(folder_), folder_.string(),
           ": there is no such folder; give one with a model's weights and its tokenizer's files");
  }

  /// The folder, for messages.
  [[nodiscard]] std::string name() const { return folder_.string(); }

  /// The first of these files that is there.
  [[nodiscard]] std::optional<std::filesystem::path> first_of(std::initializer_list<char const*> names) const {
    for (char const* const name : names)
      if (std::filesystem::is_regular_file(folder_ / name)) return folder_ / name;
    return std::nullopt;
  }

  /// The weights: the file that the path named, or one with a usual name, or the only one of a usual kind. Throws where there is none.
  [[nodiscard]] named_tensors weights() const {
    if (!weights_.empty()) return open_tensors(weights_);
    auto const usual = first_of({"model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"});
    if (usual) return open_tensors(*usual);
    std::vector<std::filesystem::path> found;
    for (auto const& path : files_of(folder_)) {
      auto const kind = path.extension();
      if (kind == ".safetensors" || kind == ".pt" || kind == ".pth" || kind == ".bin") found.push_back(path);
    }
    expect(!found.empty(), name(), " holds no weights; put the model's model.safetensors or pytorch_model.bin there");
    expect(found.size() == 1, name(), " holds ", found.size(), " files of weights and none has a usual name; name the one to open");
    return open_tensors(found.front());
  }

  /// A JSON file of the folder; null where it is not there. Throws for one that is not JSON.
  [[nodiscard]] nlohmann::json json(char const* file) const {
    auto const path = first_of({file});
    if (!path) return {};
    auto parsed = nlohmann::json::parse(text(*path), nullptr, false);
    expect(!parsed.is_discarded(), path->string(), " is no JSON; copy the file again");
    return parsed;
  }

  /// A value of a JSON object, or `otherwise` where there is none. Throws for one of another kind.
  template <class V>
  [[nodiscard]] V value(nlohmann::json const& object, char const* key, V otherwise) const {
    if (!object.is_object() || !object.contains(key) || object.at(key).is_null()) return otherwise;
    try {
      return object.at(key).get<V>();
    } catch (nlohmann::json::exception const& problem) {
      fail(name(), ": '", key, "' of a configuration cannot be read: ", problem.what(), "; copy the model's files again");
    }
  }

  [[nodiscard]] static std::string text(std::filesystem::path const& path) {
    std::ifstream file(path, std::ios::binary);
    expect(file.good(), path.string(), ": the file cannot be read; check its permissions");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  /// The lines of a file without their ends.
  [[nodiscard]] static std::vector<std::string> lines(std::string_view text) {
    std::vector<std::string> out;
    while (!text.empty()) {
      std::size_t const end = std::min(text.find('\n'), text.size());
      auto line = text.substr(0, end);
      if (line.ends_with('\r')) line.remove_suffix(1);
      out.emplace_back(line);
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
  }

 private:
  std::filesystem::path folder_, weights_;
};

namespace detail {

/// The tensors under the names that `rename` gives them; those with an empty one are left out.
template <class Rename>
[[nodiscard]] named_tensors renamed(named_tensors const& archive, Rename const& rename) {
  std::vector<stored_tensor> kept;
  for (auto tensor : archive.tensors()) {
    tensor.name = rename(std::string_view(tensor.name));
    if (!tensor.name.empty()) kept.push_back(std::move(tensor));
  }
  return {archive.source(), std::move(kept), archive.metadata(), std::make_shared<named_tensors>(archive)};
}

/// The number of blocks whose tensors are called prefix0..., prefix1..., without a gap.
[[nodiscard]] inline std::size_t block_count(named_tensors const& archive, std::string const& prefix, std::string const& one_of_each) {
  std::size_t count = 0;
  while (archive.contains(concat(prefix, count, one_of_each))) ++count;
  return count;
}

/// A tensor's extents; throws unless there are `rank` of them.
[[nodiscard]] inline std::vector<std::size_t> const& extents_of(named_tensors const& archive, std::string_view name, std::size_t rank) {
  auto const& tensor = archive.find(name);
  expect(tensor.shape.size() == rank, archive.source(), ": tensor '", name, "' has shape ", shape_text(tensor.shape), ", expected ", rank,
         " extents; is this the file of a text encoder?");
  return tensor.shape;
}

/// A hash of a model's weights as it computes with them, whatever file and names they came from.
template <class T>
[[nodiscard]] std::string weights_hash(parameters<T> const& weights, executor* pool) {
  auto const& entries = weights.entries();
  std::vector<std::string> each(entries.size());
  parallel_for(pool, entries.size(), 1, [&](std::size_t i, std::size_t) {
    auto const bytes = std::as_bytes(std::span(weights.data(entries[i]), entries[i].count));
    each[i] = concat(entries[i].name, ' ', sha256_hex(bytes), '\n');
  });
  sha256 all;
  for (auto const& line : each) all.update(line);
  return all.finish_hex().substr(0, 16);
}

}  // namespace detail
}  // namespace dvla::inline DVLA_ABI
