// A data set on disk: one folder a class, in it the images; splits base, val and novel beside one another.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

/// The images of a folder <root>/<class>/<file>, classes and files sorted by code point (the order of torchvision's
/// ImageFolder, on which the fixed test episodes rest). Nothing is decoded here.
struct image_folder {
  struct entry {
    std::filesystem::path file;
    std::uint32_t label;
  };

  std::filesystem::path root{};
  std::vector<std::string> classes{};
  std::vector<entry> images{};                ///< sorted by label, then by file name
  std::vector<std::size_t> first_of_class{};  ///< classes.size() + 1 positions in images

  /// The images of one class, in order.
  [[nodiscard]] std::span<entry const> images_of(std::size_t label) const {
    expect(label < classes.size(), "image_folder ", root.string(), ": class ", label, " asked for, there are ", classes.size());
    return std::span<entry const>(images).subspan(first_of_class[label], first_of_class[label + 1] - first_of_class[label]);
  }
};

namespace detail {

/// Whether a file name ends in .png, .jpg or .jpeg in any case.
inline bool has_image_suffix(std::filesystem::path const& file) {
  std::string suffix = file.extension().string();
  for (char& c : suffix)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return suffix == ".png" || suffix == ".jpg" || suffix == ".jpeg";
}

/// The names in a folder that are not hidden and satisfy the condition, sorted by code point (the order of UTF-8 bytes).
template <class Condition>
std::vector<std::string> sorted_names(std::filesystem::path const& folder, Condition wanted) {
  std::error_code failed;
  std::filesystem::directory_iterator it(folder, failed);
  std::vector<std::string> names;
  for (; !failed && it != std::filesystem::directory_iterator(); it.increment(failed)) {
    std::string name = it->path().filename().string();
    if (name[0] != '.' && wanted(*it)) names.push_back(std::move(name));
  }
  if (failed) fail(folder.string(), ": the folder cannot be read (", failed.message(), "); check its permissions");
  std::sort(names.begin(), names.end());
  return names;
}

inline bool is_folder(std::filesystem::directory_entry const& e) {
  std::error_code ignored;
  return e.is_directory(ignored);
}

inline bool is_image_file(std::filesystem::directory_entry const& e) {
  std::error_code ignored;
  return has_image_suffix(e.path()) && e.is_regular_file(ignored);
}

}  // namespace detail

/// Lists <root>/<class>/*.{png,jpg,jpeg} (suffix in any case; hidden names are skipped). Throws if the folder is missing, has
/// no class folders, or a class has no images.
[[nodiscard]] inline image_folder open_image_folder(std::filesystem::path const& root) {
  std::error_code ignored;
  auto const name = root.string();
  expect(std::filesystem::exists(root, ignored), name, ": the folder does not exist; check the path");
  expect(std::filesystem::is_directory(root, ignored), name, ": a file where a folder of class folders was expected");
  image_folder out;
  out.root = root;
  out.classes = detail::sorted_names(root, detail::is_folder);
  if (out.classes.empty()) {
    auto const loose = detail::sorted_names(root, detail::is_image_file).size();
    if (loose > 0)
      fail(name, ": holds ", loose,
           " images but no class folders; give the folder above, or sort the images into one folder a class");
    fail(name, ": holds no class folders; expected <folder>/<class>/<image>.png, .jpg or .jpeg");
  }
  out.first_of_class.push_back(0);
  for (std::size_t label = 0; label < out.classes.size(); ++label) {
    auto const folder = root / out.classes[label];
    for (auto const& file : detail::sorted_names(folder, detail::is_image_file))
      out.images.push_back({folder / file, static_cast<std::uint32_t>(label)});
    if (out.images.size() == out.first_of_class.back()) {
      if (!detail::sorted_names(folder, detail::is_folder).empty())
        fail(name, ": class folder \"", out.classes[label],
             "\" holds folders instead of images; if it is a split (base, val, novel), open that folder");
      fail(name, ": class \"", out.classes[label], "\" has no .png, .jpg or .jpeg images; remove the folder or add images");
    }
    out.first_of_class.push_back(out.images.size());
  }
  return out;
}

/// Opens <root>/<split>, the split being "base", "val" or "novel".
[[nodiscard]] inline image_folder open_split(std::filesystem::path const& root, std::string_view split) {
  expect(split == "base" || split == "val" || split == "novel", "open_split: \"", split, "\" is no split; give base, val or novel");
  std::error_code ignored;
  auto const name = root.string();
  expect(std::filesystem::is_directory(root, ignored), name, ": the data set's folder does not exist; check the path");
  auto const folder = root / split;
  if (std::filesystem::is_directory(folder, ignored)) return open_image_folder(folder);
  auto const own = (root.has_filename() ? root : root.parent_path()).filename().string();
  if (own == "base" || own == "val" || own == "novel")
    fail(name, ": is itself a split; give the folder above it, which holds base, val and novel");
  std::string found;
  for (auto const& other : detail::sorted_names(root, detail::is_folder))
    if (found.size() < 80) found += (found.empty() ? "" : ", ") + other;
  fail(name, ": has no folder \"", split, "\" (it holds: ", found.empty() ? "nothing" : found,
       "); expected the folders base, val and novel");
}

}  // namespace dvla::inline DVLA_ABI
