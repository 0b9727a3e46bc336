// Banks in files: what is written is read back, and what does not belong together is refused.
#include <doctest/doctest.h>

#include <unistd.h>

#include <dvla/semantics/encode_bank.hpp>

#include "semantics/toy_encoders.hpp"

using namespace dvla;

namespace {

struct temporary_folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / concat("dvla_bank_file_", ::getpid());
  temporary_folder() { std::filesystem::create_directories(path); }
  ~temporary_folder() { std::filesystem::remove_all(path); }
  [[nodiscard]] std::filesystem::path operator/(char const* name) const { return path / name; }
};

semantic_bank small_bank() {
  semantic_bank bank;
  bank.source = "memory";
  bank.encoder = "toy";
  bank.width = 2;
  bank.about = {{"generator", "by hand"}};
  bank.classes = {{"001.bear", "bear", {{"attributes", {"fur"}}}}, {"fish", "fish"}};
  bank.blocks = {
      {"001.bear", "", bank_role::intrinsic, bank_level::local, {{"a", 0.25, "attribute"}, {"b", {}, "attribute"}}, {1, 2, 3, 4}},
      {"001.bear", "", bank_role::name, bank_level::global, {{"n", {}, "class name"}}, {9, 9}},
      {"001.bear", "base/bear/1.png", bank_role::nuisance, bank_level::global, {{"c", {}, "nuisance phrase"}}, {5, 6}},
      {"fish", "", bank_role::intrinsic, bank_level::global, {{"d", {}, "description"}}, {7, 8}}};
  return bank;
}

std::filesystem::path vector_file(std::filesystem::path const& path,
                                  std::vector<std::pair<std::string, std::vector<std::size_t>>> const& tensors) {
  safetensors_writer writer;
  float next = 1;
  for (auto const& [name, shape] : tensors) {
    std::size_t size = 1;
    for (auto const n : shape) size *= n;
    std::vector<float> values(size);
    for (float& x : values) x = next++;
    writer.add(name, shape, std::span<float const>(values));
  }
  writer.write(path);
  return path;
}

void replace_in(std::filesystem::path const& path, std::string const& what, std::string const& with) {
  auto text = read_text(path);
  auto const at = text.find(what);
  REQUIRE(at != std::string::npos);
  write_atomically(path, std::string_view(text.replace(at, what.size(), with)));
}

}  // namespace

TEST_CASE("a bank is read back as it was written, from either of its files") {
  temporary_folder const folder;
  auto const bank = small_bank();
  write_bank(folder / "bank.safetensors", bank);
  for (auto const* name : {"bank.safetensors", "bank.json"}) {
    auto const back = read_vectors(folder / name);
    CHECK(detail::bank_texts(back) == detail::bank_texts(bank));
    CHECK(back.hash.size() == 64);
    REQUIRE(back.blocks.size() == bank.blocks.size());
    for (std::size_t i = 0; i < bank.blocks.size(); ++i) CHECK(back.blocks[i].rows == bank.blocks[i].rows);
    CHECK(back.blocks[0].phrases[0].score == 0.25);
    CHECK_FALSE(back.blocks[0].phrases[1].score);
  }
  CHECK(open_tensors(folder / "bank.safetensors").contains("classes.001.bear.intrinsic.local"));
  CHECK(open_tensors(folder / "bank.safetensors").find("classes.001.bear.name").shape == std::vector<std::size_t>{2});
  CHECK(open_tensors(folder / "bank.safetensors").contains("supports.base/bear/1.png.nuisance.global"));
}

TEST_CASE("files that do not belong together, or were changed, are refused") {
  temporary_folder const folder;
  auto bank = small_bank();
  auto const vectors = folder / "bank.safetensors", texts = folder / "bank.json";
  write_bank(vectors, bank);
  replace_in(texts, "by hand", "by foot");
  CHECK_THROWS_WITH_AS((void)read_vectors(vectors), doctest::Contains("was changed after encoding"), error);
  write_bank(vectors, bank);
  auto const old = read_text(texts);
  bank.blocks[0].rows[0] = 42;
  write_bank(vectors, bank);
  write_atomically(texts, std::string_view(old));
  CHECK_THROWS_WITH_AS((void)read_vectors(vectors), doctest::Contains("were not written together"), error);
  std::filesystem::remove(texts);
  CHECK_THROWS_WITH_AS((void)read_vectors(vectors), doctest::Contains("bank.json is missing beside it"), error);
  for (std::string_view const text : {"", "[]", "{\"format\": 3}", "{\"format\": \"dvla bank\", \"version\": 1}"}) {
    write_atomically(texts, text);
    CHECK_THROWS_AS((void)read_vectors(vectors), error);
  }
  std::string deep(100, '[');
  write_atomically(texts, std::string_view(deep));
  CHECK_THROWS_WITH_AS((void)read_vectors(vectors), doctest::Contains("nested deeper"), error);
}

TEST_CASE("half a bank says which half is missing") {
  temporary_folder const folder;
  write_bank(folder / "bank", small_bank());
  std::filesystem::remove(folder / "bank.safetensors");
  CHECK_THROWS_WITH_AS((void)read_vectors(folder / "bank.json"), doctest::Contains("bank.safetensors is missing beside it"), error);
}

