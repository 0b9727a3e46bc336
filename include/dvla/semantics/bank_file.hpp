// Banks in files. A bank is two files of one name: NAME.safetensors holds the vectors under the names of published banks
// ("classes.apple.intrinsic.local"), NAME.json what each of them says, its score and where it came from. Each holds the hash of the
// other, so that files which do not belong together are an error. Published .pth banks are read too.
#pragma once

#include <set>
#include <system_error>
#include <tuple>

#include <dvla/core/sha256.hpp>
#include <dvla/io/atomic_file.hpp>
#include <dvla/io/tensor_archive.hpp>
#include <dvla/semantics/bank.hpp>
#include <dvla/semantics/bounded_json.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

/// The two files of a bank, from the path of either or their common path without ending. Another ending is part of the name.
struct bank_paths {
  std::filesystem::path vectors, texts;

  explicit bank_paths(std::filesystem::path path) {
    if (path.extension() == ".safetensors" || path.extension() == ".json") path.replace_extension();
    auto const name = path.filename();
    expect(!name.empty() && name != "." && name != "..", "'", path.string(), "' names no bank; give NAME.safetensors");
    vectors = texts = std::move(path);
    vectors += ".safetensors";
    texts += ".json";
  }
};

[[nodiscard]] inline std::string hash_of(std::filesystem::path const& path) { return sha256_hex(mapped_file(path).bytes()); }

[[nodiscard]] inline std::string tensor_name(bank_block const& b) {
  auto const owner = b.support.empty() ? concat("classes.", b.folder) : concat("supports.", b.support);
  return b.role == bank_role::name ? owner + ".name" : concat(owner, ".", to_string(b.role), ".", to_string(b.level));
}

/// What any bank must satisfy; throws a sentence that names class and block.
inline void expect_sound(semantic_bank const& bank) {
  expect(!bank.blocks.empty(), bank.source, " holds no vectors; give a file of one vector or more for every class");
  expect(bank.width > 0, bank.source, ": its vectors have no elements");
  std::set<std::string_view> folders;
  for (auto const& c : bank.classes) expect(folders.insert(c.folder).second, bank.source, " names class '", c.folder, "' twice");
  std::set<std::tuple<std::string_view, std::string_view, bank_role, bank_level>> seen;
  for (auto const& b : bank.blocks) {
    expect(folders.contains(b.folder), bank.source, " has vectors of class '", b.folder, "', which is not among its classes");
    expect(!b.phrases.empty() && b.rows.size() % bank.width == 0 && b.rows.size() / bank.width == b.phrases.size(), bank.source,
           ": class '", b.folder, "' has ", b.rows.size(), " numbers for ", b.phrases.size(), " ", to_string(b.role), " ",
           to_string(b.level), " phrases of width ", bank.width);
    expect(seen.emplace(b.folder, b.support, b.role, b.level).second, bank.source, ": class '", b.folder, "' has two blocks of ",
           to_string(b.role), " ", to_string(b.level), " vectors");
  }
}

[[nodiscard]] inline nlohmann::json to_json(bank_block const& b) {
  auto phrases = nlohmann::json::array();
  for (auto const& p : b.phrases) {
    nlohmann::json entry{{"text", p.text}, {"origin", p.origin}};
    if (p.score) entry["score"] = std::isfinite(*p.score) ? nlohmann::json(*p.score) : nlohmann::json(nullptr);
    phrases.push_back(std::move(entry));
  }
  nlohmann::json out{{"class", b.folder},
                     {"role", to_string(b.role)},
                     {"level", to_string(b.level)},
                     {"tensor", tensor_name(b)},
                     {"phrases", phrases}};
  if (!b.support.empty()) out["support"] = b.support;
  return out;
}

/// Everything in words, without the hash of the vectors.
[[nodiscard]] inline nlohmann::json bank_texts(semantic_bank const& bank) {
  auto classes = nlohmann::json::array(), blocks = nlohmann::json::array();
  for (auto const& c : bank.classes) classes.push_back({{"folder", c.folder}, {"name", c.name}, {"story", c.story}});
  for (auto const& b : bank.blocks) blocks.push_back(to_json(b));
  return {{"format", "dvla bank"}, {"version", 1},       {"encoder", bank.encoder}, {"width", bank.width},
          {"about", bank.about},   {"classes", classes}, {"blocks", blocks}};
}

[[nodiscard]] inline std::string dumped(nlohmann::json const& texts, int indent) {
  return texts.dump(indent, ' ', false, nlohmann::json::error_handler_t::strict);
}

template <class Enum, std::size_t N>
[[nodiscard]] Enum named(nlohmann::json const& word, Enum const (&all)[N]) {
  auto const text = word.get<std::string>();
  for (Enum const e : all)
    if (text == to_string(e)) return e;
  fail("'", text, "' is no role or level of a vector");
}

