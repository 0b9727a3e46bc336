// The attribute world: its choice of classes, its words, and its pictures.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <unistd.h>

#include <nlohmann/json.hpp>

#include <dvla/core/thread_pool.hpp>
#include <dvla/data/attribute_world.hpp>

namespace {

namespace aw = dvla::attribute_world;
namespace fs = std::filesystem;

std::string message_of(auto const& call) {
  try {
    call();
  } catch (dvla::error const& e) {
    return e.what();
  }
  return "";
}

bool contains(std::string const& text, char const* part) { return text.find(part) != std::string::npos; }

// A folder that is gone when the test ends.
struct scratch_folder {
  fs::path path;
  explicit scratch_folder(std::string const& name)
      : path(fs::temp_directory_path() / ("dvla_world_" + std::to_string(::getpid()) + "_" + name)) {
    fs::remove_all(path);
    fs::create_directories(path);
  }
  ~scratch_folder() { fs::remove_all(path); }
};

std::map<std::string, std::string> contents(fs::path const& root) {
  std::map<std::string, std::string> files;
  for (auto const& entry : fs::recursive_directory_iterator(root)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    files[fs::relative(entry.path(), root).string()] = {std::istreambuf_iterator<char>(file), {}};
  }
  return files;
}

}  // namespace

TEST_CASE("every look has its own number, and its words name its four attributes") {
  std::set<std::string> names;
  for (std::uint32_t i = 0; i < aw::look_count; ++i) {
    auto const what = aw::look_at(i);
    CHECK(aw::number_of(what) == i);
    names.insert(aw::describe(what).name);
  }
  CHECK(names.size() == 1440);
  auto const c = aw::describe({aw::shape_kind::star, 0, aw::texture_kind::striped, 1});
  CHECK(c.name == "large striped red star");
  CHECK(c.attributes == std::vector<std::string>{"star shaped", "red", "striped texture", "large"});
  CHECK(c.description == "The large striped red star is a large star shaped object, coloured red, with a striped texture.");
  CHECK(aw::folder_name(c) == "large_striped_red_star");
}

TEST_CASE("the splits share no combination, and base shows every value of every attribute") {
  for (std::uint64_t const seed : {1u, 2u, 77u}) {
    for (std::size_t base : {std::size_t{12}, std::size_t{240}}) {
      auto const w = aw::make_world({.base = base, .seed = seed});
      CHECK(w.base.size() == base);
      CHECK(w.val.size() == 40);
      CHECK(w.novel.size() == 80);
      std::set<std::uint32_t> looks, shapes, colors, textures, sizes;
      for (auto const* split : {&w.base, &w.val, &w.novel})
        for (auto const& c : *split) looks.insert(aw::number_of(c.what));
      CHECK(looks.size() == base + 120);
      for (auto const& c : w.base) {
        shapes.insert(static_cast<std::uint32_t>(c.what.shape));
        colors.insert(c.what.color);
        textures.insert(static_cast<std::uint32_t>(c.what.texture));
        sizes.insert(c.what.size);
      }
      CHECK(shapes.size() == aw::shape_names.size());
      CHECK(colors.size() == aw::color_names.size());
      CHECK(textures.size() == aw::texture_names.size());
      CHECK(sizes.size() == aw::size_names.size());
    }
  }
  CHECK(aw::make_world({.seed = 1}).novel[0].name == aw::make_world({.seed = 1}).novel[0].name);
  CHECK(aw::make_world({.seed = 1}).novel[0].name != aw::make_world({.seed = 2}).novel[0].name);
  CHECK(aw::make_world({.base = 1440, .val = 0, .novel = 0}).base.size() == 1440);
}

TEST_CASE("outlines stay within their reach and have a visible area") {
  for (std::size_t kind = 0; kind < aw::shape_names.size(); ++kind) {
    CAPTURE(aw::shape_names[kind]);
    float reach = 0;
    int covered = 0;
    for (int i = -200; i <= 200; ++i)
      for (int j = -200; j <= 200; ++j) {
        aw::point const p{static_cast<float>(i) / 100, static_cast<float>(j) / 100};
        if (!aw::inside_shape(static_cast<aw::shape_kind>(kind), p)) continue;
        reach = std::max(reach, std::hypot(p.x, p.y));
        ++covered;
      }
    CHECK(reach <= aw::outline_reach);
    CHECK(reach >= 0.85f);
    CHECK(covered * 1e-4 >= 0.9);  // of the circle's 2.5
    CHECK(covered * 1e-4 <= 2.7);
  }
}