TEST_CASE("a bank does not take the place of texts") {
  temporary_folder const folder;
  auto const texts = folder / "texts.json";
  for (std::string_view const content : {R"({"classes": {"a": {"attributes": ["red"]}}})", "[]", "{\"format\": 3}"}) {
    write_atomically(texts, content);
    CHECK_THROWS_WITH_AS(write_bank(folder / "texts", small_bank()), doctest::Contains("is there already and is no bank's"), error);
    CHECK(read_text(texts) == content);
    CHECK_FALSE(std::filesystem::exists(folder / "texts.safetensors"));
  }
  write_atomically(texts, "{\"format\": \"dvla ba");  // a bank's that was cut short
  CHECK_NOTHROW(write_bank(folder / "texts", small_bank()));
  CHECK_NOTHROW(write_bank(folder / "texts", small_bank()));
}

TEST_CASE("a bank's name may hold dots, and must be one") {
  temporary_folder const folder;
  write_bank(folder / "clip.vit-b16", small_bank());
  CHECK(read_vectors(folder / "clip.vit-b16.json").blocks.size() == 4);
  for (char const* name : {"", ".", "..", "sub/"})
    CHECK_THROWS_WITH_AS(write_bank(name, small_bank()), doctest::Contains("names no bank"), error);
}

TEST_CASE("a bank is found by its name without an ending, a file by its path before that") {
  temporary_folder const folder;
  write_bank(folder / "clip.vit-b16", small_bank());
  CHECK(bank_file(folder / "clip.vit-b16") == folder / "clip.vit-b16.safetensors");
  CHECK(bank_file(folder / "clip.vit-b16.json") == folder / "clip.vit-b16.json");
  CHECK(read_vectors(bank_file(folder / "clip.vit-b16")).blocks.size() == 4);
  std::filesystem::create_directory(folder / "clip");
  CHECK(bank_file(folder / "clip") == folder / "clip");  // a folder is no bank
  write_bank(folder / "clip", small_bank());
  CHECK(bank_file(folder / "clip") == folder / "clip.safetensors");
  std::filesystem::remove(folder / "clip.safetensors");
  CHECK(bank_file(folder / "clip") == folder / "clip.json");
  write_atomically(folder / "clip.vit-b16", "published");
  CHECK(bank_file(folder / "clip.vit-b16") == folder / "clip.vit-b16");
}

TEST_CASE("an unsound bank is not written") {
  temporary_folder const folder;
  auto const refuse = [&](semantic_bank const& bank, char const* text) {
    CHECK_THROWS_WITH_AS(write_bank(folder / "bank", bank), doctest::Contains(text), error);
    CHECK_FALSE(std::filesystem::exists(folder / "bank.safetensors"));
  };
  auto bank = small_bank();
  bank.blocks[0].rows.pop_back();
  refuse(bank, "has 3 numbers for 2 intrinsic local phrases of width 2");
  bank = small_bank();
  bank.blocks.push_back(bank.blocks[3]);
  refuse(bank, "has two blocks of intrinsic global vectors");
  bank = small_bank();
  bank.classes.pop_back();
  refuse(bank, "class 'fish', which is not among its classes");
  refuse({}, "holds no vectors");
}

TEST_CASE("published banks of every layout are read") {
  temporary_folder const folder;
  auto const plain = read_vectors(vector_file(folder / "a.safetensors", {{"Aquarium Fish", {1, 3}}, {"bear", {3}}}));
  auto v = vectors_of(plain, std::vector<std::string>{"aquarium_fish", "bear"});
  CHECK(v.phrases == 1);
  CHECK(v.global == v.local);
  CHECK(plain.hash.size() == 64);

  auto const wrapped =
      read_vectors(vector_file(folder / "b.safetensors", {{"semantic_feature.bear", {2}}, {"semantic_feature.fish", {2}}}));
  CHECK(wrapped.classes[0].folder == "bear");

  auto const both =
      read_vectors(vector_file(folder / "c.safetensors", {{"semantic_feature.bear", {2}}, {"attribute_features.bear", {3, 2}}}));
  v = vectors_of(both, std::vector<std::string>{"bear"});
  CHECK(v.phrases == 3);
  CHECK(both.classes.size() == 1);

  auto const roles =
      read_vectors(vector_file(folder / "d.safetensors", {{"classes.001.bear.name", {2}},
                                                          {"classes.001.bear.intrinsic.local", {2, 2}},
                                                          {"classes.001.bear.intrinsic.global", {1, 2}},
                                                          {"classes.001.bear.nuisance.local", {4, 2}},
                                                          {"supports.data/001.bear/1.png.intrinsic.global", {1, 2}}}));
  CHECK(roles.classes.size() == 1);
  CHECK(roles.find("001.bear", bank_role::nuisance, bank_level::local)->phrases.size() == 4);
  CHECK(roles.find("001.bear", bank_role::intrinsic, bank_level::global, "data/001.bear/1.png") != nullptr);
  CHECK(vectors_of(roles, std::vector<std::string>{"001.bear"}).phrases == 2);

  CHECK_THROWS_WITH_AS((void)read_vectors(vector_file(folder / "e.safetensors", {{"bear", {2}}, {"fish", {3}}})),
                       doctest::Contains("has vectors of"), error);
  CHECK_THROWS_WITH_AS((void)read_vectors(vector_file(folder / "f.safetensors", {})), doctest::Contains("holds no vectors"), error);
}
