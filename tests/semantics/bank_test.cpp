// What a model gets of a bank, what it is transformed by, how banks are merged and looked over.
#include <doctest/doctest.h>

#include <ctime>
#include <limits>

#include <dvla/semantics/bank_check.hpp>
#include <dvla/semantics/bank_merge.hpp>
#include <dvla/semantics/bank_transform.hpp>

using namespace dvla;

namespace {

bank_block block(std::string folder, bank_role role, bank_level level, std::vector<float> rows, std::string support = {}) {
  std::vector<bank_phrase> phrases(rows.size() / 2, {"text", 0.5, "attribute"});
  return {std::move(folder), std::move(support), role, level, std::move(phrases), std::move(rows)};
}

/// A bear with two phrases, a fish with one and no whole, a dog of which only the name is known.
semantic_bank small_bank() {
  semantic_bank bank;
  bank.source = "bank";
  bank.width = 2;
  bank.classes = {{"brown_bear", "brown bear"}, {"fish", "fish"}, {"dog", "dog"}};
  bank.blocks = {block("brown_bear", bank_role::name, bank_level::global, {9, 9}),
                 block("brown_bear", bank_role::intrinsic, bank_level::local, {1, 2, 3, 4}),
                 block("brown_bear", bank_role::intrinsic, bank_level::global, {5, 6}),
                 block("brown_bear", bank_role::intrinsic, bank_level::global, {7, 7}, "bear/1.png"),
                 block("fish", bank_role::name, bank_level::global, {8, 8}),
                 block("fish", bank_role::intrinsic, bank_level::local, {1, 1}),
                 block("dog", bank_role::name, bank_level::global, {0, 3})};
  return bank;
}

bool says(std::vector<bank_finding> const& found, finding_kind kind, std::string_view text) {
  for (auto const& f : found)
    if (f.kind == kind && f.text.find(text) != std::string::npos) return true;
  return false;
}

}  // namespace

TEST_CASE("a model sees as many phrases of every class; the class-name template fills up and stands for what is missing") {
  auto const bank = small_bank();
  std::vector<std::string> const classes{"dog", "Brown bear", "fish"};
  auto const v = vectors_of(bank, classes);
  CHECK(v.phrases == 2);
  CHECK(v.width == 2);
  CHECK(v.local == std::vector<float>{0, 3, 0, 3, 1, 2, 3, 4, 1, 1, 8, 8});
  CHECK(v.global == std::vector<float>{0, 3, 5, 6, 8, 8});
  CHECK(vectors_of(bank, classes, 1).local == std::vector<float>{0, 3, 1, 2, 1, 1});
  auto const drawn = select_classes(v, std::vector<std::uint32_t>{1, 0});
  CHECK(drawn.global(0, 1) == 6);
  CHECK(drawn.local(3, 1) == 3);
  CHECK_THROWS_WITH_AS((void)select_classes(v, std::vector<std::uint32_t>{3}),
                       doctest::Contains("class 3 of an episode has no vectors"), error);
  CHECK_THROWS_WITH_AS((void)vectors_of(bank, classes, 0), doctest::Contains("0 phrases"), error);
}

TEST_CASE("all classes without vectors, of all splits, are named in one error") {
  auto const bank = small_bank();
  std::vector<std::string> const classes{"cat", "fish", "horse"};
  CHECK_THROWS_WITH_AS((void)vectors_of(bank, classes), doctest::Contains("has no vectors for 2 classes: 'cat', 'horse'"), error);
  std::vector<std::pair<std::string, std::vector<std::string>>> const splits{
      {"base", {"fish", "cat"}}, {"val", {"dog"}}, {"novel", {"owl", "fox"}}};
  CHECK_THROWS_WITH_AS(expect_classes(bank, splits), doctest::Contains("for 3 classes: base: 'cat'; novel: 'owl', 'fox'"), error);
}

TEST_CASE("NaN in a class is an error with its name, in another class it is not") {
  auto bank = small_bank();
  bank.blocks[2].rows[0] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH_AS((void)vectors_of(bank, std::vector<std::string>{"brown_bear"}),
                       doctest::Contains("class 'brown_bear' has a vector with NaN"), error);
  CHECK_NOTHROW((void)vectors_of(bank, std::vector<std::string>{"fish"}));
}

TEST_CASE("vectors of zeros are an error with their classes and levels, unless they are not among those that a model sees") {
  auto bank = small_bank();
  bank.blocks[1].rows = {1, 2, 0, 0};
  std::vector<std::string> const bear{"brown_bear"}, classes{"fish", "brown_bear", "dog"};
  CHECK_THROWS_WITH_AS((void)vectors_of(bank, bear), "bank has vectors of zeros for 1 class: 'brown_bear' (local); encode it again", error);
  CHECK_NOTHROW((void)vectors_of(bank, bear, 1));
  CHECK_NOTHROW((void)vectors_of(bank, std::vector<std::string>{"fish"}));
  bank.blocks[2].rows = {0, -0.0f};
  bank.blocks[6].rows = {0, 0};
  CHECK_THROWS_WITH_AS((void)vectors_of(bank, classes),
                       doctest::Contains("for 2 classes: 'brown_bear' (local and global), 'dog' (local and global); encode them again"),
                       error);
}

TEST_CASE("a bank's index finds what a look at every class and block does, the first of several") {
  auto bank = small_bank();
  bank.classes.push_back({"Brown bear", "x"});
  bank.classes.push_back({"BROWN_BEAR", "y"});
  bank.blocks.push_back(block("fish", bank_role::name, bank_level::global, {7, 7}));
  bank_index const index(bank);
  CHECK(index.class_of("Brown bear") == 3);  // its own name before that of another in plain letters
  CHECK(index.class_of("Brown_Bear") == 0);
  CHECK(index.class_of("bear") == std::nullopt);
  for (auto const& c : bank.classes)
    for (auto const role : {bank_role::name, bank_role::intrinsic, bank_role::nuisance})
      for (auto const level : {bank_level::local, bank_level::global})
        CHECK(index.find(c.folder, role, level) == bank.find(c.folder, role, level));
}

