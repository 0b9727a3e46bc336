// The names of CLIP's text tower in published files, brought to Hugging Face's: OpenAI's and open_clip's, with whatever stands before
// them, and files that hold the image tower as well.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <dvla/semantics/model_folder.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

/// Owns the tensors that are made anew, and keeps the file they came from.
struct clip_storage {
  named_tensors archive;
  std::vector<std::vector<std::byte>> made{};
};

/// A matrix transposed, element by element of any type.
[[nodiscard]] inline stored_tensor transposed_copy(stored_tensor const& from, clip_storage& storage, std::string name) {
  std::size_t const rows = from.shape[0], columns = from.shape[1], size = dtype_size(from.type);
  auto& bytes = storage.made.emplace_back(from.bytes.size());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; ++c) std::memcpy(&bytes[(c * rows + r) * size], &from.bytes[(r * columns + c) * size], size);
  return {std::move(name), from.type, {columns, rows}, bytes};
}

/// The identity of that width: what stands for a missing projection.
[[nodiscard]] inline stored_tensor identity_matrix(std::size_t width, clip_storage& storage, std::string name) {
  auto& bytes = storage.made.emplace_back(width * width * sizeof(float));
  float const one = 1;
  for (std::size_t i = 0; i < width; ++i) std::memcpy(&bytes[i * (width + 1) * sizeof(float)], &one, sizeof(float));
  return {std::move(name), dtype::f32, {width, width}, bytes};
}

/// Adds a tensor of OpenAI's under Hugging Face's name; query, key and value lie in one there.
inline void add_openai_tensor(std::vector<stored_tensor>& out, stored_tensor const& tensor, std::string_view name, clip_storage& storage) {
  auto const add = [&](std::string to) {
    out.push_back(tensor);
    out.back().name = std::move(to);
  };
  if (name == "token_embedding.weight") return add("text_model.embeddings.token_embedding.weight");
  if (name == "positional_embedding") return add("text_model.embeddings.position_embedding.weight");
  if (name == "text_projection" && tensor.shape.size() == 2)
    return out.push_back(transposed_copy(tensor, storage, "text_projection.weight"));
  if (name == "text_projection.weight") return add("text_projection.weight");
  if (name.starts_with("ln_final.")) return add(concat("text_model.final_layer_norm.", name.substr(9)));
  constexpr std::string_view blocks = "transformer.resblocks.";
  if (!name.starts_with(blocks)) return;  // the image tower, the temperature, sizes
  std::string_view rest = name.substr(blocks.size());
  std::size_t const dot = std::min(rest.find('.'), rest.size() - 1);
  std::string const block = concat("text_model.encoder.layers.", rest.substr(0, dot + 1));
  rest.remove_prefix(dot + 1);
  if (rest.starts_with("attn.in_proj_")) {
    auto const kind = rest.substr(13);
    expect(!tensor.shape.empty() && tensor.shape[0] % 3 == 0, storage.archive.source(), ": tensor '", tensor.name, "' has shape ",
           shape_text(tensor.shape), ", which are no rows of query, key and value");
    std::size_t const part = tensor.bytes.size() / 3;
    for (std::size_t i = 0; i < 3; ++i) {
      add(concat(block, "self_attn.", "qkv"[i], "_proj.", kind));
      out.back().shape[0] /= 3;
      out.back().bytes = tensor.bytes.subspan(i * part, part);
    }
    return;
  }
  for (auto const& [theirs, ours] : {std::pair<std::string_view, std::string_view>{"ln_1.", "layer_norm1."},
                                     {"ln_2.", "layer_norm2."},
                                     {"attn.out_proj.", "self_attn.out_proj."},
                                     {"mlp.c_fc.", "mlp.fc1."},
                                     {"mlp.c_proj.", "mlp.fc2."}})
    if (rest.starts_with(theirs)) return add(concat(block, ours, rest.substr(theirs.size())));
  add(concat(block, rest));  // unknown: the loader names it
}

/// What stands before the names of the text tower: that of its token table. Throws where there is none.
[[nodiscard]] inline std::string clip_prefix(named_tensors const& archive, std::string_view table) {
  for (auto const& t : archive.tensors())
    if (t.name.ends_with(table)) return t.name.substr(0, t.name.size() - table.size());
  fail(archive.source(), " has no token embedding (", table, "); give the file of a CLIP model with its text tower");
}

/// The text tower of a file by Hugging Face's names; a missing projection is the identity.
[[nodiscard]] inline named_tensors clip_text_tensors(named_tensors const& file) {
  auto const storage = std::make_shared<clip_storage>(clip_storage{file});
  auto const& archive = storage->archive;
  std::vector<stored_tensor> out;
  constexpr std::string_view table = "token_embedding.weight", nested = "embeddings.token_embedding.weight";
  std::string const before = clip_prefix(archive, table);
  bool const hugging_face = before.ends_with("embeddings.");
  std::string const prefix = hugging_face ? clip_prefix(archive, nested) : before;
  std::string outer = prefix;  // a projection stands outside of "text_model."
  if (outer.ends_with("text_model.")) outer.resize(outer.size() - 11);
  bool projected = false;
  for (auto const& t : archive.tensors()) {
    std::string_view const name = t.name;
    if (!hugging_face) {
      if (name.starts_with(prefix)) add_openai_tensor(out, t, name.substr(prefix.size()), *storage);
      continue;
    }
    bool const projection = name == outer + "text_projection.weight";
    bool const tower = name.starts_with(concat(prefix, "embeddings.")) || name.starts_with(concat(prefix, "encoder.")) ||
                       name.starts_with(concat(prefix, "final_layer_norm."));
    if ((!projection && !tower) || name.ends_with("position_ids")) continue;
    out.push_back(t);
    out.back().name = projection ? "text_projection.weight" : concat("text_model.", name.substr(prefix.size()));
  }
  for (auto const& t : out) projected = projected || t.name == "text_projection.weight";
  if (!projected) {
    std::size_t const width = extents_of(archive, concat(before, table), 2)[1];
    out.push_back(identity_matrix(width, *storage, "text_projection.weight"));
  }
  return {archive.source(), std::move(out), archive.metadata(), storage};
}

}  // namespace detail
}  // namespace dvla::inline DVLA_ABI
