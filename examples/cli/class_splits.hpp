// The classes of a data set.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <dvla/data/image_folder.hpp>

namespace cli {

/// Classes by split of a data set, or those of a folder of classes under no name.
[[nodiscard]] inline std::vector<std::pair<std::string, std::vector<std::string>>> splits_of(std::string const& root) {
  std::vector<std::pair<std::string, std::vector<std::string>>> out;
  for (char const* split : {"base", "val", "novel"})
    if (std::filesystem::is_directory(std::filesystem::path(root) / split))
      out.emplace_back(split, dvla::open_split(root, split).classes);
  if (out.empty()) out.emplace_back("", dvla::open_image_folder(root).classes);
  return out;
}

}  // namespace cli
