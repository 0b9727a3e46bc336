// A small world of drawn objects with known attributes, for demos and tests: hundreds of classes such as "large striped
// red star", whose splits share attributes but no combination of them, so that words about an unseen class help.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/core/parallel.hpp>
#include <dvla/core/philox.hpp>
#include <dvla/data/attribute_world/look.hpp>
#include <dvla/data/attribute_world/render.hpp>
#include <dvla/data/decode.hpp>
#include <dvla/io/atomic_file.hpp>

namespace dvla::inline DVLA_ABI {
namespace attribute_world {

/// How large a world to make; the seed decides which combinations go to which split, and every picture.
struct options {
  std::size_t base = 240, val = 40, novel = 80;  // classes
  std::size_t per_class = 60;                    // images
  std::size_t side = 32;                         // of an image, in pixels
  std::uint64_t seed = 1;
};

/// A class in words: its name, its four attributes and a sentence.
struct world_class {
  std::string name;
  std::vector<std::string> attributes;
  std::string description;
  look what;
};

struct world {
  std::vector<world_class> base, val, novel;
};

/// The words for a look: name "large striped red star"; attributes "star shaped", "red", "striped texture", "large".
[[nodiscard]] inline world_class describe(look what) {
  std::string_view const shape = shape_names[static_cast<std::size_t>(what.shape)], color = color_names[what.color];
  std::string_view const texture = texture_names[static_cast<std::size_t>(what.texture)], size = size_names[what.size];
  std::string name = concat(size, " ", texture, " ", color, " ", shape);
  std::string sentence =
      concat("The ", name, " is a ", size, " ", shape, " shaped object, coloured ", color, ", with a ", texture, " texture.");
  return {std::move(name),
          {concat(shape, " shaped"), std::string(color), concat(texture, " texture"), std::string(size)},
          std::move(sentence),
          what};
}

/// The folder of the class: its name with underscores.
[[nodiscard]] inline std::string folder_name(world_class const& c) {
  std::string folder = c.name;
  std::replace(folder.begin(), folder.end(), ' ', '_');
  return folder;
}

/// Chooses the classes. No combination of attributes is in two splits, and every value of every attribute is in base.
/// Throws for fewer base classes than there are shapes, and for more classes than combinations.
[[nodiscard]] inline world make_world(options const& wanted) {
  constexpr std::size_t shapes = shape_names.size();
  expect(wanted.base >= shapes, "attribute world: ", wanted.base, " base classes cannot show all ", shapes,
         " shapes; ask for at least ", shapes);
  bool const enough =
      wanted.base <= look_count && wanted.val <= look_count - wanted.base && wanted.novel <= look_count - wanted.base - wanted.val;
  expect(enough, "attribute world: ", wanted.base, " base, ", wanted.val, " val and ", wanted.novel,
         " novel classes are more than the ", look_count, " combinations of attributes; ask for fewer");
  random_stream random(wanted.seed, draw::world, look_count, 0);
  std::vector<std::uint32_t> rest(look_count), chosen;
  for (std::uint32_t i = 0; i < look_count; ++i) rest[i] = i;
  shuffle(rest, random);

  // The first base classes run through all values of every attribute at once; the rest of the world is chance.
  for (std::uint32_t i = 0; i < shapes; ++i) {
    chosen.push_back(
        number_of({static_cast<shape_kind>(i), static_cast<std::uint8_t>(i % color_names.size()),
                   static_cast<texture_kind>(i % texture_names.size()), static_cast<std::uint8_t>(i % size_names.size())}));
    rest.erase(std::find(rest.begin(), rest.end(), chosen.back()));
  }
  chosen.insert(chosen.end(), rest.begin(), rest.end());

  world made;
  auto next = chosen.begin();
  for (auto const& [split, count] :
       {std::pair{&made.base, wanted.base}, std::pair{&made.val, wanted.val}, std::pair{&made.novel, wanted.novel}})
    for (std::size_t i = 0; i < count; ++i) split->push_back(describe(look_at(*next++)));
  return made;
}

/// What is known of the classes in words, as JSON: {"generator", "classes": {folder: {name, attributes, description,
/// intrinsic: {local, global}, nuisance: {local, global}}}}, the form that semantic banks are built from.
[[nodiscard]] inline std::string semantics_json(world const& w) {
  auto const list = [](std::vector<std::string> const& phrases) {
    std::string text;
    for (auto const& phrase : phrases) text += concat(text.empty() ? "[\"" : ", \"", phrase, "\"");
    return text + "]";
  };
  // No word of this world needs escaping.
  std::string const nuisance =
      "{\"local\": [\"cluttered background\", \"tinted light\", \"crossing lines\", \"small distracting objects\", "
      "\"partly covered by a band\", \"grainy picture\"], "
      "\"global\": \"The object lies turned anywhere in the picture, over a blotchy background with lines and small objects, under "
      "tinted light.\"}";
  std::string text = "{\n \"generator\": \"attribute world\",\n \"classes\": {";
  std::string_view separator = "\n";
  for (auto const* split : {&w.base, &w.val, &w.novel})
    for (world_class const& c : *split) {
      text += concat(separator, "  \"", folder_name(c), "\": {\n   \"name\": \"", c.name,
                     "\",\n   \"attributes\": ", list(c.attributes));
      text += concat(",\n   \"description\": \"", c.description, "\",\n   \"intrinsic\": {\"local\": ", list(c.attributes));
      text += concat(", \"global\": \"", c.description, "\"},\n   \"nuisance\": ", nuisance, "\n  }");
      separator = ",\n";
    }
  return text + "\n }\n}\n";
}

/// Renders the world into <root>/{base,val,novel}/<class>/NNN.png and <root>/semantics.json; the JSON comes last, so it
/// marks a complete world. The same files for any number of threads. Throws when a split's folder is there already.
inline void write_world(std::filesystem::path const& root, world const& w, options const& wanted, executor* pool) {
  struct job {
    std::filesystem::path folder;
    look what;
  };
  std::vector<job> jobs;
  for (auto const& [split, name] : {std::pair{&w.base, "base"}, std::pair{&w.val, "val"}, std::pair{&w.novel, "novel"}}) {
    expect(!std::filesystem::exists(root / name), "attribute world: ", (root / name).string(),
           " is there already; remove it or give another folder, so that no two worlds mix");
    for (world_class const& c : *split) jobs.push_back({root / name / folder_name(c), c.what});
  }
  expect(wanted.per_class >= 1, "attribute world: no images per class were asked for; give at least 1");
  std::size_t const digits = std::max<std::size_t>(3, std::to_string(wanted.per_class - 1).size());
  parallel_for(pool, jobs.size(), 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      std::error_code failed;
      std::filesystem::create_directories(jobs[i].folder, failed);
      if (failed) fail("attribute world: the folder ", jobs[i].folder.string(), " cannot be made (", failed.message(), ")");
      for (std::size_t n = 0; n < wanted.per_class; ++n) {
        std::string const number = std::to_string(n);
        write_png(jobs[i].folder / concat(std::string(digits - number.size(), '0'), number, ".png"),
                  render(jobs[i].what, wanted.seed, n, wanted.side));
      }
    }
  });
  write_atomically(root / "semantics.json", semantics_json(w));
}

}  // namespace attribute_world
}  // namespace dvla::inline DVLA_ABI
