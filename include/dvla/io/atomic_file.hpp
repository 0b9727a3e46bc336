// Files that appear complete or not at all: written under a temporary name beside the target, flushed, then renamed.
#pragma once

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/io/mapped_file.hpp>

namespace dvla::inline DVLA_ABI {

/// A file being written. Until commit() the target keeps its old content; without commit() nothing is left behind.
class atomic_file {
 public:
  /// Creates the temporary file. Throws where the folder does not exist or cannot be written, and where the target is there and is
  /// no file: a rename would put a file in the place of a device.
  explicit atomic_file(std::filesystem::path target)
      : target_(replaceable(std::move(target))), temporary_(temporary_name(target_)), file_(::open(temporary_.c_str(), flags, 0666)) {
    if (file_.get() < 0) {
      int const number = errno;
      temporary_.clear();
      stop("its folder must exist and be writable", number);
    }
  }
  atomic_file(atomic_file&&) = delete;
  ~atomic_file() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  /// Adds bytes at the end. Throws where the system takes no more, as on a full disk.
  void append(std::span<std::byte const> bytes) {
    while (!bytes.empty()) {
      ::ssize_t const written = ::write(file_.get(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) stop("is there space left on the device?", errno);
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }
  void append(std::string_view text) { append(std::as_bytes(std::span(text))); }

  /// Flushes file and folder to the device and gives the file its name. Call once, last.
  void commit() {
    if (::fsync(file_.get()) != 0) stop("flushing it failed", errno);
    if (!file_.close()) stop("closing it failed", errno);
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) stop("renaming the finished temporary file failed", errno);
    temporary_.clear();
    detail::file_descriptor const folder(::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    // Some file systems cannot flush a folder and say EINVAL; the rename itself is done either way.
    if (folder.get() >= 0 && ::fsync(folder.get()) != 0 && errno != EINVAL) stop("flushing its folder failed", errno);
  }

 private:
  static constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;

  static std::filesystem::path folder_of(std::filesystem::path const& target) {
    return target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
  }

  static std::filesystem::path replaceable(std::filesystem::path target) {
    std::error_code unknown;
    auto const status = std::filesystem::status(target, unknown);
    bool const there = std::filesystem::status_known(status) && std::filesystem::exists(status);
    expect(!there || std::filesystem::is_regular_file(status), "cannot write ", target.string(),
           ": it is there and is no file; give another name");
    return target;
  }

  static std::filesystem::path temporary_name(std::filesystem::path const& target) {
    static std::atomic<unsigned> counter{0};
    return folder_of(target) / concat(".", target.filename().string().substr(0, 128), ".", ::getpid(), ".", ++counter, ".tmp");
  }

  [[noreturn]] void stop(std::string_view hint, int number) const {
    fail("cannot write ", target_.string(), ": ", detail::system_message(number), " (", hint, ")");
  }

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  detail::file_descriptor file_;
};

/// Replaces the file by these bytes, at once or not at all. Throws where the folder is missing or the device full.
inline void write_atomically(std::filesystem::path const& path, std::span<std::byte const> bytes) {
  atomic_file file(path);
  file.append(bytes);
  file.commit();
}

/// The same for text.
inline void write_atomically(std::filesystem::path const& path, std::string_view text) {
  write_atomically(path, std::as_bytes(std::span(text)));
}

}  // namespace dvla::inline DVLA_ABI