TEST_CASE("the time of a bank's vectors grows with its classes, not with their square") {
  semantic_bank bank;
  bank.source = "bank";
  bank.width = 2;
  std::vector<std::string> classes;
  for (int i = 0; i < 20000; ++i) {
    classes.push_back(concat("class_", i));
    bank.classes.push_back({concat("Class ", i), "name"});
    bank.blocks.push_back(block(bank.classes.back().folder, bank_role::intrinsic, bank_level::global, {1, static_cast<float>(i)}));
  }
  std::clock_t const begin = std::clock();
  auto const v = vectors_of(bank, classes);
  CHECK(v.global.back() == 19999);
  CHECK(missing_classes(bank, classes).empty());
  CHECK(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC < 5);  // a look at every class for each took fourteen
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
  CHECK_THROWS_WITH_AS(transform(base, {}, {{0}, {0}}), doctest::Contains("give a bank of the same encoder"), error);
}

TEST_CASE("banks are merged by class, role and level; clashes are refused or settled") {
  auto const all = small_bank();
  auto bear = all, rest = all;
  bear.classes.resize(1), bear.blocks.resize(4);
  rest.classes.erase(rest.classes.begin()), rest.blocks.erase(rest.blocks.begin(), rest.blocks.begin() + 4);
  std::vector<semantic_bank> const parts{rest, bear};
  auto const merged = merge_banks(parts);
  CHECK(merged.classes.size() == 3);
  CHECK(merged.blocks.size() == all.blocks.size());
  CHECK(vectors_of(merged, std::vector<std::string>{"brown_bear"}).global == std::vector<float>{5, 6});

  bear.blocks[2].rows = {50, 60};
  std::vector<semantic_bank> const clash{all, bear};
  CHECK_THROWS_WITH_AS((void)merge_banks(clash), doctest::Contains("1 class has vectors in more than one bank: 'brown_bear'"),
                       error);
  auto const global = [&](merge_clash how) {
    return vectors_of(merge_banks(clash, how), std::vector<std::string>{"brown_bear"}).global[0];
  };
  CHECK(global(merge_clash::first) == 5);
  CHECK(global(merge_clash::last) == 50);

  bear.encoder = "another";
  std::vector<semantic_bank> const encoders{all, bear};
  CHECK_THROWS_WITH_AS((void)merge_banks(encoders, merge_clash::last),
                       doctest::Contains("with an encoder that is not known; their vectors cannot be compared"), error);
  bear.width = 3;
  std::vector<semantic_bank> const widths{all, bear};
  CHECK_THROWS_WITH_AS((void)merge_banks(widths, merge_clash::last), doctest::Contains("vectors of width 3"), error);
}

TEST_CASE("a bank is centred by role and level and scaled on request") {
  auto bank = small_bank();
  normalise(bank, false, true);
  CHECK(bank.blocks[1].rows[0] == doctest::Approx(1 / std::sqrt(5.0)));
  CHECK(bank.about.at("unit") == true);
  bank = small_bank();
  normalise(bank, true, false);  // the mean of the names is (17/3, 20/3), that of the local rows (5/3, 7/3)
  CHECK(bank.blocks[0].rows[0] == doctest::Approx(9 - 17.0 / 3));
  CHECK(bank.blocks[5].rows[1] == doctest::Approx(1 - 7.0 / 3));
  CHECK(bank.blocks[2].rows == std::vector<float>{0, 0});  // the only one of its kind that is a class's
  CHECK(bank.blocks[3].rows == std::vector<float>{2, 1});
  bank.blocks[5].rows[0] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH_AS(normalise(bank, true, false), doctest::Contains("class 'fish' has a vector with NaN"), error);
}

TEST_CASE("what is remarkable about a bank is found") {
  auto bank = small_bank();
  auto found = check_bank(bank);
  CHECK(says(found, finding_kind::note, "3 classes, 8 vectors of width 2"));
  CHECK(says(found, finding_kind::warning, "local phrases: 1 classes with 0, 1 classes with 1, 1 classes with 2"));
  CHECK(says(found, finding_kind::warning, "not of unit length: 1.414 to 12.728"));
  bank.classes.push_back({"Brown bear", "x"});
  bank.classes.push_back({"cat", "cat"});
  bank.blocks.push_back(block("cat", bank_role::intrinsic, bank_level::global, {5, 6.1f}));
  bank.blocks.push_back(block("Brown bear", bank_role::nuisance, bank_level::global, {0, 0}));
  bank.blocks[5].rows[0] = std::numeric_limits<float>::infinity();
  found = check_bank(bank);
  CHECK(says(found, finding_kind::warning, "differ in capitals or '_' alone: 'brown_bear', 'Brown bear'"));
  CHECK(says(found, finding_kind::error, "without a vector of their own: 'Brown bear'"));
  CHECK(says(found, finding_kind::error, "NaN or infinite elements: 'fish'"));
  CHECK(says(found, finding_kind::error, "vectors of zeros: 'Brown bear'"));
  bank.blocks[1].rows = std::vector<float>(4, std::numeric_limits<float>::infinity());
  CHECK(says(check_bank(bank), finding_kind::error, "NaN or infinite elements: 'brown_bear', 'fish'"));
  CHECK(says(found, finding_kind::warning, "not centred"));
  CHECK(says(found, finding_kind::warning, "1 pairs of classes with nearly the same global vector: 'brown_bear' and 'cat' (1)"));
}
