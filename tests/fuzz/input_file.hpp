// A file for the readers that take a path, written anew for each input.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include <dvla/io/mapped_file.hpp>

#include "fuzz_target.hpp"
#include "support/temporary_folder.hpp"

namespace dvla_fuzz {

/// The folder of this process's files, which goes with it: in memory where it can be, since banks are flushed to the device when they
/// are written. TMPDIR decides where it is set.
inline std::filesystem::path const& input_folder() {
  bool const memory = std::getenv("TMPDIR") == nullptr && ::access("/dev/shm", W_OK) == 0;
  static dvla_test::temporary_folder const folder(memory ? "/dev/shm" : std::filesystem::temp_directory_path());
  return folder.path();
}

/// A file of that name. It stays open, and nothing may map it when it is written again.
class input_file {
 public:
  explicit input_file(std::string const& name)
      : path_(input_folder() / name), file_(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {}

  std::filesystem::path const& operator()(std::string_view bytes) const {
    bool const written = ::pwrite(file_.get(), bytes.data(), bytes.size(), 0) == static_cast<::ssize_t>(bytes.size()) &&
                         ::ftruncate(file_.get(), static_cast<::off_t>(bytes.size())) == 0;
    demand(written, "the machine can write a file");
    return path_;
  }

 private:
  std::filesystem::path path_;
  dvla::detail::file_descriptor file_;
};

}  // namespace dvla_fuzz