[[nodiscard]] inline bank_block block_from(nlohmann::json const& entry, tensor_archive const& archive, std::size_t width) {
  bank_block b{entry.at("class").get<std::string>()};
  if (entry.contains("support")) b.support = entry.at("support").get<std::string>();
  b.role = named(entry.at("role"), {bank_role::name, bank_role::intrinsic, bank_role::nuisance});
  b.level = named(entry.at("level"), {bank_level::local, bank_level::global});
  for (auto const& p : entry.at("phrases")) {
    b.phrases.push_back({p.at("text").get<std::string>(), {}, p.at("origin").get<std::string>()});
    if (p.contains("score") && !p.at("score").is_null()) b.phrases.back().score = p.at("score").get<double>();
  }
  auto const& tensor = archive.find(entry.at("tensor").get<std::string>());
  std::size_t const columns = tensor.shape.empty() ? 1 : tensor.shape.back();
  expect((tensor.shape.size() == 1 || tensor.shape.size() == 2) && columns == width, "tensor '", tensor.name, "' has shape ",
         shape_text(tensor.shape), ", but the bank's width is ", width);
  b.rows = read_as<float>(tensor);
  return b;
}

/// Throws where one of the two files is missing beside the other.
inline void expect_half(std::filesystem::path const& missing, std::filesystem::path const& there) {
  expect(std::filesystem::is_regular_file(missing), there.string(), " is half a bank: ", missing.string(),
         " is missing beside it; copy both files, or encode the bank again");
}

[[nodiscard]] inline semantic_bank read_own_bank(bank_paths const& paths, tensor_archive const& archive) {
  std::string const source = paths.vectors.string();
  expect_half(paths.texts, paths.vectors);
  auto texts = parse_bounded(paths.texts.string(), read_text(paths.texts));
  semantic_bank bank;
  bank.source = source;
  try {
    expect(texts.at("format") == "dvla bank" && texts.at("version") == 1, "it is of another format or version");
    bank.hash = hash_of(paths.vectors);
    expect(texts.at("vectors").at("sha256") == bank.hash, "its vectors' hash is not that of ", source,
           "; the two files were not written together, encode the bank again");
    texts.erase("vectors");
    auto const kept = archive.metadata("dvla.bank.texts");
    expect(kept && *kept == sha256_hex(dumped(texts, -1)),
           "its content was changed after encoding, so that texts and vectors differ; change the texts and encode again");
    bank.encoder = texts.at("encoder").get<std::string>();
    expect(texts.at("width").is_number_unsigned(), "its width is no size");
    bank.width = texts.at("width").get<std::size_t>();
    bank.about = texts.at("about");
    for (auto const& c : texts.at("classes"))
      bank.classes.push_back({c.at("folder").get<std::string>(), c.at("name").get<std::string>(), c.at("story")});
    for (auto const& b : texts.at("blocks")) bank.blocks.push_back(block_from(b, archive, bank.width));
    expect(bank.blocks.size() == archive.tensors().size(), "it speaks of ", bank.blocks.size(),
           " blocks of vectors, but there are ", archive.tensors().size());
  } catch (nlohmann::json::exception const& problem) {
    fail(paths.texts.string(), " is no bank of dvla: ", problem.what());
  } catch (error const& problem) {
    fail(paths.texts.string(), " does not fit: ", problem.what());
  }
  expect_sound(bank);
  return bank;
}

/// Where a published tensor belongs, by its name.
struct published_place {
  std::string_view owner;
  bank_role role;
  bank_level level;
};

[[nodiscard]] inline published_place place_of(std::string_view name) {
  constexpr std::tuple<std::string_view, bank_role, bank_level> suffixes[] = {
      {".intrinsic.local", bank_role::intrinsic, bank_level::local},
      {".intrinsic.global", bank_role::intrinsic, bank_level::global},
      {".nuisance.local", bank_role::nuisance, bank_level::local},
      {".nuisance.global", bank_role::nuisance, bank_level::global},
      {".name", bank_role::name, bank_level::global}};
  for (auto const& [suffix, role, level] : suffixes)
    if (name.ends_with(suffix)) return {name.substr(0, name.size() - suffix.size()), role, level};
  return {name, bank_role::intrinsic, bank_level::global};
}

/// The part before the first dot where all names share it; empty otherwise.
[[nodiscard]] inline std::string shared_prefix(named_tensors const& archive) {
  if (archive.tensors().empty()) return {};
  std::string const& first = archive.tensors().front().name;
  std::string const prefix = first.substr(0, first.find('.') + 1);  // empty without a dot
  bool const shared = std::all_of(archive.tensors().begin(), archive.tensors().end(),
                                  [&](stored_tensor const& t) { return t.name.starts_with(prefix); });
  return shared ? prefix : std::string{};
}

/// A block of a published tensor. `prefix` is what all names share.
[[nodiscard]] inline bank_block published_block(stored_tensor const& t, std::string const& prefix) {
  std::string_view name = t.name;
  bank_block b;
  if (name.starts_with("classes.") || name.starts_with("supports.")) {
    bool const support = name.starts_with("supports.");
    auto const place = place_of(name.substr(support ? 9 : 8));
    b.role = place.role, b.level = place.level;
    b.folder = place.owner;
    if (support) {  // the image's path; its class is the folder that it lies in
      std::filesystem::path const image{place.owner};
      b.support = place.owner;
      b.folder = image.parent_path().filename().string();
    }
    return b;
  }
  b.level = bank_level::global;
  if (name.starts_with("attribute_features."))
    name.remove_prefix(19), b.level = bank_level::local;
  else if (name.starts_with("semantic_feature."))
    name.remove_prefix(17);
  else
    name.remove_prefix(prefix.size());
  b.folder = name;
  return b;
}

