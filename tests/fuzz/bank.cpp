// The readers of banks: this library's (vectors and texts, each with the other's hash) and published ones. What is read serves as class
// vectors, and is written and read as the same.
#include <dvla/semantics/bank_file.hpp>
#include <dvla/semantics/bank_merge.hpp>

#include "input_file.hpp"
#include "io/io_support.hpp"

namespace {

using namespace dvla;

constexpr std::string_view hash_key = "\"dvla.bank.texts\":\"";

/// Texts and vectors as an input holds them: up to the first byte 0, and behind it.
struct bank_bytes {
  std::string texts, vectors;

  explicit bank_bytes(std::string_view bytes)
      : texts(bytes.substr(0, bytes.find('\0'))), vectors(bytes.substr(std::min(texts.size() + 1, bytes.size()))) {}

  [[nodiscard]] std::string joined() const { return texts + '\0' + vectors; }

  /// Puts the hashes right, without which changes of either part get no further than them.
  void mend() {
    auto json = parse_bounded("texts", texts);
    if (!json.is_object()) return;
    json.erase("vectors");
    std::string const dumped = detail::dumped(json, -1);
    auto const at = vectors.find(hash_key);
    bool const has_hash = at != std::string::npos && vectors.size() - at - hash_key.size() >= 64;
    if (has_hash) vectors.replace(at + hash_key.size(), 64, sha256_hex(dumped));
    json["vectors"] = {{"sha256", sha256_hex(vectors)}};
    texts = json.dump();
  }
};

void use(semantic_bank const& bank) {
  std::vector<std::string> folders{"no such class"};
  dvla_fuzz::demand(missing_classes(bank, folders).size() <= 1, "a class is missing once");
  folders.clear();
  for (auto const& c : bank.classes) folders.push_back(c.folder);
  auto unit = bank;
  normalise(unit, true, true);
  for (auto const* each : {&bank, &std::as_const(unit)}) {
    try {
      auto const vectors = vectors_of(*each, folders);
      dvla_fuzz::demand(vectors.classes() == folders.size(), "every class has vectors");
    } catch (error const&) {  // no vector of its own, or NaN in it
    }
  }
}

void read_and_use(std::filesystem::path const& path) {
  static std::filesystem::path const copy = dvla_fuzz::input_folder() / "copy.json";
  auto const bank = read_vectors(path);
  use(bank);
  write_bank(copy, bank);  // throws for names that are no UTF-8 or meet in one
  auto const again = read_vectors(copy);
  dvla_fuzz::demand(again.width == bank.width && again.encoder == bank.encoder && again.about == bank.about &&
                        detail::bank_texts(again) == detail::bank_texts(bank),
                    "a bank that is written is read back");
}

}  // namespace

void dvla_fuzz::try_input(std::string_view bytes) {
  static input_file const vectors("bank.safetensors"), texts("bank.json");
  bank_bytes parts(bytes);
  if (parts.texts.starts_with('{')) {
    parts.mend();
    texts(parts.texts);
    return read_and_use(vectors(parts.vectors));
  }
  // A byte other than a brace: both as they are, or vectors alone.
  texts(parts.texts.starts_with('#') ? std::string_view(parts.texts).substr(1) : std::string_view());
  read_and_use(vectors(parts.vectors));
}

std::vector<std::string> dvla_fuzz::seeds() {
  semantic_bank bank;
  bank.encoder = "toy";
  bank.width = 2;
  bank.classes = {{"001.bear", "bear", {{"attributes", {"fur"}}}}, {"fish", "fish"}};
  std::vector<bank_phrase> const local{{"a", 0.25, "attribute"}, {"b", {}, "attribute"}};
  bank.blocks = {{"001.bear", "", bank_role::intrinsic, bank_level::local, local, {1, 2, 3, 4}},
                 {"001.bear", "", bank_role::name, bank_level::global, {{"n", {}, "class name"}}, {9, 9}},
                 {"001.bear", "x/bear/1.png", bank_role::nuisance, bank_level::global, {{"c", {}, "nuisance phrase"}}, {5, 6}},
                 {"fish", "", bank_role::intrinsic, bank_level::global, {{"d", {}, "description"}}, {7, 8}}};
  auto const path = input_folder() / "seed";
  write_bank(path, bank);
  bank_bytes own("");
  own.texts = dvla_test::read_bytes(path.string() + ".json");
  own.vectors = dvla_test::read_bytes(path.string() + ".safetensors");
  std::vector<std::string> out{own.joined(), "#" + own.joined(), std::string(1, '\0') + own.vectors};
  for (auto const& names : {std::vector<std::string>{"semantic_feature.a", "semantic_feature.b", "attribute_features.a"},
                            {"classes.a.intrinsic.local", "classes.a.name", "supports.x/a/1.png.nuisance.global"}, {"v.a", "v.b"}}) {
    safetensors_writer writer;
    float const values[] = {1, 2, 3, 4};
    for (auto const& name : names) {
      bool const one = name.ends_with(".name");
      writer.add(name, one ? std::vector<std::size_t>{2} : std::vector<std::size_t>{2, 2}, std::span<float const>(values, one ? 2 : 4));
    }
    writer.write(path);
    out.push_back(std::string(1, '\0') + dvla_test::read_bytes(path));
  }
  out.push_back(std::string(1, '\0') + dvla_test::read_bytes(dvla_test::fixture("bank.pth")));
  return out;
}