TEST_CASE("textures differ from plain by a balanced second tone") {
  for (std::size_t kind = 0; kind < aw::texture_names.size(); ++kind) {
    CAPTURE(aw::texture_names[kind]);
    double tone = 0;
    for (int i = 0; i < 100; ++i)
      for (int j = 0; j < 100; ++j)
        tone += static_cast<double>(aw::texture_tone(static_cast<aw::texture_kind>(kind),
                                                     {static_cast<float>(i - 50) * 0.006f, static_cast<float>(j - 50) * 0.006f},
                                                     0.1f, 0.3f));
    if (kind == 0) CHECK(tone == 0);
    if (kind != 0) CHECK(std::abs(tone / 10000 - 0.4) <= 0.2);
  }
}

TEST_CASE("a picture is a function of look, seed, index and side") {
  auto const what = aw::look_at(123), other = aw::look_at(124);
  auto const picture = aw::render(what, 1, 5, 32);
  CHECK(picture == aw::render(what, 1, 5, 32));
  CHECK(!(picture == aw::render(what, 1, 6, 32)));
  CHECK(!(picture == aw::render(what, 2, 5, 32)));
  CHECK(!(picture == aw::render(other, 1, 5, 32)));
  for (std::size_t const side : {8u, 33u, 84u}) {
    auto const sized = aw::render(what, 1, 5, side);
    CHECK(sized.height == side);
    CHECK(sized.width == side);
    CHECK(sized.pixels.size() == side * side * 3);
  }
}

TEST_CASE("the object's colour reaches the picture") {
  // Mean light over many pictures, so that backgrounds and lamps average out: red against blue plain large circles.
  auto const mean_of = [](std::uint8_t color, std::size_t channel) {
    double sum = 0;
    for (std::uint64_t i = 0; i < 60; ++i) {
      auto const picture = aw::render({aw::shape_kind::circle, color, aw::texture_kind::plain, 1}, 4, i, 16);
      for (std::size_t k = channel; k < picture.pixels.size(); k += 3) sum += picture.pixels[k];
    }
    return sum / (60 * 16 * 16);
  };
  CHECK(mean_of(0, 0) > mean_of(5, 0) + 20);
  CHECK(mean_of(5, 2) > mean_of(0, 2) + 20);
}

TEST_CASE("the semantics are valid JSON with an entry for each class") {
  auto const w = aw::make_world({.base = 12, .val = 3, .novel = 5});
  auto const json = nlohmann::json::parse(aw::semantics_json(w));
  CHECK(json.at("generator") == "attribute world");
  REQUIRE(json.at("classes").size() == 20);
  for (auto const* split : {&w.base, &w.val, &w.novel})
    for (auto const& c : *split) {
      auto const& entry = json.at("classes").at(aw::folder_name(c));
      CHECK(entry.at("name") == c.name);
      CHECK(entry.at("attributes") == c.attributes);
      CHECK(entry.at("description") == c.description);
      CHECK(entry.at("intrinsic").at("local").size() == 4);
      CHECK(entry.at("intrinsic").at("global") == c.description);
      CHECK(entry.at("nuisance").at("local").size() >= 1);
      CHECK(entry.at("nuisance").at("global").is_string());
    }
}

TEST_CASE("a written world has the image-folder layout, the same for any number of threads, and is never mixed with another") {
  aw::options const wanted{.base = 12, .val = 2, .novel = 3, .per_class = 4, .side = 12, .seed = 9};
  auto const w = aw::make_world(wanted);
  scratch_folder const alone("alone"), together("together");
  dvla::thread_pool pool(3);
  aw::write_world(alone.path, w, wanted, nullptr);
  aw::write_world(together.path, w, wanted, &pool);
  auto const files = contents(alone.path);
  CHECK(files.size() == 17 * 4 + 1);
  CHECK(files == contents(together.path));
  CHECK(files.at("semantics.json") == aw::semantics_json(w));
  auto const path = alone.path / "novel" / aw::folder_name(w.novel[2]) / "003.png";
  CHECK(dvla::read_image(path) == aw::render(w.novel[2].what, 9, 3, 12));
  CHECK(contains(message_of([&] { aw::write_world(alone.path, w, wanted, nullptr); }), "base is there already; remove it"));
}

TEST_CASE("worlds that cannot be are refused") {
  CHECK(message_of([] { (void)aw::make_world({.base = 11}); }) ==
        "attribute world: 11 base classes cannot show all 12 shapes; ask for at least 12");
  CHECK(contains(message_of([] { (void)aw::make_world({.base = 1400}); }), "more than the 1440 combinations"));
  CHECK(
      contains(message_of([] { (void)aw::make_world({.val = static_cast<std::size_t>(-1)}); }), "more than the 1440 combinations"));
  CHECK(contains(message_of([] { (void)aw::render(aw::look_at(0), 1, 0, 7); }), "images of 7 pixels a side; give 8 to 4096"));
  scratch_folder const empty("empty");
  auto const w = aw::make_world({.base = 12});
  CHECK(contains(message_of([&] { aw::write_world(empty.path, w, {.per_class = 0}, nullptr); }), "give at least 1"));
  CHECK(contents(empty.path).empty());
}
