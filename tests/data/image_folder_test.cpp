// The order of classes and files, and what is said about folders that are not a data set.
#include <doctest/doctest.h>

#include <dvla/data/image_folder.hpp>

#include "fixture.hpp"

using namespace dvla_test;

namespace {

std::string open_error(std::filesystem::path const& root) {
  return message_of([&] { (void)dvla::open_image_folder(root); });
}

}  // namespace

TEST_CASE("classes and files come sorted by code point, images only, suffixes in any case") {
  scratch_folder folder;
  for (auto const* file : {"zebra/b.png", "zebra/a.JPG", "zebra/B.jpeg", "zebra/10.png", "zebra/9.png", "zebra/notes.txt",
                           "zebra/.hidden.png", "Ape/1.Png",
                           "\xc3\xa4"
                           "ffin/x.png",
                           ".cache/1.png", "readme.txt"})
    write_file(folder.path() / file, "x");
  std::filesystem::create_directories(folder.path() / "zebra" / "c.png");
  auto const found = dvla::open_image_folder(folder.path());
  CHECK(found.classes == std::vector<std::string>{"Ape", "zebra",
                                                  "\xc3\xa4"
                                                  "ffin"});
  std::vector<std::string> names;
  for (auto const& e : found.images_of(1)) {
    CHECK(e.label == 1);
    names.push_back(e.file.filename().string());
  }
  CHECK(names == std::vector<std::string>{"10.png", "9.png", "B.jpeg", "a.JPG", "b.png"});
  CHECK(found.images.size() == 7);
  CHECK(found.images_of(2).size() == 1);
  CHECK(found.images_of(2)[0].label == 2);
  CHECK(found.root == folder.path());
  CHECK(contains(message_of([&] { (void)found.images_of(3); }), "class 3 asked for, there are 3"));
}

TEST_CASE("folders that are no data set are refused by name") {
  scratch_folder folder;
  CHECK(contains(open_error(folder.path() / "none"), "does not exist"));
  CHECK(contains(open_error(folder.path()), "holds no class folders"));
  write_file(folder.path() / "1.png", "x");
  CHECK(contains(open_error(folder.path() / "1.png"), "a file where a folder"));
  CHECK(contains(open_error(folder.path()), "holds 1 images but no class folders"));
  write_file(folder.path() / "cat" / "1.png", "x");
  write_file(folder.path() / "dog" / "1.txt", "x");
  CHECK(contains(open_error(folder.path()), "class \"dog\" has no .png"));
  write_file(folder.path() / "dog" / "more" / "1.png", "x");
  CHECK(contains(open_error(folder.path()), "class folder \"dog\" holds folders"));
}

TEST_CASE("a split is opened by name, and a root that is itself a split is recognised") {
  scratch_folder folder;
  write_file(folder.path() / "set" / "base" / "cat" / "1.png", "x");
  write_file(folder.path() / "set" / "val" / "dog" / "1.png", "x");
  auto const root = folder.path() / "set";
  auto const error_of = [](std::filesystem::path const& path, std::string_view split) {
    return message_of([&] { (void)dvla::open_split(path, split); });
  };
  CHECK(dvla::open_split(root, "base").classes == std::vector<std::string>{"cat"});
  CHECK(dvla::open_split(root, "val").classes == std::vector<std::string>{"dog"});
  CHECK(contains(error_of(root, "novel"), "has no folder \"novel\" (it holds: base, val)"));
  CHECK(contains(error_of(root, "test"), "\"test\" is no split"));
  CHECK(contains(error_of(root / "base", "base"), "is itself a split"));
  CHECK(contains(error_of(root.string() + "/base/", "val"), "is itself a split"));
  CHECK(contains(error_of(root / "none", "val"), "does not exist"));
  CHECK(contains(open_error(root), "if it is a split"));
}
