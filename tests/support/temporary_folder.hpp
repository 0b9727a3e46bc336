// A folder for a test's files.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <dvla/core/error.hpp>

namespace dvla_test {

/// A new folder, removed at the end.
class temporary_folder {
 public:
  temporary_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "dvla_test_XXXXXX").string();
    dvla::expect(::mkdtemp(name.data()) != nullptr, "the test cannot make a folder");
    path_ = name;
  }
  temporary_folder(temporary_folder&&) = delete;
  ~temporary_folder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::filesystem::path const& path() const { return path_; }
  /// Makes a file in it.
  std::filesystem::path write(std::string const& name, std::string const& bytes) const {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace dvla_test