/// Published banks: one vector a class (under a dictionary of any name), attribute_features beside them, or the layout with roles.
[[nodiscard]] inline semantic_bank read_published_bank(tensor_archive const& archive) {
  semantic_bank bank;
  bank.source = archive.source();
  bank.hash = hash_of(archive.source());
  std::string const prefix = shared_prefix(archive);
  std::set<std::string> folders;
  for (auto const& t : archive.tensors()) {
    auto b = published_block(t, prefix);
    std::size_t const width = t.shape.empty() ? t.size() : t.shape.back();
    if (bank.width == 0) bank.width = width;
    expect(t.size() > 0 && width == bank.width, bank.source, ": class '", b.folder, "' has vectors of ", width,
           " elements, others have ", bank.width, "; a bank needs vectors of one width for every class");
    b.rows = read_as<float>(t);
    b.phrases.assign(b.rows.size() / width, {"", {}, "published vector"});
    if (folders.insert(b.folder).second) bank.classes.push_back({b.folder, plain_name(b.folder), nlohmann::json::object()});
    bank.blocks.push_back(std::move(b));
  }
  expect_sound(bank);
  return bank;
}

}  // namespace detail

/// Throws where NAME.json is there and is no bank's: texts, say, whose place a bank of that name would take.
inline void expect_place_for_bank(std::filesystem::path const& path) {
  auto const texts = detail::bank_paths(path).texts;
  if (!std::filesystem::is_regular_file(texts)) return;
  nlohmann::json there;
  try {
    there = parse_bounded(texts.string(), read_text(texts));
  } catch (error const&) {
    return;  // the rest of a bank that was damaged
  }
  expect(there.is_object() && there.value("format", nlohmann::json()) == "dvla bank", texts.string(),
         " is there already and is no bank's; the bank would replace it, give it another name");
}

/// Writes NAME.safetensors and NAME.json, each complete or not at all and the vectors first: where something ends in between, the
/// two do not fit and reading says so. `path` is either, or NAME. Throws, before anything is written, where NAME.json is no bank's.
inline void write_bank(std::filesystem::path const& path, semantic_bank const& bank) {
  detail::bank_paths const paths(path);
  detail::expect_sound(bank);
  expect_place_for_bank(path);
  auto texts = detail::bank_texts(bank);
  try {
    safetensors_writer writer;
    for (auto const& b : bank.blocks) {
      std::vector<std::size_t> shape{bank.width};
      if (b.role != bank_role::name) shape.insert(shape.begin(), b.phrases.size());
      writer.add(detail::tensor_name(b), std::move(shape), std::span<float const>(b.rows));
    }
    writer.metadata("dvla.bank", "1");
    writer.metadata("dvla.bank.texts", sha256_hex(detail::dumped(texts, -1)));
    writer.write(paths.vectors);
    texts["vectors"] = {{"file", paths.vectors.filename().string()}, {"sha256", detail::hash_of(paths.vectors)}};
    write_atomically(paths.texts, detail::dumped(texts, 1) + "\n");
  } catch (nlohmann::json::exception const& problem) {
    fail("cannot write ", paths.texts.string(), ": a text of the bank is not valid UTF-8 (", problem.what(), ")");
  }
}

/// The file that a path or a bank's name means: the path where it is a file, or else NAME.safetensors or NAME.json, the first that is
/// there; the path itself where none is.
[[nodiscard]] inline std::filesystem::path bank_file(std::filesystem::path const& path) {
  for (char const* ending : {"", ".safetensors", ".json"}) {
    auto file = path;
    file += ending;
    std::error_code none;
    if (std::filesystem::is_regular_file(file, none)) return file;
  }
  return path;
}

/// Whether a file is one of texts, which an encoder must make a bank of.
[[nodiscard]] inline bool holds_texts(std::filesystem::path const& path) {
  if (path.extension() != ".json") return false;
  auto const parsed = parse_bounded(path.string(), read_text(path));
  return !(parsed.is_object() && parsed.contains("format") && parsed.at("format") == "dvla bank");
}

/// Reads a bank of this library (.safetensors or .json, the other beside it) or published vectors (.pth, .safetensors). Throws for
/// files that do not belong together, and for anything that is no bank.
[[nodiscard]] inline semantic_bank read_vectors(std::filesystem::path const& path) {
  detail::bank_paths const paths(path);
  if (path.extension() == ".json") detail::expect_half(paths.vectors, path);
  auto const archive = open_tensors(path.extension() == ".json" ? paths.vectors : path);
  return archive.metadata("dvla.bank") ? detail::read_own_bank(paths, archive) : detail::read_published_bank(archive);
}

}  // namespace dvla::inline DVLA_ABI
