#include <doctest/doctest.h>

#include <unistd.h>

#include <filesystem>

#include <dvla/io/atomic_file.hpp>
#include <dvla/io/safetensors.hpp>
#include <dvla/semantics/bank.hpp>

using namespace dvla;

namespace {

struct temporary {
  std::filesystem::path path;
  explicit temporary(char const* name)
      : path(std::filesystem::temp_directory_path() / concat("dvla_bank_", ::getpid(), "_", name)) {}
  ~temporary() { std::filesystem::remove(path); }
};

constexpr char texts[] =
    R"({"classes": {"aquarium_fish": {"attributes": ["orange scales", "fins", "tail"], "description": "A small orange fish."},
                     "bear": {"name": "brown bear", "attributes": ["fur", "claws"], "description": "A large mammal."}}})";

/// The length of a text and how many blanks it has: enough to know which text was encoded.
struct counting_encoder {
  static constexpr std::size_t dim = 2;
  [[nodiscard]] std::vector<float> encode(std::string_view text) const {
    return {static_cast<float>(text.size()), static_cast<float>(std::count(text.begin(), text.end(), ' '))};
  }
};

float length(std::string_view text) { return static_cast<float>(text.size()); }

}  // namespace

TEST_CASE("texts are encoded in the templates of the method, as many phrases for every class") {
  temporary const file("texts.json");
  write_atomically(file.path, std::string_view(texts));
  auto const bank = read_bank(file.path, 4, counting_encoder{});
  CHECK(bank.vectors.phrases == 2);  // the bear has no more
  CHECK(bank.vectors.width == 2);
  CHECK(bank.names == std::vector<std::string>{"aquarium_fish", "bear"});
  CHECK(bank.vectors.local[0] == length("A photo of a aquarium fish, which has orange scales"));
  CHECK(bank.vectors.local[2] == length("A photo of a aquarium fish, which has fins"));
  CHECK(bank.vectors.local[4] == length("A photo of a brown bear, which has fur"));
  CHECK(bank.vectors.global[2] == length("A large mammal."));
  CHECK(read_bank(file.path, 1, counting_encoder{}).vectors.phrases == 1);
  CHECK(read_bank(file.path).vectors.width == hashed_encoder::dim);
}

TEST_CASE("a bank of vectors uses each as phrase and as description; names match with blanks and capitals") {
  temporary const file("vectors.safetensors");
  safetensors_writer writer;
  std::vector<float> const fish{1, 2, 3}, bear{4, 5, 6};
  writer.add("Aquarium Fish", {1, 3}, std::span<float const>(fish));
  writer.add("bear", {3}, std::span<float const>(bear));
  writer.write(file.path);
  auto const bank = read_bank(file.path);
  std::vector<std::string> const classes{"bear", "aquarium_fish"};
  auto const v = vectors_of(bank, classes);
  CHECK(v.phrases == 1);
  CHECK(v.local == std::vector<float>{4, 5, 6, 1, 2, 3});
  CHECK(v.global == v.local);
  auto const drawn = select_classes(v, std::vector<std::uint32_t>{1, 0});
  CHECK(drawn.global(0, 2) == 3);
  CHECK(drawn.local(1, 0) == 4);
  CHECK_THROWS_WITH_AS((void)select_classes(v, std::vector<std::uint32_t>{2}),
                       doctest::Contains("class 2 of an episode has no vectors"), error);
}

TEST_CASE("all classes without vectors are named in one error") {
  temporary const file("texts.json");
  write_atomically(file.path, std::string_view(texts));
  auto const bank = read_bank(file.path);
  std::vector<std::string> const classes{"cat", "bear", "dog"};
  CHECK_THROWS_WITH_AS((void)vectors_of(bank, classes), doctest::Contains("has no vectors for 2 classes: 'cat', 'dog'"), error);
}

TEST_CASE("vectors are centred by the reference classes and scaled to unit length") {
  class_vectors base{1, 2, {1, 0, 3, 0}, {0, 1, 0, 5}}, novel{1, 2, {2, 7, 8, 8}, {0, 3, 4, 6}};
  auto const centre = centre_of(base);
  CHECK(centre.local == std::vector<float>{2, 0});
  CHECK(centre.global == std::vector<float>{0, 3});
  transform(novel, {}, centre);
  CHECK(novel.local == std::vector<float>{0, 1, 0.6f, 0.8f});
  CHECK(novel.global == std::vector<float>{0, 0, 0.8f, 0.6f});
  transform(base, {false, false}, {});
  CHECK(base.local == std::vector<float>{1, 0, 3, 0});
}

TEST_CASE("what is no bank is refused with the form that is expected") {
  temporary const file("wrong.json");
  for (std::string_view const text : {"", "[]", R"({"classes": {"a": {"attributes": "red"}}})", R"({"classes": {"a": {}}})"}) {
    write_atomically(file.path, text);
    CHECK_THROWS_WITH_AS((void)read_bank(file.path), doctest::Contains("is no bank of texts"), error);
  }
  write_atomically(file.path, std::string_view(R"({"classes": {"a": {"attributes": [], "description": "x"}}})"));
  CHECK_THROWS_WITH_AS((void)read_bank(file.path), doctest::Contains("class 'a' has no attributes"), error);
  CHECK_THROWS_WITH_AS((void)read_bank("/no/such/bank.json"), doctest::Contains("cannot be read"), error);
}
