// What lies in a folder.
#pragma once

#include <algorithm>
#include <filesystem>
#include <vector>

#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

/// The paths in a folder, sorted. Throws where it cannot be listed.
[[nodiscard]] inline std::vector<std::filesystem::path> files_of(std::filesystem::path const& folder) {
  std::vector<std::filesystem::path> out;
  try {
    for (auto const& entry : std::filesystem::directory_iterator(folder)) out.push_back(entry.path());
  } catch (std::filesystem::filesystem_error const& problem) {
    fail(folder.string(), ": the folder cannot be listed: ", problem.code().message(), "; check that it is there and readable");
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace dvla::inline DVLA_ABI
