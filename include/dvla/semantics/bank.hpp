// Banks of class meanings: read from published vectors or from texts, and matched with the classes of a data set.
#pragma once

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <nlohmann/json.hpp>

#include <dvla/io/tensor_archive.hpp>
#include <dvla/semantics/class_vectors.hpp>
#include <dvla/semantics/hashed_encoder.hpp>

namespace dvla::inline DVLA_ABI {

/// The vectors of named classes.
struct semantic_bank {
  std::string source;  ///< the file, for messages
  std::vector<std::string> names{};
  class_vectors vectors{};
};

/// What is done to the vectors before a model sees them.
struct bank_transform {
  bool centre = true;  ///< subtracts the mean over the reference classes, local and global vectors each their own
  bool unit = true;    ///< then scales every vector to unit length
};

namespace detail {

/// Lower case, '_' as ' ': how class names are compared where they are not equal.
[[nodiscard]] inline std::string plain_name(std::string_view name) {
  std::string out(name);
  for (char& c : out) {
    if (c == '_') c = ' ';
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

/// The part before the first dot where all names share it: published banks keep their vectors in one dictionary with a name
/// of its own, {"semantic_feature": {class: vector}}.
[[nodiscard]] inline std::string shared_prefix(named_tensors const& archive) {
  if (archive.tensors().empty()) return {};
  std::string const& first = archive.tensors().front().name;
  std::string const prefix = first.substr(0, first.find('.') + 1);  // empty without a dot
  bool const shared = std::all_of(archive.tensors().begin(), archive.tensors().end(),
                                  [&](stored_tensor const& t) { return t.name.starts_with(prefix); });
  return shared ? prefix : std::string{};
}

/// A published bank: one vector a class, which serves as its one phrase and as its description.
[[nodiscard]] inline semantic_bank read_vector_bank(named_tensors const& archive) {
  semantic_bank bank{archive.source(), {}, {}};
  bank.vectors.phrases = 1;
  std::string const prefix = shared_prefix(archive);
  for (auto const& t : archive.tensors()) {
    auto const values = read_as<float>(t);
    if (bank.vectors.width == 0) bank.vectors.width = values.size();
    expect(!values.empty() && values.size() == bank.vectors.width, archive.source(), ": class '", t.name, "' has a vector of ",
           values.size(), " elements, others have ", bank.vectors.width,
           "; a bank needs one vector of the same width for every class");
    bank.names.push_back(t.name.substr(prefix.size()));
    bank.vectors.global.insert(bank.vectors.global.end(), values.begin(), values.end());
  }
  expect(!bank.names.empty(), archive.source(), " holds no vectors; give a file of one vector a class");
  bank.vectors.local = bank.vectors.global;
  return bank;
}

/// "A photo of a apple, which has smooth skin" of a class name and an attribute.
[[nodiscard]] inline std::string attribute_text(std::string const& name, std::string const& attribute) {
  return concat("A photo of a ", name, ", which has ", attribute);
}

}  // namespace detail

/// What a text bank says of a class.
struct class_texts {
  std::string folder, name;
  std::vector<std::string> attributes;
  std::string description;
};

/// Reads {"classes": {folder: {"name"?, "attributes": [...], "description": "..."}}}; without a name it is the folder's, in
/// plain letters. Throws for anything else.
[[nodiscard]] inline std::vector<class_texts> read_class_texts(std::filesystem::path const& path) {
  std::ifstream file(path, std::ios::binary);
  expect(file.good(), path.string(), ": the file cannot be read; check the path");
  std::string const text{std::istreambuf_iterator<char>(file), {}};
  std::vector<class_texts> out;
  try {
    nlohmann::json const parsed = nlohmann::json::parse(text);
    for (auto const& [folder, entry] : parsed.at("classes").items()) {
      std::string name = entry.contains("name") ? entry.at("name").get<std::string>() : detail::plain_name(folder);
      out.push_back({folder, std::move(name), entry.at("attributes").get<std::vector<std::string>>(),
                     entry.at("description").get<std::string>()});
      expect(!out.back().attributes.empty(), path.string(), ": class '", folder, "' has no attributes; give at least one");
    }
  } catch (nlohmann::json::exception const& problem) {
    fail(path.string(), " is no bank of texts: ", problem.what(),
         "; expected {\"classes\": {folder: {\"attributes\": [...], \"description\": \"...\"}}}");
  }
  expect(!out.empty(), path.string(), " holds no classes");
  return out;
}

/// A bank of texts: every attribute is encoded as "A photo of a {class}, which has {attribute}", the description as it is.
/// The first `phrases` attributes count; every class has the same number, that of the class with the fewest. Encoder has
/// encode(text) and dim.
template <class Encoder>
[[nodiscard]] semantic_bank read_text_bank(std::filesystem::path const& path, Encoder const& encoder, std::size_t phrases = 4) {
  expect(phrases > 0, path.string(), ": 0 attributes a class were asked for; give at least 1");
  auto const texts = read_class_texts(path);
  for (auto const& c : texts) phrases = std::min(phrases, c.attributes.size());
  semantic_bank bank{path.string(), {}, {phrases, Encoder::dim, {}, {}}};
  auto const append = [](std::vector<float>& to, std::vector<float> const& row) { to.insert(to.end(), row.begin(), row.end()); };
  for (auto const& c : texts) {
    bank.names.push_back(c.folder);
    for (std::size_t i = 0; i < phrases; ++i)
      append(bank.vectors.local, encoder.encode(detail::attribute_text(c.name, c.attributes[i])));
    append(bank.vectors.global, encoder.encode(c.description));
  }
  return bank;
}

/// A bank from a file: texts (.json), encoded by `encoder`, or vectors (.pth, .safetensors).
template <class Encoder = hashed_encoder>
[[nodiscard]] semantic_bank read_bank(std::filesystem::path const& path, std::size_t phrases = 4, Encoder const& encoder = {}) {
  if (path.extension() == ".json") return read_text_bank(path, encoder, phrases);
  return detail::read_vector_bank(open_tensors(path));
}

/// The vectors of these classes in this order. A name is found as it is, or with '_' as ' ' in lower case; all that are not
/// are named in one error.
[[nodiscard]] inline class_vectors vectors_of(semantic_bank const& bank, std::span<std::string const> classes) {
  auto const& v = bank.vectors;
  class_vectors out{v.phrases, v.width};
  std::string missing;
  std::size_t count = 0;
  auto const append = [](std::vector<float>& to, std::vector<float> const& from, std::size_t row, std::size_t width) {
    auto const begin = from.begin() + static_cast<std::ptrdiff_t>(row * width);
    to.insert(to.end(), begin, begin + static_cast<std::ptrdiff_t>(width));
  };
  std::vector<std::string> plain;
  for (auto const& name : bank.names) plain.push_back(detail::plain_name(name));
  for (auto const& name : classes) {
    auto at = static_cast<std::size_t>(std::find(bank.names.begin(), bank.names.end(), name) - bank.names.begin());
    if (at == bank.names.size())
      at = static_cast<std::size_t>(std::find(plain.begin(), plain.end(), detail::plain_name(name)) - plain.begin());
    if (at == bank.names.size()) {
      missing += concat(count++ == 0 ? "" : ", ", "'", name, "'");
      continue;
    }
    append(out.local, v.local, at, v.phrases * v.width);
    append(out.global, v.global, at, v.width);
  }
  expect(count == 0, bank.source, " has no vectors for ", count, count == 1 ? " class: " : " classes: ", missing,
         "; add them to the bank, or rename the folders");
  return out;
}

/// The means over classes that vectors are centred by; empty for none.
struct bank_centre {
  std::vector<float> local{}, global{};
};

/// Means of the reference classes' vectors, summed in order.
[[nodiscard]] inline bank_centre centre_of(class_vectors const& reference) {
  auto const mean = [&](std::vector<float> const& rows) {
    std::vector<double> sum(reference.width);
    for (std::size_t i = 0; i < rows.size(); ++i) sum[i % reference.width] += static_cast<double>(rows[i]);
    std::vector<float> out;
    for (double const s : sum)
      out.push_back(static_cast<float>(s / (static_cast<double>(rows.size()) / static_cast<double>(sum.size()))));
    return out;
  };
  return {mean(reference.local), mean(reference.global)};
}

/// Subtracts the centre and scales to unit length, as the transform says.
inline void transform(class_vectors& vectors, bank_transform how, bank_centre const& centre) {
  auto const each = [&](std::vector<float>& rows, std::vector<float> const& mean) {
    expect(!how.centre || mean.size() == vectors.width, "semantics: a centre of ", mean.size(), " elements for vectors of ",
           vectors.width);
    for (std::size_t begin = 0; begin < rows.size(); begin += vectors.width) {
      double squares = 0;
      for (std::size_t i = 0; i < vectors.width; ++i) {
        float& x = rows[begin + i];
        if (how.centre) x -= mean[i];
        squares += static_cast<double>(x) * static_cast<double>(x);
      }
      double const scale = how.unit ? 1 / std::max(std::sqrt(squares), 1e-12) : 1;
      for (std::size_t i = 0; i < vectors.width; ++i) rows[begin + i] = static_cast<float>(rows[begin + i] * scale);
    }
  };
  each(vectors.local, centre.local);
  each(vectors.global, centre.global);
}

}  // namespace dvla::inline DVLA_ABI
